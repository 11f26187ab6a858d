"""keepalivectl status; status.py is the command."""
