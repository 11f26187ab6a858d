"""The worker process, which touches what belongs to others, so that the daemon cannot hang; worker.py is all of it."""
