"""The kernel's own counters of this network namespace: two lines for each group, names and numbers."""

from __future__ import annotations

import contextlib
from io import FileIO
from pathlib import Path

PROBES = "TCPKeepAlive"  # counted where a probe is sent (tcp_keepalive_timer, net/ipv4/tcp_timer.c)
OPEN_ENDS = "EstabResets"  # counted where an open connection becomes a closed one (tcp_set_state, net/ipv4/tcp.c)


def probes_sent(root: Path) -> int | None:
    """Return how many keepalive probes the kernel has sent since the namespace was made; None if it does not say."""
    try:
        return _number((root / "proc/thread-self/net/netstat").read_bytes(), "TcpExt:", PROBES)
    except OSError:
        return None


class OpenEnds:
    """Counts connections that ended while they were open, in the network namespace of the thread that makes this."""

    def __init__(self, root: Path) -> None:
        """Open the kernel's counters, if they are there."""
        self._file: FileIO | None = None
        with contextlib.suppress(OSError):
            self._file = FileIO(root / "proc/thread-self/net/snmp")  # belongs to this namespace as long as it is open

    def count(self) -> int | None:
        """Return how many there were since the namespace was made; None if the kernel does not say."""
        if self._file is None:
            return None
        try:
            self._file.seek(0)
            return _number(self._file.readall(), "Tcp:", OPEN_ENDS)
        except OSError:
            return None

    def close(self) -> None:
        """Close the kernel's counters."""
        if self._file is not None:
            self._file.close()


def _number(counters: bytes, group: str, name: str) -> int | None:
    try:
        lines = counters.decode("ascii").splitlines()
        names, numbers = (line.split() for line in lines if line.startswith(group))
        return int(numbers[names.index(name)])
    except (ValueError, IndexError):
        return None
