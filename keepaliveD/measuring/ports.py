"""The port that a connection leaves from: any one, so that it takes any of the devices that share the path.

Devices are chosen by the ports, too. The kernel chooses ports of the same parity one after the other (connect(2)), so
that all connections might take one device, or those of short silences another one than those of long silences.
Each port is taken once: the peer may still hold a forgotten connection from there, which a new one would free unseen.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
TRIES = 16  # ports, on a host on which many are in use; then the kernel chooses


class Ports:
    """The ports that connections to one peer have left from."""

    def __init__(self) -> None:
        self._used: set[int] = set()

    def take_any(self, sock: socket.socket) -> None:
        """Have a new socket leave from any port that is free and unused, and that no administrator has reserved."""
        with contextlib.suppress(OSError, ValueError):  # no such file: the kernel chooses
            low, high = map(int, RANGE.read_text(encoding="ascii").split())
            reserved = _ports(RESERVED.read_text(encoding="ascii"))
            for _ in range(TRIES):
                port = random.randint(low, high)  # noqa: S311  # no secret
                barred = port in self._used or any(port in each for each in reserved)
                if not barred and _taken(sock, port):
                    self._used.add(port)
                    return


def _ports(text: str) -> list[range]:
    """Return what such a file says: 8080,40000-40100."""
    ends = [each.partition("-") for each in text.strip().split(",") if each]
    return [range(int(first), int(last or first) + 1) for first, _, last in ends]


def _taken(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("", port))
    except OSError:
        return False
    return True
