"""HP-UX."""
