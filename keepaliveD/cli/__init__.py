"""The two programs: tcp-keepalived, the daemon, and keepalivectl, what a person types."""
