"""FreeBSD and DragonFly: net.inet.tcp.keepidle and its kin, in milliseconds.

The kernel stores ticks and reads back whole milliseconds, floored (sysctl_msec_to_ticks,
sys/kern/kern_sysctl.c), so whole seconds read back as written at any kern.hz, others at most a tick short.
keepcnt is a plain integer that nobody checks, and idle + interval x count is computed in an int of ticks
(TP_KEEPIDLE + TP_MAXIDLE, sys/netinet/tcp_timer.c).
Unverified: that DragonFly, whose socket options became seconds in 5.8, still has milliseconds here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from keepaliveD.model.errors import Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.commands.run import Absent
from keepaliveD.platforms.commands.settings import INT_MAX, Settings, within, without_overflow
from keepaliveD.platforms.commands.sysctl import Sysctl

IDLE = "net.inet.tcp.keepidle"  # milliseconds
INTERVAL = "net.inet.tcp.keepintvl"  # milliseconds
PROBES = "net.inet.tcp.keepcnt"  # count
MILLISECONDS = 1000  # in a second

BOOT_ID = re.compile(r"Dump:0x([0-9a-f]{32})")
BOOT_TIME = re.compile(r"\{ sec = ([0-9]+), usec = [0-9]+ \}")


class FreeBSD(Settings):
    """Sets them by sysctl(8) below `root`."""

    notes: tuple[str, ...] = ("the keepalive settings apply to the whole system: jails have none of their own",)

    def __init__(self, root: Path = Path("/"), program: str = "sbin/sysctl") -> None:
        self._sysctl = Sysctl(root / program)
        super().__init__(self._sysctl, Roles(IDLE, INTERVAL, PROBES))

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot. Raises Unsupported, KernelError.

        kern.boot_id is random and the boot's own (FreeBSD 13). kern.boottime, which must do where that is
        missing, moves when the clock is stepped: a record from before is then taken for another boot's.
        """
        try:
            text, pattern = self._sysctl.text("kern.boot_id", "-nx"), BOOT_ID
        except Absent:
            text, pattern = self._sysctl.text("kern.boottime"), BOOT_TIME
        found = pattern.search(text)
        if found is None:
            raise Unsupported(f"{text!r}: does not identify this boot, so no record can be kept")
        return {"boot": found[1]}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The sysctls that bring about this keepalive. Raises ConfigError where the kernel cannot hold it."""
        within("idle", keepalive.idle, 1, INT_MAX // MILLISECONDS)
        within("interval", keepalive.interval, 1, INT_MAX // MILLISECONDS)
        within("probes", keepalive.probes, 1, INT_MAX)
        without_overflow(keepalive, MILLISECONDS)
        return {
            INTERVAL: keepalive.interval * MILLISECONDS,
            PROBES: keepalive.probes,
            IDLE: keepalive.idle * MILLISECONDS,
        }

    def ways_to_write(self, key: str, value: int) -> tuple[int, ...]:
        """A value that was read is floored: writing it may give one tick less, one millisecond more gives it back."""
        return (value,) if key == PROBES or value % MILLISECONDS == 0 else (value, value + 1)
