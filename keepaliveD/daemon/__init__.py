"""The daemon: the event loop, its worker process, and what they carry out."""
