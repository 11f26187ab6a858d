"""keepalivectl watch; watch.py is the command."""
