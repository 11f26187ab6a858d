"""Connections with keepalive show whether that keeps them known, whatever else ends them."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from keepaliveD.measuring import far_end as module
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.opening import Target
from keepaliveD.model.errors import Refusal, Unreachable
from tests.measuring.hurried import PEER, RTT, SERVICE, Hurried, Quiet, finds


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
        monkeypatch.setattr(module, "absence", absence)
        return make(loop, request)

    measurement = finds(PEER, make_with_outage, monkeypatch)
    assert measurement.far_end.outages
    assert measurement.keepalive_helps is not False


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
