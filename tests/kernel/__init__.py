"""Against the real kernel: namespaces, a real firewall that forgets, and the real daemon."""
