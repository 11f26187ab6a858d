"""Find who holds a socket."""
