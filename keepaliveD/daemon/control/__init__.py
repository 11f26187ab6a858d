"""The control socket: what clients ask, and what they are answered; control.py is all of it."""
