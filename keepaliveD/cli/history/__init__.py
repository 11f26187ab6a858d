"""keepalivectl deaths and log: what the daemon has done and seen; deaths.py and changes.py are the commands."""
