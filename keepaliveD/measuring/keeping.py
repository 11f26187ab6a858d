"""Keep connections alive beside those that are left quiet, and see whether they outlive the path's timeout."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.connections import RATE, Connections
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request, life
from keepaliveD.measuring.probing import NEXT_PROBE, POLL, TRIES, responds
from keepaliveD.policy.measuring.kept import CONVINCING, Kept, keepalive_helps, needed, proving_age
from keepaliveD.policy.measuring.measurement import Bracket, Limits


@dataclass(slots=True)
class KeptTogether:
    """Connections with keepalive, since when all have that, and how many outages were known then."""

    connections: list[Connection]
    since: float
    outages: int
    over: bool = False


class Keeping:
    """Keeps connections alive, and knows what became of them.

    `ends` is when those are old enough that are kept alive after the last round, 0.0 before that.
    """

    def __init__(self, far_end: FarEnd, connections: Connections, limits: Limits) -> None:
        self._far_end, self._connections, self._limits = far_end, connections, limits
        self._kept = Kept()
        self.ends = 0.0

    def helps(self, bracket: Bracket) -> bool | None:
        """Return whether keepalive keeps connections known; None if that is unknown so far."""
        return keepalive_helps(bracket, self._kept, self._limits.connections)

    def keep(self, connection: Connection) -> None:
        """Keep a connection alive from now on. Raises OSError."""
        connection.keep(max(1, int(self._limits.shortest / 2)))

    async def keep_others(self, bracket: Bracket) -> None:
        """Keep others alive as long as it is unknown whether that helps: as many as are needed, a few times at most."""
        enough, count = proving_age(bracket), needed(bracket, self._limits.connections)
        for _ in range(CONVINCING):
            if enough is None or self.helps(bracket) is not None:
                return
            if self._far_end.gone or self._connections.room < count:
                return
            outages = self._far_end.outages
            self.ends = time.monotonic() + count / RATE + enough
            connections: list[Connection] = []
            try:
                for _ in range(count):
                    connection = await self._connections.open(Request(life(enough + count)))
                    if connection is None:
                        return
                    connections.append(connection)
                    with contextlib.suppress(OSError):
                        self.keep(connection)
                kept = KeptTogether(connections, time.monotonic(), outages)
                await asyncio.sleep(enough + POLL)
                await self.see(kept, bracket)
            finally:
                for connection in connections:
                    self._connections.abandon(connection)
            await self._connections.free()

    async def see(self, kept: KeptTogether, bracket: Bracket) -> None:
        """See what became of connections with keepalive that are older than the timeout, unless enough is known."""
        enough, age = proving_age(bracket), time.monotonic() - kept.since
        if enough is None or age < enough or kept.over or self.helps(bracket) is not None:
            return
        answered = await asyncio.gather(*(_answers(each) for each in kept.connections))
        if all(answered):
            self._kept = replace(self._kept, oldest=age, together=len(answered))
            return
        kept.over = True
        silent = [each for each, answers in zip(kept.connections, answered, strict=True) if not answers]
        if any(await asyncio.gather(*(self._is_forgotten(each, kept) for each in silent))):
            self._kept = replace(self._kept, forgotten=self._kept.forgotten + 1)

    async def _is_forgotten(self, connection: Connection, kept: KeptTogether) -> bool:
        """Whether nothing but the path is known to have ended it: no outage, and no service that resets or closes."""
        ended = connection.ended()
        if ended and not self._far_end.target.is_listener:
            return False
        there = await self._far_end.is_there(closed=ended)
        return there and self._far_end.outages == kept.outages


async def _answers(connection: Connection) -> bool:
    with contextlib.suppress(OSError):
        connection.restart()
        connection.probe()
        return await responds(connection, NEXT_PROBE + TRIES) and not connection.ended()
    return False
