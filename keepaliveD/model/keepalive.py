"""Keepalive settings, of a system and of a socket. Times are seconds."""

from __future__ import annotations

import enum
from typing import NamedTuple

from keepaliveD.model.duration import exact

MAX_IDLE = 32767  # seconds, TCP_KEEPIDLE and TCP_KEEPINTVL (MAX_TCP_KEEPIDLE, include/net/tcp.h)
MAX_PROBES = 127  # TCP_KEEPCNT (MAX_TCP_KEEPCNT)
TIMER_SLACK = 8 / 63  # a timer may fire later by this part of its length: of a level's first bucket, its width


class Shown(enum.Enum):
    """What sock_diag shows of a socket's keepalive; another timer hides that of keepalive."""

    OFF = "off"
    ON = "on"
    HIDDEN = "hidden"


class Keepalive(NamedTuple):
    """Keepalive settings: probe after `idle` seconds, then every `interval`, `probes` times."""

    idle: int
    interval: int
    probes: int

    def __str__(self) -> str:
        return f"idle {exact(self.idle)}, interval {exact(self.interval)}, probes {self.probes}"


class SocketKeepalive(NamedTuple):
    """Keepalive of one socket: whether it is on, and the times that hold when it is."""

    on: bool
    times: Keepalive

    def __str__(self) -> str:
        return str(self.times) if self.on else "off"


class Own(enum.IntFlag):
    """Some of the three keepalive settings: of a socket, those that it has of its own, or takes from its namespace."""

    IDLE = 1
    INTERVAL = 2
    PROBES = 4
    UNTOLD = 8  # which of them is not known: of records in an earlier format


ALL = Own.IDLE | Own.INTERVAL | Own.PROBES
NONE = Own(0)
FIELDS = (Own.IDLE, Own.INTERVAL, Own.PROBES)  # in the order of Keepalive


class Found(NamedTuple):
    """What stands in a socket.

    Those of its times that are `inherited` follow its network namespace, whose values are `system`;
    None where these cannot be read, and then nothing is known to be inherited.
    `user_timeout` is its TCP_USER_TIMEOUT in milliseconds, 0 for none. Of its probes, so many are `unanswered` yet.
    """

    stands: SocketKeepalive
    inherited: Own
    system: Keepalive | None
    user_timeout: int = 0
    unanswered: int = 0
