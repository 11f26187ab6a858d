"""Find another daemon that sets the same settings from a state directory of its own, which no lock here shows.

Each daemon would record the other's values as found, so a setting can be left behind when both have stopped.
An abstract socket (unix(7)) has its name in a network namespace, as the settings do, and ends with its process.
Anybody may take that name: a reason to warn, not to refuse.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from keepaliveD.daemon.control import passed
from keepaliveD.daemon.control.credentials import credentials

NAME = "\0tcp-keepalived"
QUEUE = 128  # daemons that may ask who is here while this one runs: they are told by the kernel alone


@contextlib.contextmanager
def showing() -> Iterator[str]:
    """Show for this block that a daemon sets the settings of this network namespace; yield another one that does."""
    with contextlib.ExitStack() as stack:
        yield _show(stack)


def _show(stack: contextlib.ExitStack) -> str:
    try:
        shown = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stack.callback(passed.close, shown)
        passed.keep_away(shown)
        shown.bind(NAME)
        shown.listen(QUEUE)
    except OSError as error:  # as where a sandbox allows no such sockets
        return _who() if error.errno == errno.EADDRINUSE else ""
    return ""


def _who() -> str:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stack.callback(passed.close, client)
        passed.keep_away(client)
        client.setblocking(False)
        client.connect(NAME)
        daemon = credentials(client)
        if daemon.process:
            return f"process {daemon.process} of user {daemon.user}"
    return "an unknown process"
