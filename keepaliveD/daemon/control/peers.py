"""The clients of the control socket, and whose turn it is.

Root comes first, then whoever may ask in any case, then everybody else. Among equals each user has a turn, however
many clients he has: who was served longest ago comes first. Of the clients of one user, those that wait for the next
reply of a list and those with a new call take turns, so that a call does not wait for all lists.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum

from keepaliveD.daemon.control.varlink import Client


class Rank(IntEnum):
    """Who comes before whom."""

    ROOT = 0
    MEMBER = 1  # the daemon's user, and its group
    ANYBODY = 2


@dataclass(slots=True, eq=False)
class Peer:
    """A client, and who it is."""

    socket: socket.socket
    client: Client
    user: int
    process: int
    rank: Rank
    waits_for: int = 0  # events of its socket; 0 while it is not waited for
    went_on: bool = False  # with a list, when it was served last

    @property
    def is_here(self) -> bool:
        """Return whether it has not been let go."""
        return self.socket.fileno() >= 0

    @property
    def has_given_up(self) -> bool:
        """Return whether it has closed its end, although it wants an answer: it has been told that there is none."""
        poll = select.poll()
        poll.register(self.socket, 0)  # that it has closed is always told; one that only sends no more has not
        return self.client.wants_answer and bool(poll.poll(0))


class _Share:
    """The clients of one user that wait."""

    def __init__(self) -> None:
        self._calls: deque[Peer] = deque()
        self._lists: deque[Peer] = deque()
        self.had_list = False

    def __bool__(self) -> bool:
        """Return whether any client waits."""
        return bool(self._calls or self._lists)

    def add(self, peer: Peer) -> None:
        """Have a client wait behind the others of its kind."""
        (self._lists if peer.client.goes_on else self._calls).append(peer)

    def next(self) -> Peer:
        """Return whose turn it is, which waits no longer."""
        self.had_list = bool(self._lists) and not (self.had_list and self._calls)
        return (self._lists if self.had_list else self._calls).popleft()


class Turns:
    """The clients that wait, in the order in which they are to be served."""

    def __init__(self, peers: Collection[Peer], waits: Callable[[Client], bool]) -> None:
        """Take all clients, those that were served longest ago first; `waits` says whether one waits now."""
        self._shares: dict[tuple[Rank, int], _Share] = {}
        for peer in peers if any(waits(each.client) for each in peers) else ():
            whose = peer.rank, peer.user
            share = self._shares.pop(whose, None)
            share = self._shares[whose] = _Share() if share is None else share  # behind users who were served before
            share.had_list = peer.went_on
            if waits(peer.client):
                share.add(peer)
        users = [whose for whose, share in self._shares.items() if share]
        self._users = [deque(whose for whose in users if whose[0] is rank) for rank in Rank]

    def __bool__(self) -> bool:
        """Return whether any client waits."""
        return any(self._users)

    def next(self) -> Peer:
        """Return whose turn it is, which waits no longer. At least one client must wait."""
        users = next(filter(None, self._users))
        whose = users.popleft()
        peer = self._shares[whose].next()
        if self._shares[whose]:
            users.append(whose)
        return peer

    def add(self, peer: Peer) -> None:
        """Have a client wait again, behind all others of its user, who is behind all others of his rank."""
        whose = peer.rank, peer.user
        if not self._shares[whose]:
            self._users[peer.rank].append(whose)
        self._shares[whose].add(peer)
