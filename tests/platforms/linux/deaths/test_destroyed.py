"""Messages about sockets that were destroyed, as they are received."""

from __future__ import annotations

import errno
import socket
from typing import cast

import numpy as np
import pytest

from keepaliveD.platforms.linux.deaths import destroyed


class Failing:
    """A socket whose error is told at each try."""

    def recv_into(self, _: memoryview) -> int:
        raise OSError(errno.ECONNREFUSED, "Connection refused")


def test_an_error_that_stays_keeps_nobody() -> None:
    """The daemon reads once more before it ends, so it would never end."""
    assert len(destroyed._receive(cast(socket.socket, Failing()))) == 0


@pytest.mark.parametrize(
    ("usual", "last", "retransmits", "total"),
    [
        (0.2, 3.2, 4, 0.2 + 0.4 + 0.8 + 1.6 + 3.2),
        (0.25, 3.2, 4, 6.2),  # the round trip was shorter when the data was lost
        (0.2, 1.0, 4, 0.2 + 0.4 + 0.8 + 1 + 1),  # tcp_rto_max_ms
        (0.2, 120.0, 15, 0.2 * 1023 + 6 * 120),  # the usual 15 retransmissions: 924.6 s
        (1.5, 1.0, 2, 3 * 1.0),
        (0.2, 0.4, 1, 0.6),
    ],
)
def test_how_long_answers_were_waited_for_counts_timeouts_that_the_system_limits(
    usual: float, last: float, retransmits: int, total: float
) -> None:
    waited = destroyed.waited(np.array([usual]), np.array([last]), np.array([retransmits], np.uint8))
    assert waited[0] == pytest.approx(total)
