"""Keepalive settings, of a system and of a socket. Times are seconds."""

from __future__ import annotations

import enum
from typing import NamedTuple

MAX_IDLE = 32767  # seconds, TCP_KEEPIDLE and TCP_KEEPINTVL (MAX_TCP_KEEPIDLE, include/net/tcp.h)


MAX_PROBES = 127  # TCP_KEEPCNT (MAX_TCP_KEEPCNT)


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
        return f"idle {self.idle}s, interval {self.interval}s, probes {self.probes}"


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
