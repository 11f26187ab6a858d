"""AIX: tcp_keepidle, tcp_keepintvl and tcp_keepcnt by no(1), in half-seconds.

Up to AIX 5.1 no(1) checks nothing, so what an int cannot hold is refused here.
Unverified: the ranges of later versions; what they refuse is told when they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.aix.no import No
from keepaliveD.platforms.commands import who
from keepaliveD.platforms.commands.settings import INT_MAX, Settings, within, without_overflow

IDLE = "tcp_keepidle"  # half-seconds
INTERVAL = "tcp_keepintvl"  # half-seconds
PROBES = "tcp_keepcnt"  # count
HALVES = 2  # in a second


class AIX(Settings):
    """Sets them by no(1) below `root`."""

    notes = ("new keepalive settings apply only to connections made from now on",)

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        super().__init__(No(root / "usr/sbin/no"), Roles(IDLE, INTERVAL, PROBES))

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot. Raises Unsupported, KernelError."""
        return {"boot": who.boot(self._root)}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The options that bring about this keepalive. Raises ConfigError."""
        within("idle", keepalive.idle, 1, INT_MAX // HALVES)
        within("interval", keepalive.interval, 1, INT_MAX // HALVES)
        within("probes", keepalive.probes, 1, INT_MAX)
        without_overflow(keepalive, HALVES)
        return {INTERVAL: keepalive.interval * HALVES, PROBES: keepalive.probes, IDLE: keepalive.idle * HALVES}
