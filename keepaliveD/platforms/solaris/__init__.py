"""Solaris and illumos."""
