"""Messages about sockets that were destroyed, as they are received."""

from __future__ import annotations

import errno
import socket
from typing import cast

from keepaliveD.platforms.linux.deaths import destroyed


class Failing:
    """A socket whose error is told at each try."""

    def recv_into(self, _: memoryview) -> int:
        raise OSError(errno.ECONNREFUSED, "Connection refused")


def test_an_error_that_stays_keeps_nobody() -> None:
    """The daemon reads once more before it ends, so it would never end."""
    assert len(destroyed._receive(cast(socket.socket, Failing()))) == 0
