"""One measurement: rounds of quiet connections, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

from keepaliveD.measuring.connection import Connection, Introduce, to_nobody
from keepaliveD.measuring.connections import RATE, Connections
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request, life
from keepaliveD.measuring.keeping import Keeping, KeptTogether
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.probing import TRIES, answer, meaning
from keepaliveD.measuring.resets import Resets
from keepaliveD.policy.measuring import measurement as policy
from keepaliveD.policy.measuring.measurement import Bracket, EndOfSilence, Limits, PlannedTest, Result, Seen, Side
from keepaliveD.policy.measuring.rounds import cut_short, duration, next_round

TICK = 1.0  # seconds between two looks at a quiet connection
EARLY = 0.1  # share of the planned time before its end in which a packet counts as the peer's probe
RESTARTS = 3  # silences that a talkative peer may break
FAREWELL = 0.3  # seconds in which a service that says why it closes has closed


class Measurement:
    """Measures until enough is known, or until run() is cancelled."""

    def __init__(self, target: Target, limits: Limits, introduce: Introduce = to_nobody) -> None:
        self.target, self.limits = target, limits
        self.far_end = FarEnd(target, self._wake_all)
        self.connections = Connections(self.far_end, limits.connections, introduce)
        self.resets = Resets(self.far_end)
        self.keeping = Keeping(self.far_end, self.connections, limits)
        self.tests: list[Result] = []
        self.speaks = 0  # connections on which the peer sent something by itself, again and again
        self.rounds = 0
        self._round: list[PlannedTest] = []
        self._round_ends = 0.0
        self._death: Result | None = None
        self._first_deaths: dict[int, str] = {}  # the time of day of the first one of each round
        self._waiting: set[asyncio.Future[None]] = set()
        self._talked = 0  # tests of this round that the peer made void

    @property
    def opened(self) -> int:
        """Return how many connections were begun."""
        return self.connections.opened + self.far_end.tried

    @property
    def bracket(self) -> Bracket:
        """Return what is known of the path so far."""
        return policy.conclude(self.tests)

    @property
    def keepalive_helps(self) -> bool | None:
        """Return whether keepalive keeps connections known; None if that is unknown so far."""
        return self.keeping.helps(self.bracket)

    @property
    def losses(self) -> list[tuple[str, int]]:
        """Return by when the path had lost its state, each time, and how many connections it forgot with that."""
        return [(self._first_deaths[number], count) for number, count in self.bracket.losses]

    @property
    def left(self) -> float:
        """Return how long this round, or what follows the last one, lasts at most, in seconds."""
        return max(0.0, (self.keeping.ends or self._round_ends) - time.monotonic())

    async def run(self) -> None:
        """Measure. Raises Refusal if not even one connection stands; may be cancelled at any time."""
        connection = await self.connections.open_once(Request(life=life(self.limits.longest * 3)))
        kept = KeptTogether([connection], time.monotonic(), 0)
        keeping = asyncio.create_task(self._keep(connection))
        try:
            while plans := self._planned():
                before = len(self.tests)
                await self._make(plans)
                self.rounds += 1
                await self.connections.free()
                if len(self.tests) == before and await self.far_end.path_is_up():
                    self.far_end.give_up(self.connections.refused)
                if self.far_end.gone or 0 < self._talked == len(self.tests) - before:
                    break
                await self.keeping.see(kept, self.bracket)
            await self.keeping.keep_others(self.bracket)
        finally:
            keeping.cancel()
            self.connections.abandon(connection)

    def _planned(self) -> list[PlannedTest]:
        """Return the tests of the next round; none where enough is known, or no more connections may be opened.

        Planned first without regard to room: that there is none matters only where not enough is known.
        """
        if not next_round(self.tests, self.limits, self.rounds) or not self.connections.has_room():
            return []
        return next_round(self.tests, replace(self.limits, connections=self.connections.room), self.rounds)

    async def _make(self, plans: list[PlannedTest]) -> None:
        """Make the tests of one round, all at the same time."""
        self._round, self._death, self._talked = plans, None, 0
        self.resets.begin_round()
        self._round_ends = time.monotonic() + len(plans) / RATE + duration(plans)
        before = len(self.tests)
        tests = [asyncio.create_task(self._test(number, plan)) for number, plan in enumerate(plans)]
        try:
            await asyncio.gather(*tests)
        finally:
            for test in tests:
                test.cancel()
            await asyncio.gather(*tests, return_exceptions=True)
            gone = bool(self.far_end.gone)
            self.tests[before:] = policy.without_doubt(self.tests[before:], gone=gone)

    async def _test(self, number: int, plan: PlannedTest) -> None:
        await asyncio.sleep(number / RATE)
        probe_after = round(plan.quiet * 1000) if plan.prober is Side.THERE else 0
        connection = await self.connections.open(Request(life(plan.quiet), probe_after))
        if connection is None:
            return
        end = EndOfSilence.VOID
        try:
            seen = await self._watch(connection, plan)
            if seen is not None:
                self._talked += seen.spoke
                self.speaks += seen.spoke and not self.target.is_listener
                result = await meaning(seen, self.far_end)
                end = result.end
                self._take(result)
        finally:
            if end in (EndOfSilence.SURVIVED, EndOfSilence.CLOSED):
                connection.close()
            else:
                self.connections.abandon(connection, forgotten=end is EndOfSilence.FORGOTTEN)

    def _take(self, result: Result) -> None:
        self.tests.append(replace(result, round=self.rounds))
        if result.end is not EndOfSilence.FORGOTTEN:
            return
        self._first_deaths.setdefault(self.rounds, time.strftime("%H:%M:%S"))
        bracket = self.bracket
        if self._death is None and bracket.forgotten is not None and not bracket.uneven:
            self._death = result
            self._round_ends = min(self._round_ends, time.monotonic() + len(self._round) / RATE + TRIES)
            self._wake_all()

    def _wake_all(self) -> None:
        for woken in self._waiting:
            _wake(woken)

    async def _watch(self, connection: Connection, plan: PlannedTest) -> Seen | None:
        """Leave a connection quiet, then see whether it is still known; None if that became unneeded."""
        restarts = 0
        early = EARLY * plan.quiet if plan.prober is Side.THERE else 0.0
        while True:
            quiet = plan.quiet if self._death is None else cut_short(plan, self._death.quiet)
            if quiet is None or self.far_end.gone:
                return None
            if (left := quiet - early - connection.quiet) <= 0:
                break
            await self._sleep(connection, min(left, TICK))
            if (heard := connection.heard()) and not connection.ended():
                await asyncio.sleep(FAREWELL)
            if connection.ended():
                asked = min(connection.quiet, connection.unbroken + TICK)  # this program may have been stopped
                return Seen(plan, asked, closed=True, reset=connection.was_reset, until=connection.quiet_at_most)
            if heard:
                restarts += 1
                if restarts > RESTARTS or plan.prober is Side.THERE:
                    return Seen(plan, connection.quiet, spoke=True)
                connection.restart()
        if self.resets.is_to_attribute(plan, self._death):
            return await self.resets.attribute(connection, plan)
        asked = connection.quiet
        if plan.prober is Side.HERE:
            connection.probe()
        return await answer(connection, plan, asked, self.far_end)

    async def _sleep(self, connection: Connection, seconds: float) -> None:
        """Sleep until something arrives, another connection turns out to be forgotten, or the time is over."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._waiting.add(woken)
        loop.add_reader(connection.sock, _wake, woken)
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            loop.remove_reader(connection.sock)
            self._waiting.discard(woken)

    async def _keep(self, kept: Connection) -> None:
        """Keep a connection alive from the start, after it has shown how far away the peer is."""
        with contextlib.suppress(OSError):
            await self.resets.locate_peer(kept)
            self.keeping.keep(kept)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
