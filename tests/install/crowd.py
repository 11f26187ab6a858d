"""Runs in a machine: connections to oneself that are quiet, until it is killed.

usage: crowd.py ADDRESS FIRST-PORT PORTS CONNECTIONS-A-PORT [keepalive|keys]

With `keys`, every tenth has more TCP-MD5 keys than fit into a message of sock_diag.
"""

import signal
import socket
import struct
import sys

TCP_MD5SIG = 14  # include/uapi/linux/tcp.h


def add_keys(sock: socket.socket) -> None:
    """For peers that it does not have."""
    for number in range(640):
        peer = struct.pack("=H2xI120x", socket.AF_INET, socket.htonl(0x0A00_0000 + number))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, peer + struct.pack("=BBHi80s", 0, 0, 1, 0, b"k"))


address, first, ports, connections = sys.argv[1], *map(int, sys.argv[2:5])
held = []
for port in range(first, first + ports):
    listener = socket.create_server((address, port), backlog=connections)
    for number in range(connections):
        near = socket.create_connection((address, port))
        if sys.argv[5:] == ["keys"] and number % 10 == 0:
            add_keys(near)
        if sys.argv[5:] == ["keepalive"]:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        held += [near, listener.accept()[0]]
    held.append(listener)
print("connected", flush=True)
signal.pause()
