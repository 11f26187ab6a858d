"""keepalivectl metrics; metrics.py is the command."""
