"""Have each hop of a path grow old alone: probes that pass few hops keep the others awake."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from keepaliveD.measuring.connection import MOST_HOPS, Connection
from keepaliveD.measuring.connections import RATE, Connections
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request, life
from keepaliveD.measuring.hops import count_devices, name_devices
from keepaliveD.measuring.post_mortem import PATIENCE, end_within
from keepaliveD.measuring.probing import answer, meaning
from keepaliveD.policy.measuring import tomography as policy
from keepaliveD.policy.measuring.measurement import Bracket, EndOfSilence, PlannedTest
from keepaliveD.policy.measuring.tomography import Device, HopAnswer, HopPlan, HopResult

T = TypeVar("T")

TICK = 1.0  # seconds between two looks at a quiet connection
FORGOTTEN = 1.1  # of the silence that was fatal: after this one all connections are surely forgotten
ATTEMPTS = 3  # at a test, until it shows something
NOTHING = (EndOfSilence.VOID, EndOfSilence.DOUBTFUL)  # is shown by what ends so
SETTLED = 1.0  # seconds before a test in which no other probe leaves: its answer would wake what must be old


@dataclass(slots=True)
class Map:
    """What is known of the hops; `names` are their addresses, "" where unknown; `survived` is what the path has.

    `count` is how many there are, None if that is not known, although it was `tried`.
    `back` is how many routers the way back has, as the TTL of the peer's packets shows; None if that is not known.
    `stopped_by`: the hops of which one stops packets of forgotten connections, as in policy.tomography.
    """

    tried: bool = False
    count: int | None = None
    back: int | None = None
    names: list[str] = field(default_factory=list)
    results: list[HopResult] = field(default_factory=list)
    survived: float = 0.0
    stopped_by: tuple[int, ...] = ()

    @property
    def ways_differ(self) -> bool:
        """Whether the ways there and back have different routers: the peer's probes then keep other ones awake."""
        return self.back not in (None, self.count)

    @property
    def devices(self) -> list[Device]:
        """Return the devices in their order."""
        return policy.conclude(self.results, len(self.names), self.survived, self.stopped_by) if self.names else []


class Tomography:
    """Goes on where a measurement has found the timeout of the whole path."""

    def __init__(self, far_end: FarEnd, connections: Connections, longest: float) -> None:
        self._far_end, self._connections = far_end, connections
        self._longest = longest
        self._ends = time.monotonic()
        self.map = Map()

    @property
    def left(self) -> float:
        """Return how long it lasts at most, in seconds."""
        return max(0.0, self._ends - time.monotonic())

    async def run(self, bracket: Bracket, hops_left: int) -> None:
        """Test all hops at the same time, and again what has shown nothing.

        `hops_left` is how many hops are left to the peer's packets when they arrive, 0 if unknown.
        """
        if bracket.survived is None or bracket.forgotten is None:
            return
        if not await self._count(hops_left):
            return
        self.map.survived = bracket.survived
        longest = min(self._longest, 4 * bracket.forgotten)
        both_ends = self._far_end.target.is_listener and not self.map.ways_differ
        plans = policy.plan(len(self.map.names), bracket.survived, bracket.forgotten, longest, both_ends=both_ends)
        every = policy.keep_interval(bracket.survived)
        for _ in range(ATTEMPTS):
            known = {each.plan for each in self.map.results if each.result.end not in NOTHING}
            plans = [each for each in plans if each not in known]
            if plans and not self._far_end.gone:
                await self._make(plans, every, bracket.forgotten * FORGOTTEN)
        await self._see_where_it_stops(bracket.forgotten * FORGOTTEN)

    async def _make(self, plans: list[HopPlan], every: int, forgotten: float) -> None:
        """Make these tests, some of which may show nothing: a busy machine opens a connection too late."""
        while plans and self._connections.has_room():
            room = self._connections.room
            lasts = sum(max(each.quiet for each in plans[at : at + room]) for at in range(0, len(plans), room))
            some, plans = plans[:room], plans[room:]
            self._ends = time.monotonic() + len(some) / RATE + lasts + forgotten + PATIENCE
            await _together([self._test(number, each, every) for number, each in enumerate(some)])
            await self._connections.free()

    async def _count(self, hops_left: int) -> bool:
        """Count the hops; return False where there is none, or that is not known."""
        connection = await self._connections.open(Request(life(0)))
        if connection is None:
            self._far_end.give_up(self._far_end.gone or self._connections.refused)
            return False
        try:
            count = await count_devices(connection)
        finally:
            connection.close()
        self.map.tried, self.map.count = True, count
        self.map.back = policy.routers_back(hops_left)
        self.map.names = await name_devices(self._far_end.target, count or 0)
        return bool(count)

    async def _see_where_it_stops(self, quiet: float) -> None:
        """Let connections be forgotten, one for each hop and one for the peer, then see how far packets of them get.

        Nothing else may make hops report packets meanwhile: they report only about one a second.
        """
        names = self.map.names
        if not any(names):
            return
        allowed = [*range(1, len(names) + 1), MOST_HOPS]
        answers: list[HopAnswer | None] = []
        while len(answers) < len(allowed):
            if not self._connections.has_room():
                return
            some = allowed[len(answers) :][: self._connections.room]
            answers += await _together([self._end(number, hops, quiet) for number, hops in enumerate(some)])
            await self._connections.free()
        self.map.stopped_by = policy.stopped_by(answers, [bool(name) for name in names])

    async def _end(self, number: int, hops: int, quiet: float) -> HopAnswer | None:
        """Return what comes of the end of a forgotten connection; None where that is not known."""
        await asyncio.sleep(number / RATE)
        connection = await self._connections.open(Request(life(quiet)))
        if connection is None:
            return None
        try:
            with contextlib.suppress(OSError):
                return await end_within(connection, hops) if await self._wait(connection, quiet) else None
            return None
        finally:
            with contextlib.suppress(OSError):
                connection.set_hops(-1)
            self._connections.abandon(connection)

    async def _test(self, number: int, each: HopPlan, every: int) -> None:
        await asyncio.sleep(number / RATE)
        farther = len(self.map.names) - each.last
        until = max(0.0, each.quiet - SETTLED)
        request = Request(life(each.quiet))
        if farther:
            request = Request(life(each.quiet), 0, farther, every * 1000, round(until * 1000))
        connection = await self._connections.open(request)
        if connection is None:
            return
        known = False
        try:
            with contextlib.suppress(OSError):
                result = await self._grow_old(connection, each, every, until)
                if result is not None:
                    self.map.results.append(result)
                    known = result.result.end is EndOfSilence.SURVIVED
        finally:
            if known:
                connection.close()
            else:
                self._connections.abandon(connection)

    async def _grow_old(self, connection: Connection, each: HopPlan, every: int, until: float) -> HopResult | None:
        if each.first > 1:
            connection.keep(every, each.first - 1)
        if not await self._wait(connection, until):
            return None
        if each.first > 1:
            connection.stop_probing()
            connection.set_hops(-1)
        if not await self._wait(connection, each.quiet):
            return None
        asked = connection.quiet
        connection.probe()
        seen = await answer(connection, PlannedTest(each.quiet), asked, self._far_end)
        return HopResult(each, await meaning(seen, self._far_end))

    async def _wait(self, connection: Connection, quiet: float) -> bool:
        """Wait until the silence is so long; return whether it was not broken."""
        while (left := quiet - connection.quiet) > 0:
            await asyncio.sleep(min(TICK, left))
            if connection.ended() or connection.heard():
                return False
        return True


async def _together(works: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Do these at the same time; return what they return. Raises what one of them raises, once all have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
