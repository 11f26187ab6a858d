"""What a user without any privilege tries against the daemon, and that it holds."""
