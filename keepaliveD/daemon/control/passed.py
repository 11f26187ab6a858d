"""Keep away, and close in a moment, the descriptors that others pass with messages to a Unix socket.

A descriptor comes with its message, read or not, and is closed with it. That of a TCP socket with SO_LINGER may wait
for its peer then, for as long as its owner wishes.
"""

from __future__ import annotations

import contextlib
import socket

from keepaliveD.daemon.signals import within_a_moment

SO_PASSRIGHTS = 83  # include/uapi/asm-generic/socket.h, Linux 6.16


def keep_away(sock: socket.socket) -> None:
    """Have the kernel refuse descriptors for this socket, and for those that it accepts, where it can."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)


def close(sock: socket.socket) -> None:
    """Close it, and the descriptors that have come with what nobody has read."""
    with within_a_moment():
        sock.close()
