"""How connections end on Linux."""
