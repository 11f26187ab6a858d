"""Stands for what a system cannot do, or its adapters cannot yet: sees no sockets, names no owners, arms nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from keepaliveD.model.actions import Counted
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Unsupported
from keepaliveD.model.results import Armed
from keepaliveD.model.sockets import Column, Sockets, SocketTable
from keepaliveD.platforms.base import Session, Watching
from keepaliveD.policy.connect import Plan

CANNOT_ARM = (
    "sockets of other programs can be armed only on Linux; "
    "switch keepalive on in the program, or shorten keepalive.idle"
)


class NoOwners:
    """Knows nobody."""

    def find(self, inodes: Sequence[int], _cgroups: Sequence[int]) -> list[Owner]:
        """Return nobody."""
        return [Owner()] * len(inodes)

    def held_by(self, pid: int) -> frozenset[int]:
        """Nothing is known of any process."""
        raise Unsupported(f"process {pid}: connections of a process are not known on this system; write HOST:PORT")


class NoArmer:
    """Has no way to another program's sockets."""

    def read(self, targets: Column, *, closing: bool) -> NoReturn:
        """Refuse."""
        del targets, closing
        raise Unsupported(CANNOT_ARM)

    def change(self, changes: Column, *, closing: bool) -> NoReturn:
        """Refuse."""
        del changes, closing
        raise Unsupported(CANNOT_ARM)

    def close(self) -> None:
        """Holds nothing."""


class NoAtConnect:
    """Has no way to new connections either."""

    def begin(self, *, engine: str, plan: Plan, survive: bool) -> NoReturn:
        """Refuse."""
        del engine, plan, survive
        raise Unsupported(CANNOT_ARM)

    def refresh(self) -> list[Counted]:
        """Nothing is ever armed."""
        return []

    def armed(self) -> dict[int, Armed]:
        """Nothing ever is."""
        return {}

    def forget(self) -> None:
        """Nothing to forget."""

    def pinned(self) -> str:
        """Nothing ever is."""
        return ""

    def unpin(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to close."""


class NoWatcher:
    """Sees nothing, and says that sockets may be missing."""

    engine_description = "sockets are not read"

    def scan(self, now: float) -> SocketTable:
        """An empty table."""
        return SocketTable(Sockets(), now, complete=False, engine_description=self.engine_description)

    def close(self) -> None:
        """Holds nothing."""


def open_blind(_: Watching) -> Session:
    """Open a session that sees nothing."""
    return Session(NoWatcher(), NoOwners(), NoArmer())
