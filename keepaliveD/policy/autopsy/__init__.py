"""What ended connections, and what would have kept them alive; autopsy.py is all of it."""
