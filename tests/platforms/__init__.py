"""Adapters, held to recorded and hand-made bytes and trees of files."""
