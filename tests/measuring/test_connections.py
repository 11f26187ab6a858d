"""A measurement opens no more connections than the far end is to hold, and frees what that still holds of them."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from keepaliveD.measuring import connections as module
from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.connections import Connections
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.measurement import Measurement
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.sweep import End
from keepaliveD.policy.measuring.measurement import Limits
from tests.measuring.hurried import PEER, RTT, SERVICE, Hurried, Quiet, placed


def test_a_connection_is_used_at_once_although_the_daemon_is_slow_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that were to stay awake were left alone meanwhile."""
    loop, met = Hurried(), []

    async def opened(_: Target, request: Request) -> Connection:
        return cast(Connection, Quiet(loop.time, 20.0, rejects=False, request=request))

    async def slowly(connection: Connection) -> None:
        met.append(connection)
        await asyncio.sleep(10.0)

    monkeypatch.setattr(module, "open_connection", opened)

    async def tell() -> float:
        began = loop.time()
        connection = await Connections(FarEnd(PEER, lambda: None), 8, slowly).open(Request(0))
        took = loop.time() - began
        await asyncio.sleep(1.0)
        assert met == [connection]
        return took

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(tell()) < 1.0


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

        monkeypatch.setattr(module, "sweep", sweep)

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
