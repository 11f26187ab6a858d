"""Real programs over the real firewall."""
