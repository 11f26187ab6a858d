"""The rounds of a measurement: how long they take, and what they show."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from socket import TCP_KEEPIDLE

import pytest

from keepaliveD.measuring import connection as connection_module
from keepaliveD.measuring.connection import AGES, ESTABLISHED, INFO_LENGTH, SEGMENTS, Connection
from keepaliveD.measuring.measurement import Measurement
from keepaliveD.policy.measuring.measurement import How, Limits, Side
from keepaliveD.policy.measuring.rounds import ROUNDS
from tests.measuring.hurried import PEER, RTT, Hurried, Quiet, placed

LATER = 1.105  # a silence of the ladder, divided by the one before
TRYING = 15.0  # seconds to open the connections, and to try twice more what was silent


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
