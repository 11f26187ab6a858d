"""Adapters for systems that are not supported: no sockets, no owners, no arming."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NoReturn

from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Refusal, Unsupported
from keepaliveD.model.reports import Counted
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Column, Sockets, SocketTable
from keepaliveD.platforms.base import Session
from keepaliveD.policy.arming.connect import ConnectPlan

CANNOT_ARM = (
    "sockets of other programs can be armed only on Linux; "
    "switch keepalive on in the program, or shorten keepalive.idle"
)


class NoOwners:
    """Finds no owner."""

    def find(self, inodes: Sequence[int], _cgroups: Sequence[int]) -> list[Owner]:
        """Return nobody."""
        return [Owner()] * len(inodes)

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        """Refuse."""
        why = "connections of a process are not known on this system; write HOST:PORT"
        return {pid: Unsupported(f"process {pid}: {why}") for pid in pids}


class NoArmer:
    """Refuses to touch sockets of other programs."""

    by_cookie = False

    def read(self, targets: Column, *, closing: bool) -> NoReturn:
        """Refuse."""
        del targets, closing
        raise Unsupported(CANNOT_ARM)

    def change(self, changes: Column, *, closing: bool) -> NoReturn:
        """Refuse."""
        del changes, closing
        raise Unsupported(CANNOT_ARM)

    def close(self) -> None:
        """Do nothing."""


class NoAtConnect:
    """Refuses to arm at connect."""

    def begin(self, *, engine: str, plan: ConnectPlan, survive: bool) -> NoReturn:
        """Refuse."""
        del engine, plan, survive
        raise Unsupported(CANNOT_ARM)

    def tend(self) -> None:
        """Do nothing, as nothing is pinned."""

    def refresh(self) -> list[Counted]:
        """Return no counts, as nothing is armed."""
        return []

    def armed(self) -> dict[int, Armed]:
        """Return no sockets, as none is armed."""
        return {}

    def shared(self) -> bool:
        """Return True: no daemon arms at connect."""
        return True

    def forget(self) -> None:
        """Do nothing."""

    def pinned(self) -> str:
        """Return no pin, as there is none."""
        return ""

    def unpin(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class NoWatcher:
    """Scans no sockets, and reports that sockets are missing."""

    engine_description = "sockets are not read"

    def scan(self, now: float) -> SocketTable:
        """Return an empty, incomplete table."""
        return SocketTable(Sockets(), now, complete=False, engine_description=self.engine_description)

    def close(self) -> None:
        """Do nothing."""


def open_blind(_: Watching) -> Session:
    """Open a session without sockets, owners and arming."""
    return Session(NoWatcher(), NoOwners(), NoArmer())
