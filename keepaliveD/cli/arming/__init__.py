"""keepalivectl arm and disarm."""
