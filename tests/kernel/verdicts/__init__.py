"""A differential test: what the daemon says of many connections, against what a real firewall did to them."""
