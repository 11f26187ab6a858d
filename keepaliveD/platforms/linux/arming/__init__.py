"""Set keepalive in other programs' sockets."""
