"""Solaris 10 by ndd; Solaris 11 and illumos by ipadm, or by ndd where there is no ipadm.

There is no probe count: a peer that does not answer is given up once nothing was heard for the interval and
the abort interval together, and meanwhile probes are repeated as segments are, at growing distances
(tcp_keepalive_timer, usr/src/uts/common/inet/tcp/tcp_timers.c of illumos).
Connections copy the values when they are made, accepted ones from their listener
(tcp_init_values, usr/src/uts/common/inet/tcp/tcp.c of illumos).
Unverified: that Oracle's kernels do so too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.commands import who
from keepaliveD.platforms.commands.ndd import Ndd
from keepaliveD.platforms.commands.settings import Settings, Store, within
from keepaliveD.platforms.solaris.ipadm import Ipadm

IDLE = "keepalive_interval"  # milliseconds
ABORT = "keepalive_abort_interval"  # milliseconds, 0 for ever
MILLISECONDS = 1000  # in a second

NDD, IPADM = "tcp_", "_"  # what the two programs put before the names
TEN_DAYS = 864_000_000  # milliseconds
RANGES = {IDLE: (10_000, TEN_DAYS), ABORT: (0, 2**32 - 1)}  # tcp(7P); later kernels than Solaris 10 are asked


class Solaris(Settings):
    """Sets them below `root`. In a zone with an IP stack of its own they are that zone's."""

    notes = (
        "the system has no probe count: keepalive.interval x keepalive.probes without an answer ends a connection",
        "new keepalive settings apply only to sockets opened from now on, and to what those accept: "
        "restart servers that were listening before",
    )

    def __init__(self, root: Path = Path("/"), *, with_ipadm: bool = True) -> None:
        self._root = root
        ipadm = root / "usr/sbin/ipadm"
        self._ipadm = Ipadm(ipadm) if with_ipadm and ipadm.exists() else None
        store: Store = self._ipadm or Ndd(root / "usr/sbin/ndd")
        prefix = IPADM if self._ipadm else NDD
        self._idle, self._abort = f"{prefix}{IDLE}", f"{prefix}{ABORT}"
        super().__init__(store, Roles(self._idle, probes=self._abort))

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot of the system or zone. Raises Unsupported, KernelError."""
        return {"boot": who.boot(self._root)}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The parameters that bring about this keepalive.

        Raises ConfigError, NotPermitted, Unsupported, KernelError.
        """
        lowest, highest = self._limits(self._idle, IDLE)
        within("idle", keepalive.idle, -(-lowest // MILLISECONDS), highest // MILLISECONDS)
        lowest, highest = self._limits(self._abort, ABORT)
        abort = keepalive.interval * keepalive.probes
        within("interval x keepalive.probes", abort, max(1, -(-lowest // MILLISECONDS)), highest // MILLISECONDS)
        return {self._abort: abort * MILLISECONDS, self._idle: keepalive.idle * MILLISECONDS}

    def _limits(self, key: str, meaning: str) -> tuple[int, int]:
        """The kernel's own, which differ by version, or those of Solaris 10."""
        return self._ipadm.limits(key) if self._ipadm else RANGES[meaning]
