"""What to set in the sockets of other programs, and by which rules; arming.py is all of it."""
