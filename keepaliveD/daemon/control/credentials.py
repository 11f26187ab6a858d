"""Who is at the other end of a connection by a Unix socket: the kernel vouches for it (unix(7))."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

UCRED = struct.Struct("3i")  # struct ucred
SO_PEERGROUPS = 59  # asm-generic/socket.h
MOST = 1024  # octets that Python takes of an option: 256 groups


class Credentials(NamedTuple):
    """A process with its user and group, as they were at connect(2) or listen(2); 0 is one of another PID namespace."""

    process: int
    user: int
    group: int


def credentials(connection: socket.socket) -> Credentials:
    """Return who is at the other end. Raises OSError."""
    return Credentials._make(UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)))


def groups(connection: socket.socket) -> tuple[int, ...]:
    """Return the other groups of who is at the other end; none where they are very many, or cannot be told."""
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST)
    except OSError:
        return ()
    return struct.unpack(f"{len(octets) // 4}I", octets)
