"""HP-UX: tcp_keepalive_interval of /dev/tcp by ndd, in milliseconds.

How long a peer that does not answer is waited for is tcp_ip_abort_interval, which is that of every
retransmission; it is left alone.
Unverified: the range; what the kernel refuses is told when it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.commands import who
from keepaliveD.platforms.commands.ndd import Ndd
from keepaliveD.platforms.commands.settings import INT_MAX, Settings, within

IDLE = "tcp_keepalive_interval"  # milliseconds
MILLISECONDS = 1000  # in a second


class HPUX(Settings):
    """Sets it by ndd below `root`."""

    notes = (
        "keepalive.interval and keepalive.probes are not applied: the kernel ends a connection without answer after "
        "tcp_ip_abort_interval, which also limits retransmissions and is left alone",
        # Unverified: ndd(1M) says of some parameters that they "only affect newly opened streams", not of which
        "new keepalive settings may apply only to connections made from now on",
    )

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        super().__init__(Ndd(root / "usr/bin/ndd"), Roles(IDLE))

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot. Raises Unsupported, KernelError."""
        return {"boot": who.boot(self._root)}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The parameter that brings about this keepalive. Raises ConfigError."""
        within("idle", keepalive.idle, 1, INT_MAX // MILLISECONDS)
        return {IDLE: keepalive.idle * MILLISECONDS}
