"""Open the connections of a measurement, and free what the far end may still hold of them."""

from __future__ import annotations

import asyncio

from keepaliveD.measuring.connection import Connection, Introduce
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.opening import open_connection
from keepaliveD.measuring.sweep import End, sweep
from keepaliveD.model.errors import Refusal

RATE = 20.0  # new connections a second
OPENINGS = 3  # tries to open a connection
PAUSE = 1.0  # seconds after the first one that failed; twice as long after the next one
FEWEST_QUIET = 2  # connections at a time


class Connections:
    """Opens connections to the far end, and knows how many more it may be made to hold: `most` at a time.

    `opened` is how many were begun, `refused` why the last one could not be opened that was tried in vain.
    """

    def __init__(self, far_end: FarEnd, most: int, introduce: Introduce) -> None:
        self._far_end, self._most, self._introduce = far_end, most, introduce
        self._introducing: set[asyncio.Future[None]] = set()
        self._dead: list[End] = []
        self._left = 0  # sockets of the peer that no sweep could free
        self.opened = 0
        self.refused = ""

    async def open_once(self, request: Request) -> Connection:
        """Return a new connection. Raises Refusal."""
        self.opened += 1
        connection = await open_connection(self._far_end.target, request)
        introducing = asyncio.ensure_future(self._introduce(connection))  # the path waits for no daemon
        self._introducing.add(introducing)
        introducing.add_done_callback(self._introducing.discard)
        return connection

    async def open(self, request: Request) -> Connection | None:
        """Return a new connection; None where a few tries fail, or the far end was given up."""
        reason = self._far_end.gone
        for number in range(0 if reason else OPENINGS):
            try:
                return await self.open_once(request)
            except Refusal as refusal:
                reason = str(refusal)
            await asyncio.sleep(PAUSE * 2**number)
        self.refused = reason
        return None

    def abandon(self, connection: Connection, *, forgotten: bool = False) -> None:
        """Close a connection that the path may have forgotten; free() frees what the peer may still hold of it."""
        self._dead.append(End(connection.local_address, forgotten))
        connection.close(silently=True)

    @property
    def room(self) -> int:
        """Return how many connections may be left quiet at a time: a service may hold some for good."""
        return max(0, self._most - self._left)

    def has_room(self) -> bool:
        """Whether enough connections may be left quiet; where not, the far end is given up."""
        if self.room < FEWEST_QUIET:
            held = f"may hold {self._left} connections that cannot be freed, so no more are opened"
            self._far_end.give_up(f"{self._far_end.target.name}: {held}; run keepalivectl measure --listen there")
        return self.room >= FEWEST_QUIET

    @property
    def held(self) -> int:
        """Return how many sockets a service may still hold that can be freed; a listener frees its own."""
        return 0 if self._far_end.target.is_listener else len(self._dead)

    @property
    def left_open(self) -> int:
        """Return how many sockets a service may still hold, those included that could not be freed."""
        return self._left + self.held

    async def free(self) -> None:
        """Free these sockets; may be cancelled at any time."""
        if self.held:
            self._left += await sweep(self._far_end.target, self._dead)
            self._dead = []
