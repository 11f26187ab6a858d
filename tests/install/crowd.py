"""Runs in a machine: connections to oneself that are quiet, until it is killed.

usage: crowd.py ADDRESS FIRST-PORT PORTS CONNECTIONS-A-PORT [KEEPALIVE]
"""

import signal
import socket
import sys

address, first, ports, connections = sys.argv[1], *map(int, sys.argv[2:5])
held = []
for port in range(first, first + ports):
    listener = socket.create_server((address, port), backlog=connections)
    for _ in range(connections):
        near = socket.create_connection((address, port))
        if sys.argv[5:]:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        held += [near, listener.accept()[0]]
    held.append(listener)
print("connected", flush=True)
signal.pause()
