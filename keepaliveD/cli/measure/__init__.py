"""keepalivectl measure; measure.py is the command."""
