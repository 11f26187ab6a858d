"""Systems of which psutil knows the connections, and nothing that moves with them: OpenBSD, NetBSD, AIX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keepaliveD.model.errors import KernelError, NotPermitted, Unsupported
from keepaliveD.platforms.listing.endpoints import end
from keepaliveD.platforms.listing.rows import ListedSocket, tcp_state


class KnownToPsutil:
    """Lists the connections that psutil knows."""

    limits = (
        "no program shows how long a connection has been idle, or when data passes: the verdict on connections is "
        "unknown, and they are only counted",
    )

    def read(self, _now: float) -> Sequence[ListedSocket]:
        """Return all connections. Raises Unsupported, NotPermitted, KernelError."""
        try:
            import psutil
        except (ImportError, NotImplementedError) as error:
            raise Unsupported(f"listing connections requires psutil: {error}; install py-psutil") from error
        try:
            return _rows(psutil.net_connections("tcp"))
        except psutil.AccessDenied as error:
            raise NotPermitted("connections cannot be listed: permission denied; run as root") from error
        except (psutil.Error, OSError, NotImplementedError, ValueError) as error:
            raise KernelError(f"connections cannot be listed: {error}") from error


def _rows(connections: Iterable[Any]) -> list[ListedSocket]:
    """Yield sockets with both ends, each once: psutil lists a socket for each process that has it open."""
    rows = {}
    for one in connections:
        state = tcp_state(one.status)
        local, remote = (end(each[0], str(each[1])) if each else None for each in (one.laddr, one.raddr))
        if state and local and remote:
            rows[local, remote] = ListedSocket(local, remote, state)
    return list(rows.values())
