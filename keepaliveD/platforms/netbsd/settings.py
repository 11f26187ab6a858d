"""NetBSD: net.inet.tcp.keepidle and its kin, in ticks of which net.inet.tcp.slowhz make a second.

The kernel checks nothing, and copies the values into connections when they are made
(sysctl_tcp_keep and tcp_tcpcb_template, sys/netinet/tcp_usrreq.c and tcp_subr.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keepaliveD.model.errors import KernelError
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.commands.settings import INT_MAX, Settings, within, without_overflow
from keepaliveD.platforms.commands.sysctl import Sysctl

IDLE = "net.inet.tcp.keepidle"  # ticks
INTERVAL = "net.inet.tcp.keepintvl"  # ticks
PROBES = "net.inet.tcp.keepcnt"  # count
SLOWHZ = "net.inet.tcp.slowhz"  # ticks per second


class NetBSD(Settings):
    """Sets them by sysctl(8) below `root`."""

    notes = ("new keepalive settings apply only to connections made from now on",)

    def __init__(self, root: Path = Path("/")) -> None:
        self._sysctl = Sysctl(root / "sbin/sysctl")
        super().__init__(self._sysctl, Roles(IDLE, INTERVAL, PROBES))

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot. Raises Unsupported, KernelError.

        Its time moves when the clock is stepped: a record from before is then taken for another boot's.
        """
        return {"boot": str(self._sysctl.read("kern.boottime"))}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The sysctls that bring about this keepalive. Raises ConfigError, NotPermitted, Unsupported, KernelError."""
        ticks = self._sysctl.read(SLOWHZ)
        if ticks < 1:
            raise KernelError(f"{SLOWHZ}: is {ticks}, so seconds cannot be converted to the kernel's ticks")
        within("idle", keepalive.idle, 1, INT_MAX // ticks)
        within("interval", keepalive.interval, 1, INT_MAX // ticks)
        within("probes", keepalive.probes, 1, INT_MAX)
        without_overflow(keepalive, ticks)
        return {
            INTERVAL: keepalive.interval * ticks,
            PROBES: keepalive.probes,
            IDLE: keepalive.idle * ticks,
        }
