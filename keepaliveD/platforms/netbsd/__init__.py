"""NetBSD."""
