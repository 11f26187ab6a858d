"""Stands for what a system's adapters cannot do yet: sees no sockets, names no owners."""

from __future__ import annotations

from collections.abc import Iterable

from keepaliveD.model import Connection, Sockets, SocketTable


class NoOwners:
    """Knows nobody."""

    def name(self, connections: Iterable[Connection]) -> tuple[Connection, ...]:
        """The same connections."""
        return tuple(connections)


class NoWatcher:
    """Sees nothing, and says that sockets may be missing."""

    def snapshot(self, now: float) -> SocketTable:
        """An empty table."""
        return SocketTable(Sockets(), now, complete=False)

    def close(self) -> None:
        """Holds nothing."""


def watch_nothing(*, all_namespaces: bool, with_interfaces: bool) -> NoWatcher:
    """The factory of the watcher that sees nothing."""
    del all_namespaces, with_interfaces
    return NoWatcher()
