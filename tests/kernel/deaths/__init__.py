"""How connections end, and what is seen of it."""
