"""macOS: FreeBSD's names and milliseconds, kept in milliseconds (TCP_RETRANSHZ, bsd/netinet/tcp_timer.h of xnu).

keepcnt is as unchecked as on FreeBSD (bsd/netinet/tcp_timer.c).
Unverified: sysctl(8) itself, which is FreeBSD's here too, was read there and not on a Mac.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keepaliveD.platforms.freebsd.settings import FreeBSD


class MacOS(FreeBSD):
    """Sets them by sysctl(8) below `root`."""

    notes = ()

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root, "usr/sbin/sysctl")

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot, which has an id. Raises Unsupported, KernelError."""
        return {"boot": self._sysctl.text("kern.bootsessionuuid")}

    def ways_to_write(self, key: str, value: int) -> tuple[int, ...]:
        """A millisecond is the kernel's own unit here, so nothing is rounded."""
        del key
        return (value,)
