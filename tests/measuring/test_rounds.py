"""How long the rounds of a measurement take, on a clock that does not make anybody wait."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from socket import AF_INET, TCP_KEEPIDLE
from types import SimpleNamespace
from typing import Any, cast

import pytest

from keepaliveD.measuring import connection as connection_module
from keepaliveD.measuring import connections, far_end, keeping, probing
from keepaliveD.measuring import measurement as module
from keepaliveD.measuring.connection import AGES, ESTABLISHED, INFO_LENGTH, SEGMENTS, Connection, State
from keepaliveD.measuring.connections import Connections
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.measurement import Measurement
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.probing import answer
from keepaliveD.measuring.sweep import End
from keepaliveD.model.errors import Refusal, Unreachable
from keepaliveD.policy.measuring.measurement import How, Limits, PlannedTest, Seen, Side
from keepaliveD.policy.measuring.rounds import ROUNDS

PEER = Target("peer", AF_INET, ("198.51.100.1", 7272), token="any")
RTT = 0.02  # seconds
TURN = 1e-6  # seconds that each turn of the event loop takes
LATER = 1.105  # a silence of the ladder, divided by the one before
TRYING = 15.0  # seconds to open the connections, and to try twice more what was silent


class Hurried(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its clock goes on to the next thing that is due."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = selectors.DefaultSelector()
        select: Callable[[float | None], list[Any]] = selector.select

        def hurry(timeout: float | None = None) -> list[Any]:
            self.now += max(timeout or 0.0, TURN)
            return select(0)

        selector.select = hurry  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def add_reader(self, *_: object) -> None:
        """Have nothing to read: what arrives is found by looking."""

    def remove_reader(self, *_: object) -> bool:
        return True


@dataclass
class Quiet:
    """A connection over a device that forgets it `timeout` seconds after its last packet.

    The device then drops or rejects what comes. `awake`: keepalive keeps the connection known.
    `loose`: what this end sends makes the device remember the connection anew.
    """

    clock: Callable[[], float]
    timeout: float
    rejects: bool
    request: Request
    loose: bool = False
    unbroken: float = 0.0
    sock = None
    local_address = ("192.0.2.1", 50000)
    started: float = field(init=False)
    answered: bool = False
    was_reset: bool = False
    awake: bool = False

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def quiet(self) -> float:
        return self.clock() - self.started

    @property
    def quiet_at_most(self) -> float:
        return self.quiet

    def has_answered(self) -> bool:
        return self.answered or (self.heard() and not self.was_reset)

    @property
    def error(self) -> int:
        return int(self.was_reset)

    def state(self) -> State:
        return State(not self.was_reset, 0, self.quiet, self.quiet, RTT)

    def probe(self) -> None:
        known = self.awake or self.loose or self.quiet < self.timeout
        self.answered |= known
        self.was_reset |= not known and self.rejects

    def heard(self) -> bool:
        probed = self.request.probe_after / 1000
        heard = self.answered or self.was_reset or (0 < probed <= self.quiet and probed < self.timeout)
        self.unbroken = self.unbroken if heard else self.quiet
        return heard

    def ended(self) -> bool:
        return self.was_reset

    def restart(self) -> None:
        self.started, self.answered = self.clock(), False

    def keep(self, _: int) -> None:
        self.awake = True

    def refuse_from_afar(self, _: int) -> None:
        pass

    def close(self, *, silently: bool = False) -> None:
        del silently


def placed(loop: Hurried, monkeypatch: pytest.MonkeyPatch, make: Callable[[Request], Quiet], stands: float) -> None:
    """Have all connections of a measurement made so; a fresh one stands after so many seconds."""

    async def opened(_: Target, request: Request) -> Connection:
        return cast(Connection, make(request))

    async def absence(_: Target) -> None:
        await asyncio.sleep(stands)

    async def swept(*_: object) -> int:
        return 0

    monkeypatch.setattr(connections, "open_connection", opened)
    monkeypatch.setattr(far_end, "absence", absence)
    monkeypatch.setattr(connections, "sweep", swept)
    for each in (module, far_end, keeping, probing):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=loop.time, strftime=lambda _: "12:00:00"))


def measured(within: float, timeout: float, *, rejects: bool, monkeypatch: pytest.MonkeyPatch) -> Measurement:
    """A measurement with the defaults after its first round, or after so many seconds if that takes longer."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda request: Quiet(loop.time, timeout, rejects, request), RTT)

    async def tell() -> Measurement:
        measurement = Measurement(PEER, Limits(both_sides=True))
        late = loop.time() + within
        running = asyncio.create_task(measurement.run())
        while not measurement.rounds and loop.time() < late:
            await asyncio.sleep(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return measurement

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(tell())


@pytest.mark.parametrize("rejects", [False, True], ids=["drops", "rejects"])
@pytest.mark.parametrize("timeout", [20.0, 350.0])
def test_a_round_is_over_soon_after_a_connection_was_forgotten(
    timeout: float, rejects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for the planned end of the longest test, 80 minutes, where the device drops."""
    measurement = measured(timeout * LATER + TRYING, timeout, rejects=rejects, monkeypatch=monkeypatch)
    assert measurement.rounds == 1
    bracket = measurement.bracket
    assert bracket.survived is not None
    assert bracket.forgotten is not None
    assert bracket.survived < timeout <= bracket.forgotten
    assert bracket.how is (How.RESET if rejects else How.SILENCE)


@pytest.mark.parametrize("stands", [RTT, 0.7], ids=["idle", "busy"])
def test_a_loose_firewall_is_measured_almost_as_narrowly_as_another(
    stands: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the peer's probes show it. A bracket that ended 4 s later than the timeout counted as narrow."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda request: Quiet(loop.time, 20.0, False, request, loose=True), stands)
    measurement = Measurement(PEER, Limits(8.0, 40.0, both_sides=True))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    bracket = measurement.bracket
    assert bracket.revived_by is Side.HERE
    assert bracket.survived is not None
    assert bracket.forgotten is not None
    assert bracket.survived < 20.0 <= bracket.forgotten
    assert bracket.forgotten <= bracket.survived * LATER + 2.0


@dataclass
class Flushed(Quiet):
    """A connection over a device that loses its state at a moment, and forgets all connections with that."""

    at: float = math.inf

    def probe(self) -> None:
        self._age()
        super().probe()

    def heard(self) -> bool:
        self._age()
        return super().heard()

    def _age(self) -> None:
        if self.started < self.at <= self.clock():
            self.timeout, self.awake = 0.0, False


@pytest.mark.parametrize("listens", [True, False], ids=["listener", "foreign"])
def test_a_path_that_loses_its_state_is_no_path_with_a_shorter_timeout(
    listens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds into the first round ("conntrack -F"): it said "9.5 to 12 s", and that keepalive is in vain."""
    loop = Hurried()
    flush = loop.time() + 10.0
    placed(loop, monkeypatch, lambda request: Flushed(loop.time, 25.0, False, request, at=flush), RTT)
    far_end = PEER if listens else replace(PEER, token="")
    limits = Limits(4.0, 40.0, both_sides=True) if listens else Limits(4.0, 40.0, connections=8)
    measurement = Measurement(far_end, limits)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    bracket = measurement.bracket
    assert bracket.survived is not None
    assert bracket.forgotten is not None
    assert bracket.survived < 25.0 <= bracket.forgotten
    assert bracket.narrow(limits.ratio)
    assert (bracket.several_devices, bracket.once) == (False, False)
    ((by, count),) = measurement.losses
    assert by == "12:00:00"
    assert count > 2


def test_a_silent_peer_has_surely_probed_once_a_later_connection_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was begun earlier may have been answered before the peer was late."""
    loop = Hurried()
    plan = PlannedTest(20.0, Side.THERE)
    placed(loop, monkeypatch, lambda request: Quiet(loop.time, 10.0, False, request), 5.0)
    measurement = Measurement(PEER, Limits(both_sides=True))

    async def tell() -> Seen:
        connection = await measurement.connections.open(Request(0, 20_000))
        assert connection
        await asyncio.sleep(18.0)
        before = asyncio.create_task(answer(connection, PlannedTest(18.0), 18.0, measurement.far_end))  # until 23 s
        seen = await answer(connection, plan, 18.0, measurement.far_end)
        await before
        return seen

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        seen = runner.run(tell())
    assert seen.again == pytest.approx(28.3, abs=0.2)
    assert seen.until == pytest.approx(29.5, abs=0.2)


@dataclass
class Dismissed(Quiet):
    """A connection that a service closes after 12 seconds, a moment after it has said why."""

    def heard(self) -> bool:
        self.answered |= self.started < self.opened + 12.0 <= self.clock()
        return super().heard()

    def ended(self) -> bool:
        return self.clock() - self.opened >= 12.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.opened = self.started


def test_a_service_that_says_why_it_closes_has_closed_after_the_silence_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen between its words and its end, it closed after no silence at all."""
    loop = Hurried()
    service = replace(PEER, token="")
    placed(loop, monkeypatch, lambda request: Dismissed(loop.time, 60.0, False, request), RTT)
    measurement = Measurement(service, Limits(4.0, 40.0))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    assert measurement.bracket.closes == pytest.approx(12.0, abs=1.0)
    assert measurement.bracket.forgotten is None


@dataclass
class Kept(Quiet):
    """A connection that only an event ends once keepalive keeps it known: `lost` says whether it has happened."""

    lost: Callable[[float, float], bool] = lambda _opened, _now: False
    ends: float = math.inf  # seconds until the service closes it

    def __post_init__(self) -> None:
        super().__post_init__()
        self.opened = self.started

    def probe(self) -> None:
        if not self.lost(self.opened, self.clock()):
            super().probe()

    def ended(self) -> bool:
        return super().ended() or (self.clock() >= self.opened + self.ends and (self.awake or self.ends < self.timeout))


def finds(target: Target, make: Callable[[Hurried, Request], Quiet], monkeypatch: pytest.MonkeyPatch) -> Measurement:
    """A whole measurement of silences from 4 s to 40 s."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda request: make(loop, request), RTT)
    connections = 78 if target.is_listener else 8
    measurement = Measurement(target, Limits(4.0, 40.0, connections, both_sides=target.is_listener))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    return measurement


SERVICE = replace(PEER, token="")


@pytest.mark.parametrize("target", [PEER, SERVICE], ids=["listener", "service"])
def test_a_path_on_which_each_connection_with_keepalive_is_forgotten_counts_only_data(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(loop: Hurried, request: Request) -> Quiet:
        return Kept(loop.time, 11.0, False, request, lost=lambda opened, now: now >= opened + 11.0)

    assert finds(target, make, monkeypatch).keepalive_helps is False


def test_a_service_that_closes_later_than_the_path_forgets_does_not_make_keepalive_useless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the connection with keepalive gets its end: it said that the path forgot that one, too."""

    def make(loop: Hurried, request: Request) -> Quiet:
        return Kept(loop.time, 11.0, False, request, ends=13.0)

    measurement = finds(SERVICE, make, monkeypatch)
    assert measurement.bracket.forgotten == pytest.approx(11.5, abs=0.6)
    assert measurement.keepalive_helps is True


def test_a_service_that_ends_each_connection_with_keepalive_leaves_it_unknown_whether_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(loop: Hurried, request: Request) -> Quiet:
        return Kept(loop.time, 11.0, False, request, ends=11.001)

    measurement = finds(SERVICE, make, monkeypatch)
    assert measurement.bracket.forgotten is not None
    assert measurement.keepalive_helps is None


@pytest.mark.parametrize("target", [PEER, SERVICE], ids=["listener", "service"])
def test_a_firewall_that_was_flushed_once_does_not_make_keepalive_useless(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(loop: Hurried, request: Request) -> Quiet:
        return Kept(loop.time, 11.0, False, request, lost=lambda opened, now: opened < 1006.0 <= now)

    assert finds(target, make, monkeypatch).keepalive_helps is True


def test_an_outage_longer_than_the_timeout_does_not_make_keepalive_useless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept awake is forgotten in it, too; also if a second outage meets the next connection."""
    outages = ((1002.0, 1016.0), (1030.0, 1044.0))

    def make(loop: Hurried, request: Request) -> Quiet:
        def lost(opened: float, now: float) -> bool:
            return any(opened < until and now >= begin for begin, until in outages)

        return Kept(loop.time, 8.0, False, request, lost=lost)

    async def absence(_: Target) -> Refusal | None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(RTT)
        return Unreachable("down") if any(begin <= now < until for begin, until in outages) else None

    def make_with_outage(loop: Hurried, request: Request) -> Quiet:
        monkeypatch.setattr(far_end, "absence", absence)
        return make(loop, request)

    measurement = finds(PEER, make_with_outage, monkeypatch)
    assert measurement.far_end.outages
    assert measurement.keepalive_helps is not False


@dataclass
class Abrupt(Quiet):
    """A connection whose service resets it just after the answer to a probe, before anybody looks."""

    def probe(self) -> None:
        super().probe()
        self.was_reset = True


def test_a_service_that_resets_just_after_its_answer_is_not_taken_for_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(loop: Hurried, request: Request) -> Quiet:
        return Abrupt(loop.time, 60.0, False, request)

    measurement = finds(SERVICE, make, monkeypatch)
    assert measurement.bracket.forgotten is None
    assert measurement.bracket.survived == pytest.approx(40.0, abs=0.1)


class Prodded:
    """A socket over a device that forgets it after `timeout`, whose peer sends a keepalive probe `every` so often.

    The kernel answers those probes, and counts them, but keeps no time of them.
    """

    def __init__(self, clock: Callable[[], float], timeout: float, every: float) -> None:
        self._clock, self._timeout, self._every = clock, timeout, every
        self._opened = self._acknowledged = clock()
        self._answers = 0

    def _probes(self) -> int:
        return int((self._clock() - self._opened) / self._every)

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.1", 50000

    def getpeername(self) -> tuple[str, int]:
        return "198.51.100.1", 5432

    def recv(self, _: int) -> bytes:
        raise BlockingIOError

    def getsockopt(self, *_: int) -> bytes:
        info = bytearray(INFO_LENGTH)
        acknowledged, opened = (int((self._clock() - since) * 1000) for since in (self._acknowledged, self._opened))
        SEGMENTS.pack_into(info, 0, 0, self._answers + self._probes())
        AGES.pack_into(info, 0, opened, opened, acknowledged)
        info[0] = ESTABLISHED
        return bytes(info)

    def setsockopt(self, _: int, option: int, __: int) -> None:
        quiet = self._clock() - max(self._opened + self._probes() * self._every, self._acknowledged)
        if option == TCP_KEEPIDLE and quiet < self._timeout:
            self._acknowledged = self._clock()
            self._answers += 1

    def close(self) -> None:
        pass


def test_a_service_that_sends_keepalive_probes_makes_no_silence_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to four silences of 10 s counted as one: "does not forget within 40s", over a path that forgets after 15 s."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda _: Connection(Prodded(loop.time, 15.0, 10.0)), RTT)  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(connection_module, "clock", loop.time)
    measurement = Measurement(replace(PEER, token=""), Limits(4.0, 40.0, connections=8))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    assert measurement.bracket.survived is not None
    assert 9.0 < measurement.bracket.survived <= 10.0
    assert measurement.rounds < ROUNDS
    assert measurement.speaks


def test_a_listener_is_not_said_to_send_packets_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not; a packet that was lost is sent again."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda _: Connection(Prodded(loop.time, 90.0, 10.0)), RTT)  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(connection_module, "clock", loop.time)
    measurement = Measurement(PEER, Limits(4.0, 40.0, connections=8))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    assert measurement.speaks == 0


def test_a_connection_is_used_at_once_although_the_daemon_is_slow_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that were to stay awake were left alone meanwhile."""
    loop, met = Hurried(), []

    async def opened(_: Target, request: Request) -> Connection:
        return cast(Connection, Quiet(loop.time, 20.0, rejects=False, request=request))

    async def slowly(connection: Connection) -> None:
        met.append(connection)
        await asyncio.sleep(10.0)

    monkeypatch.setattr(connections, "open_connection", opened)

    async def tell() -> float:
        began = loop.time()
        connection = await Connections(FarEnd(PEER, lambda: None), 8, slowly).open(Request(0))
        took = loop.time() - began
        await asyncio.sleep(1.0)
        assert met == [connection]
        return took

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(tell()) < 1.0


@pytest.mark.parametrize("target", [PEER, SERVICE], ids=["listener", "service"])
@pytest.mark.parametrize("first_one_is_forgotten", [False, True])
def test_two_devices_of_which_one_counts_only_data_do_not_keep_connections_by_keepalive(
    target: Target, first_one_is_forgotten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection with keepalive said that it helps when it had taken the other device."""
    numbers, devices = itertools.count(), random.Random(1)

    def make(loop: Hurried, request: Request) -> Quiet:
        if devices.random() < 0.5 if next(numbers) else first_one_is_forgotten:
            return Kept(loop.time, 9.0, False, request, lost=lambda opened, now: now >= opened + 9.0)
        return Kept(loop.time, 18.0, False, request)

    measurement = finds(target, make, monkeypatch)
    assert measurement.bracket.several_devices
    assert measurement.keepalive_helps is False


@pytest.mark.parametrize("target", [PEER, SERVICE], ids=["listener", "service"])
def test_keepalive_helps_where_it_keeps_connections_whatever_device_they_take(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = random.Random(1)

    def make(loop: Hurried, request: Request) -> Quiet:
        return Kept(loop.time, devices.choice((9.0, 18.0)), False, request)

    measurement = finds(target, make, monkeypatch)
    assert measurement.bracket.several_devices
    assert measurement.keepalive_helps is True


class Service:
    """A service behind a device that drops: it holds a forgotten connection until a sweep frees it, if that can."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, can_be_freed: bool) -> None:
        self.held: set[tuple[str, int]] = set()
        self.most = 0
        self._loop = Hurried()
        self._ports = itertools.count(50000)
        placed(self._loop, monkeypatch, self._make, RTT)

        async def sweep(_: Target, ends: Sequence[End]) -> int:
            if not can_be_freed:
                return len([end for end in ends if end.address in self.held])
            self.held -= {end.address for end in ends}
            return 0

        monkeypatch.setattr(connections, "sweep", sweep)

    def measured(self) -> Measurement:
        measurement = Measurement(SERVICE, Limits(4.0, 40.0, connections=8))
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(measurement.run())
            runner.run(measurement.connections.free())
        return measurement

    def _make(self, request: Request) -> Quiet:
        made = Freed(self._loop.time, 11.0, False, request, service=self)
        made.local_address = ("192.0.2.1", next(self._ports))
        self.held.add(made.local_address)
        self.most = max(self.most, len(self.held))
        return made


@dataclass
class Freed(Quiet):
    """A connection of which the peer learns that it was closed, unless the path has forgotten it."""

    service: Service = field(kw_only=True)

    def close(self, *, silently: bool = False) -> None:
        if not silently or self.awake or self.answered:
            self.service.held.discard(self.local_address)


def test_a_service_never_holds_more_connections_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It held all that each round forgot until the end: sshd refused a third of its users meanwhile."""
    service = Service(monkeypatch, can_be_freed=True)
    measurement = service.measured()
    assert measurement.bracket.narrow(1.105)
    assert service.most <= 8 + 1
    assert not service.held


def test_a_service_that_cannot_be_freed_is_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind NAT with random ports it would keep all that any round forgets."""
    service = Service(monkeypatch, can_be_freed=False)
    measurement = service.measured()
    assert service.most <= 8 + 1
    assert measurement.connections.left_open == len(service.held)
    assert re.fullmatch(
        r"peer: may hold \d connections that cannot be freed, so no more are opened; "
        "run keepalivectl measure --listen there",
        measurement.far_end.gone,
    )
