"""Find another daemon that sets the same settings from a state directory of its own, which no lock here shows.

Each daemon would record the other's values as found, so a setting can be left behind when both have stopped.
An abstract socket (unix(7)) has its name in a network namespace, as the settings do, and ends with its process.
Anybody may take that name: a reason to warn, not to refuse.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

NAME = "\0tcp-keepalived"
QUEUE = 128  # daemons that may ask who is here while this one runs: they are told by the kernel alone
CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group, as they were at listen(2)


@contextlib.contextmanager
def showing() -> Iterator[str]:
    """Show for this block that a daemon sets the settings of this network namespace; yield another one that does."""
    with contextlib.ExitStack() as stack:
        yield _show(stack)


def _show(stack: contextlib.ExitStack) -> str:
    try:
        shown = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        shown.bind(NAME)
        shown.listen(QUEUE)
    except OSError as error:  # as where a sandbox allows no such sockets
        return _who() if error.errno == errno.EADDRINUSE else ""
    return ""


def _who() -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.connect(NAME)
        octets = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        process, user, _ = CREDENTIALS.unpack(octets)
        if process:  # else it is in another PID namespace
            return f"process {process} of user {user}"
    return "an unknown process"
