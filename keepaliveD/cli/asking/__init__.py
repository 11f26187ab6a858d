"""The running daemon, as a command finds it and asks it."""
