"""keepalivectl why; why.py is the command."""
