"""Sees how connections end: by BPF, and by the ICMP errors that arrive."""
