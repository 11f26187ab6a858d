"""Read every TCP socket of the host."""
