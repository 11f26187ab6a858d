"""OpenBSD: net.inet.tcp.keepidle and keepintvl, in seconds, or before in 1/slowhz seconds.

Where net.inet.tcp.slowhz exists, the unit is its inverse (TCPCTL_SLOWHZ and PR_SLOWHZ,
sys/netinet/tcp_usrreq.c 1.211 of 2022); later kernels have no slowhz and count seconds (tcp_keepidle_sec, same file).
The bounds are the same in seconds. The number of probes is a constant, TCPTV_KEEPCNT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.commands.run import Absent
from keepaliveD.platforms.commands.settings import Settings, within
from keepaliveD.platforms.commands.sysctl import Sysctl

IDLE = "net.inet.tcp.keepidle"  # 1/slowhz seconds, or seconds
INTERVAL = "net.inet.tcp.keepintvl"  # the same
SLOWHZ = "net.inet.tcp.slowhz"

PROBES = 8  # TCPTV_KEEPCNT, sys/netinet/tcp_timer.h
LONGEST_IDLE = 36_000  # seconds: 5 times the default (tcpctl_vars, sys/netinet/tcp_usrreq.c)
LONGEST_INTERVAL = 225  # seconds: 3 times the default


class OpenBSD(Settings):
    """Sets them by sysctl(8) below `root`."""

    notes = (f"keepalive.probes is not applied: the kernel always sends {PROBES}",)

    def __init__(self, root: Path = Path("/")) -> None:
        self._sysctl = Sysctl(root / "sbin/sysctl")
        super().__init__(self._sysctl, Roles(IDLE, INTERVAL))

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot. Raises Unsupported, KernelError.

        Its time moves when the clock is stepped: a record from before is then taken for another boot's.
        """
        return {"boot": str(self._sysctl.read("kern.boottime"))}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The sysctls that bring about this keepalive. Raises ConfigError, NotPermitted, Unsupported, KernelError."""
        within("idle", keepalive.idle, 1, LONGEST_IDLE)
        within("interval", keepalive.interval, 1, LONGEST_INTERVAL)
        units = self._units()
        return {INTERVAL: keepalive.interval * units, IDLE: keepalive.idle * units}

    def _units(self) -> int:
        """How many of the kernel's units make a second; any other failure than absence must not mean one."""
        try:
            return self._sysctl.read(SLOWHZ)
        except Absent:
            return 1
