"""Who is at the other end of a connection by a Unix socket: the kernel vouches for it (unix(7))."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

UCRED = struct.Struct("3i")  # struct ucred


class Credentials(NamedTuple):
    """A process with its user and group, as they were at connect(2) or listen(2); 0 is one of another PID namespace."""

    process: int
    user: int
    group: int


def credentials(connection: socket.socket) -> Credentials:
    """Return who is at the other end. Raises OSError."""
    return Credentials._make(UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)))
