"""The daemon: what it does for as long as it runs."""
