"""Paths and connections of a measurement, simulated on a clock that does not make anybody wait."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from socket import AF_INET
from types import SimpleNamespace
from typing import Any, cast

import pytest

from keepaliveD.measuring import connections, far_end, keeping, measurement, probing
from keepaliveD.measuring.connection import Connection, State
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.measurement import Measurement
from keepaliveD.measuring.opening import Target
from keepaliveD.policy.measuring.measurement import Limits

PEER = Target("peer", AF_INET, ("198.51.100.1", 7272), token="any")
SERVICE = replace(PEER, token="")
RTT = 0.02  # seconds
TURN = 1e-6  # seconds that each turn of the event loop takes


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
    for each in (measurement, far_end, keeping, probing):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=loop.time, strftime=lambda _: "12:00:00"))


def finds(target: Target, make: Callable[[Hurried, Request], Quiet], monkeypatch: pytest.MonkeyPatch) -> Measurement:
    """A whole measurement of silences from 4 s to 40 s."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda request: make(loop, request), RTT)
    connections = 78 if target.is_listener else 8
    measurement = Measurement(target, Limits(4.0, 40.0, connections, both_sides=target.is_listener))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    return measurement
