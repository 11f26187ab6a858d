"""The kernel's own counters of this network namespace: two lines for each group, names and numbers."""

from __future__ import annotations

from pathlib import Path

GROUP = "TcpExt:"
PROBES = "TCPKeepAlive"  # counted where a probe is sent (tcp_keepalive_timer, net/ipv4/tcp_timer.c)


def probes_sent(root: Path) -> int | None:
    """Return how many keepalive probes the kernel has sent since the namespace was made; None if it does not say."""
    try:
        text = (root / "proc/thread-self/net/netstat").read_text(encoding="ascii")
        names, numbers = (line.split() for line in text.splitlines() if line.startswith(GROUP))
        return int(numbers[names.index(PROBES)])
    except (OSError, ValueError, IndexError):
        return None
