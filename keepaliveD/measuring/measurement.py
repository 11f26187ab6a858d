"""One measurement: rounds of quiet connections, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass, replace

from keepaliveD.measuring.connection import MOST_HOPS, Connection, Introduce, to_nobody
from keepaliveD.measuring.greeting import AFTERWARDS, Request
from keepaliveD.measuring.opening import Refused, Target, absence, open_connection
from keepaliveD.measuring.sweep import End, sweep
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal
from keepaliveD.policy.measuring import measurement as policy
from keepaliveD.policy.measuring.kept import CONVINCING, Kept, keepalive_helps, needed, proving_age
from keepaliveD.policy.measuring.measurement import Bracket, EndOfSilence, How, Limits, PlannedTest, Result, Seen, Side
from keepaliveD.policy.measuring.rounds import cut_short, duration, next_round

RATE = 20.0  # new connections a second
TICK = 1.0  # seconds between two looks at a quiet connection
POLL = 0.02  # seconds between two looks at one that was probed
PATIENCE = 0.3  # seconds for an answer; longer where the round trip is
ROUND_TRIPS = 4
TRIES = 2.3  # seconds in which the kernel tries twice more
EARLY = 0.1  # share of the planned time before its end in which a packet counts as the peer's probe
OPENINGS = 3  # tries to open a connection
RESTARTS = 3  # silences that a talkative peer may break
OUTAGE = AFTERWARDS  # seconds until the far end counts as gone
REFUSING = 10.0  # ... where it refuses connections: a service that restarts is back sooner
FEWEST = 3  # fresh connections before that: this program may have been stopped meanwhile
ATTRIBUTED = 2  # connections whose reset is looked at more closely
DETOUR = 16  # hops by which the ways of one peer's packets may differ: another stack starts with another TTL
LOST = 3.0  # seconds in which the kernel tries three times more
LOSSY = 2  # answers that came only then: too many packets are lost
NEXT_PROBE = 1.2  # seconds after which the next probe of the kernel leaves
FEWEST_QUIET = 2  # connections at a time
FAREWELL = 0.3  # seconds in which a service that says why it closes has closed


@dataclass(slots=True)
class Circumstances:
    """What is known besides the tests; None is unknown."""

    reset_by_peer: bool | None = None
    outages: int = 0
    speaks: int = 0  # connections on which the peer sent something by itself, again and again
    left_open: int = 0  # sockets of the peer that could not be freed
    refused: str = ""  # why a connection could not be opened
    gone: str = ""  # why the measurement ended early


@dataclass(slots=True)
class Keeping:
    """Connections with keepalive, since when all have that, and how many outages were known then."""

    connections: list[Connection]
    since: float
    outages: int
    over: bool = False


class Measurement:
    """Measures until enough is known, or until stop()."""

    def __init__(self, target: Target, limits: Limits, introduce: Introduce = to_nobody) -> None:
        self.target, self.limits = target, limits
        self._introduce = introduce
        self._introducing: set[asyncio.Future[None]] = set()
        self.tests: list[Result] = []
        self.circumstances = Circumstances()
        self.rounds = 0
        self.opened = 0
        self._round: list[PlannedTest] = []
        self._round_ends = 0.0
        self._death: Result | None = None
        self._first_deaths: dict[int, str] = {}  # the time of day of the first one of each round
        self._waiting: set[asyncio.Future[None]] = set()
        self._fresh: asyncio.Task[bool] | None = None
        self._stood = self._absent = -math.inf  # when the last fresh connection was begun that stood, and that did not
        self._dead: list[End] = []
        self._left = 0  # sockets of the peer that no sweep could free
        self._to_attribute = 0
        self.hops_left = 0
        self._kept = Kept()
        self._talked = 0  # tests of this round that the peer made void

    @property
    def bracket(self) -> Bracket:
        """Return what is known of the path so far."""
        return policy.conclude(self.tests)

    @property
    def keepalive_helps(self) -> bool | None:
        """Return whether keepalive keeps connections known; None if that is unknown so far."""
        return keepalive_helps(self.bracket, self._kept, self.limits.connections)

    @property
    def losses(self) -> list[tuple[str, int]]:
        """Return by when the path had lost its state, each time, and how many connections it forgot with that."""
        return [(self._first_deaths[number], count) for number, count in self.bracket.losses]

    @property
    def left(self) -> float:
        """Return how long this round lasts at most, in seconds."""
        return max(0.0, self._round_ends - time.monotonic())

    async def run(self) -> None:
        """Measure. Raises Refusal if not even one connection stands; may be cancelled at any time."""
        connection = await self._opened(Request(life=life(self.limits.longest * 3)))
        self.opened += 1
        kept = Keeping([connection], time.monotonic(), 0)
        keeping = asyncio.create_task(self._keep(connection))
        try:
            while plans := self._planned():
                before = len(self.tests)
                await self._make(plans)
                self.rounds += 1
                await self.free()
                if len(self.tests) == before and await self._path_is_up():
                    self.circumstances.gone = self.circumstances.refused
                if self.circumstances.gone or 0 < self._talked == len(self.tests) - before:
                    break
                await self._see_kept(kept)
            await self._keep_others()
        finally:
            keeping.cancel()
            self.abandon(connection)

    def abandon(self, connection: Connection, *, forgotten: bool = False) -> None:
        """Close a connection that the path may have forgotten; free() frees what the peer may still hold of it."""
        self._dead.append(End(connection.local_address, forgotten))
        connection.close(silently=True)

    @property
    def room(self) -> int:
        """Return how many connections may be left quiet at a time: a service may hold some for good."""
        return max(0, self.limits.connections - self._left)

    def has_room(self) -> bool:
        """Whether enough connections may be left quiet; where not, the measurement ends early."""
        if self.room < FEWEST_QUIET:
            held = f"may hold {self._left} connections that cannot be freed, so no more are opened"
            self._end(f"{self.target.name}: {held}; run keepalivectl measure --listen there")
        return self.room >= FEWEST_QUIET

    def _planned(self) -> list[PlannedTest]:
        """Return the tests of the next round; none where enough is known, or no more connections may be opened."""
        if not next_round(self.tests, self.limits, self.rounds) or not self.has_room():
            return []
        return next_round(self.tests, replace(self.limits, connections=self.room), self.rounds)

    @property
    def held(self) -> int:
        """Return how many sockets a service may still hold that can be freed; a listener frees its own."""
        return 0 if self.target.is_listener else len(self._dead)

    async def free(self) -> None:
        """Free these sockets; may be cancelled at any time."""
        self.circumstances.left_open = self._left + self.held
        if self.held:
            self._left += await sweep(self.target, self._dead)
            self._dead = []
            self.circumstances.left_open = self._left

    async def _make(self, plans: list[PlannedTest]) -> None:
        """Make the tests of one round, all at the same time."""
        self._round, self._death, self._to_attribute, self._talked = plans, None, ATTRIBUTED, 0
        self._round_ends = time.monotonic() + len(plans) / RATE + duration(plans)
        before = len(self.tests)
        tests = [asyncio.create_task(self._test(number, plan)) for number, plan in enumerate(plans)]
        try:
            await asyncio.gather(*tests)
        finally:
            for test in tests:
                test.cancel()
            await asyncio.gather(*tests, return_exceptions=True)
            gone = bool(self.circumstances.gone)
            self.tests[before:] = policy.without_doubt(self.tests[before:], gone=gone)

    async def _test(self, number: int, plan: PlannedTest) -> None:
        await asyncio.sleep(number / RATE)
        probe_after = round(plan.quiet * 1000) if plan.prober is Side.THERE else 0
        connection = await self.open(Request(life(plan.quiet), probe_after))
        if connection is None:
            return
        end = EndOfSilence.VOID
        try:
            seen = await self._watch(connection, plan)
            if seen is not None:
                self._talked += seen.spoke
                self.circumstances.speaks += seen.spoke and not self.target.is_listener
                result = await self.meaning(seen)
                end = result.end
                self._take(result)
        finally:
            if end in (EndOfSilence.SURVIVED, EndOfSilence.CLOSED):
                connection.close()
            else:
                self.abandon(connection, forgotten=end is EndOfSilence.FORGOTTEN)

    async def _opened(self, request: Request) -> Connection:
        """Return a new connection. Raises Refusal."""
        connection = await open_connection(self.target, request)
        introducing = asyncio.ensure_future(self._introduce(connection))  # the path waits for no daemon
        self._introducing.add(introducing)
        introducing.add_done_callback(self._introducing.discard)
        return connection

    async def open(self, request: Request) -> Connection | None:
        """Return a connection; None where a few tries fail."""
        reason = self.circumstances.gone
        for number in range(0 if reason else OPENINGS):
            self.opened += 1
            try:
                return await self._opened(request)
            except Refusal as refusal:
                reason = str(refusal)
            await asyncio.sleep(TICK * 2**number)
        self.circumstances.refused = reason
        return None

    def _take(self, result: Result) -> None:
        self.tests.append(replace(result, round=self.rounds))
        if result.end is not EndOfSilence.FORGOTTEN:
            return
        self._first_deaths.setdefault(self.rounds, time.strftime("%H:%M:%S"))
        bracket = self.bracket
        if self._death is None and bracket.forgotten is not None and not bracket.uneven:
            self._death = result
            self._round_ends = min(self._round_ends, time.monotonic() + len(self._round) / RATE + TRIES)
            for woken in self._waiting:
                _wake(woken)

    async def _watch(self, connection: Connection, plan: PlannedTest) -> Seen | None:
        """Leave a connection quiet, then see whether it is still known; None if that became unneeded."""
        restarts = 0
        early = EARLY * plan.quiet if plan.prober is Side.THERE else 0.0
        while True:
            quiet = plan.quiet if self._death is None else cut_short(plan, self._death.quiet)
            if quiet is None or self.circumstances.gone:
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
        if self._is_to_attribute(plan):
            return await self._attribute(connection, plan)
        asked = connection.quiet
        if plan.prober is Side.HERE:
            connection.probe()
        return await self.answer(connection, plan, asked)

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

    async def answer(self, connection: Connection, plan: PlannedTest, asked: float) -> Seen:
        """See what becomes of a probe: after silence first a fresh connection, then two more tries."""
        until = connection.quiet_at_most  # a busy machine may have waited between looking at the clock and sending
        patience = max(PATIENCE, ROUND_TRIPS * connection.state().rtt)
        again = None
        due = max(0.0, plan.quiet - asked) if plan.prober is Side.THERE else 0.0  # only the peer has yet to probe
        responds = await self._responds(connection, due + patience)
        if plan.prober is Side.THERE:
            until = connection.quiet_at_most if responds else plan.quiet
            asked = min(until, connection.unbroken + 2 * POLL) if responds else until  # it may have been stopped
        if not responds:
            if not await self._is_up(plan.prober):
                return Seen(plan, asked)
            again = connection.quiet
            if plan.prober is Side.HERE:
                connection.probe()
            until = connection.quiet_at_most + (NEXT_PROBE if plan.prober is Side.THERE else 0.0)
            await self._responds(connection, TRIES + patience)
        reset = connection.was_reset
        closed = connection.ended() and not connection.error
        answered = connection.has_answered()  # also if a service resets it just afterwards
        return Seen(plan, asked, answered=answered, reset=reset, closed=closed, again=again, until=until)

    async def _is_up(self, prober: Side) -> bool:
        """Wait until a fresh connection stands. If the peer probes, it surely has by then: its program answers both."""
        return await (self._path_is_up() if prober is Side.HERE else self._stands_from_now())

    async def _stands_from_now(self) -> bool:
        """Wait until a connection stands that was begun after this."""
        since = time.monotonic()
        while self._stood < since:
            if not await self._path_is_up():
                return False
        return True

    async def meaning(self, seen: Seen) -> Result:
        """Return what a connection shows; of one that ended, once it is known whether the far end is still there."""
        never_closes = self.target.is_listener
        result = policy.meaning(seen, never_closes=never_closes)
        if result.end not in policy.OVER:
            return result
        return policy.meaning(replace(seen, there=await self._is_there(seen)), never_closes=never_closes)

    async def _is_there(self, seen: Seen) -> bool:
        """Whether all fresh connections from now on stand, of which there is one at least."""
        now = time.monotonic()
        if seen.closed:
            await asyncio.sleep(TICK)  # a service that ends may close its port last
        return await self._stands_from_now() and self._absent < now

    async def _responds(self, connection: Connection, within: float) -> bool:
        """Whether a packet arrives, a reset included."""
        deadline = time.monotonic() + within
        while not (connection.ended() or connection.heard()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    async def _path_is_up(self) -> bool:
        """Wait until a fresh connection stands, which all that wait share."""
        if self._fresh is None or self._fresh.done():
            self._fresh = asyncio.create_task(self._wait_for_path())
        return await asyncio.shield(self._fresh)

    async def _wait_for_path(self) -> bool:
        first, clock = time.monotonic(), time.strftime("%H:%M:%S")
        refusing = math.inf  # since when
        tries = 0
        while not self.circumstances.gone:
            self.opened += 1
            tries += 1
            began = time.monotonic()
            refusal = await absence(self.target)
            if refusal is None:
                self._stood = began
                return True
            self._absent = began
            if isinstance(refusal, KernelError):
                self._end(str(refusal))
                break
            self.circumstances.outages += tries == 1
            refusing = min(refusing, began) if isinstance(refusal, Refused | NotPermitted) else math.inf
            if tries >= FEWEST and time.monotonic() > min(first + OUTAGE, refusing + REFUSING):
                self._end(f"{self._end_of(refusal)} at {clock}; what ended then is not counted")
            await asyncio.sleep(max(0.0, began + TICK - time.monotonic()))
        return False

    def _end_of(self, refusal: Refusal) -> str:
        if self.target.is_listener and isinstance(refusal, Refused | NotPermitted):
            return f"{self.target.name}: the listener ended"
        return f"{self.target.name}: it stopped taking connections"

    def _end(self, gone: str) -> None:
        """Give up all connections that are still quiet."""
        self.circumstances.gone = gone
        for woken in self._waiting:
            _wake(woken)

    # Who resets: a device on the path is nearer than the peer, so more hops are left to its packets

    def _is_to_attribute(self, plan: PlannedTest) -> bool:
        if self._death is None or self._death.how is not How.RESET or plan.prober is not Side.HERE:
            return False
        if not self.hops_left or self.circumstances.reset_by_peer is not None or not self._to_attribute:
            return False
        self._to_attribute -= 1
        return True

    async def _attribute(self, connection: Connection, plan: PlannedTest) -> Seen:
        """Probe a forgotten connection, so that first only a device nearer than the peer can answer.

        Then only a device as far away as the peer, or the peer; then any.
        """
        asked = connection.quiet
        for hops_left in (min(self.hops_left + 1, MOST_HOPS), max(0, self.hops_left - DETOUR), 0):
            connection.refuse_from_afar(hops_left)
            connection.probe()
            until = connection.quiet_at_most
            await self._responds(connection, TRIES)
            if connection.was_reset:
                break
        reset = connection.was_reset
        seen = Seen(plan, asked, answered=connection.has_answered(), reset=reset, until=until)
        if reset and await self._is_there(seen):
            self.circumstances.reset_by_peer = 0 < hops_left <= self.hops_left
        return seen

    async def _keep(self, kept: Connection) -> None:
        """Keep a connection alive from the start, after it has shown how far away the peer is."""
        with contextlib.suppress(OSError):
            self.hops_left = await self._find_hops_left(kept)
            self._keep_from_now(kept)

    async def _find_hops_left(self, connection: Connection) -> int:
        """Return how many hops are left to the peer's packets when they arrive: 0 if that cannot be seen.

        Where packets are lost, silence does not show that too few hops were left: what was refused is tried once more.
        """
        low, high, late = 0, MOST_HOPS, 0
        while low < high and late < LOSSY:
            middle = (low + high + 1) // 2
            answered, at_once = await self._reaches(connection, middle)
            low, high = (middle, high) if answered else (low, middle - 1)
            late += answered and not at_once
        refused = low == MOST_HOPS or not (await self._reaches(connection, low + 1))[0]
        connection.refuse_from_afar(0)
        return low if refused and late < LOSSY else 0

    async def _reaches(self, connection: Connection, hops_left: int) -> tuple[bool, bool]:
        """Whether the peer answers with at least so many hops left, and whether it answers the first probe."""
        connection.refuse_from_afar(hops_left)
        connection.restart()
        connection.probe()
        prompt = NEXT_PROBE + max(PATIENCE, ROUND_TRIPS * connection.state().rtt)
        if await self._responds(connection, prompt):
            return True, True
        return await self._responds(connection, LOST), False

    async def _keep_others(self) -> None:
        """Keep others alive as long as it is unknown whether that helps: as many as are needed, a few times at most."""
        for _ in range(CONVINCING):
            enough, count = proving_age(self.bracket), needed(self.bracket, self.limits.connections)
            if enough is None or self.keepalive_helps is not None or self.circumstances.gone or self.room < count:
                return
            outages = self.circumstances.outages
            self._round_ends = time.monotonic() + count / RATE + enough
            connections: list[Connection] = []
            try:
                for _ in range(count):
                    connection = await self.open(Request(life(enough + count)))
                    if connection is None:
                        return
                    connections.append(connection)
                    with contextlib.suppress(OSError):
                        self._keep_from_now(connection)
                kept = Keeping(connections, time.monotonic(), outages)
                await asyncio.sleep(enough + POLL)
                await self._see_kept(kept)
            finally:
                for connection in connections:
                    self.abandon(connection)
            await self.free()

    def _keep_from_now(self, connection: Connection) -> None:
        connection.keep(max(1, int(self.limits.shortest / 2)))

    async def _see_kept(self, kept: Keeping) -> None:
        """See what became of connections with keepalive that are older than the timeout, unless enough is known."""
        enough, age = proving_age(self.bracket), time.monotonic() - kept.since
        if enough is None or age < enough or kept.over or self.keepalive_helps is not None:
            return
        answered = await asyncio.gather(*(self._answers(each) for each in kept.connections))
        if all(answered):
            self._kept = replace(self._kept, oldest=age, together=len(answered))
            return
        kept.over = True
        silent = [each for each, answers in zip(kept.connections, answered, strict=True) if not answers]
        if any(await asyncio.gather(*(self._is_forgotten(each, kept, age) for each in silent))):
            self._kept = replace(self._kept, forgotten=self._kept.forgotten + 1)

    async def _answers(self, connection: Connection) -> bool:
        with contextlib.suppress(OSError):
            connection.restart()
            connection.probe()
            return await self._responds(connection, NEXT_PROBE + TRIES) and not connection.ended()
        return False

    async def _is_forgotten(self, connection: Connection, kept: Keeping, age: float) -> bool:
        """Whether nothing but the path is known to have ended it: no outage, and no service that resets or closes."""
        ended = connection.ended()
        if ended and not self.target.is_listener:
            return False
        there = await self._is_there(Seen(PlannedTest(age), age, closed=ended))
        return there and self.circumstances.outages == kept.outages


def life(quiet: float) -> int:
    """Return how long a listener keeps a connection, in milliseconds."""
    return round((quiet + AFTERWARDS) * 1000)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
