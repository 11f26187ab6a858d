"""Who resets: the TTL of packets says whether they come from as far away as the peer's."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.measurement import Measurement
from keepaliveD.measuring.resets import find_hops_left
from keepaliveD.policy.measuring.measurement import How, Limits
from tests.measuring.hurried import RTT, SERVICE, Hurried, Quiet, placed


@dataclass
class Far(Quiet):
    """A connection on which the peer's packets arrive with `peers` hops left, and the device's reset with `devices`."""

    peers: int = 62
    devices: int = 63
    lost: Callable[[], bool] = lambda: False
    least: int = 0
    probing: float | None = None  # when the next probe leaves

    def refuse_from_afar(self, least: int) -> None:
        self.least = least

    def restart(self) -> None:
        super().restart()
        self.probing = None

    def probe(self) -> None:
        self.probing = self.clock()

    def heard(self) -> bool:
        while self.probing is not None and self.probing <= self.clock() and not self.answered and not self.was_reset:
            self.probing += 1.0
            forgotten = not self.awake and self.quiet >= self.timeout
            if not self.lost() and (self.devices if forgotten else self.peers) >= self.least:
                self.answered |= not forgotten
                self.was_reset |= forgotten
        return super().heard()

    def ended(self) -> bool:
        self.heard()
        return super().ended()


def measured(monkeypatch: pytest.MonkeyPatch, peers: int, devices: int) -> Measurement:
    """A measurement of a path that rejects after 40 s."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda request: made(loop, request), RTT)

    def made(loop: Hurried, request: Request) -> Far:
        return Far(loop.time, 40.0, True, request, peers=peers, devices=devices)

    measurement = Measurement(SERVICE, Limits(16.0, 80.0, connections=8))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(measurement.run())
    return measurement


@pytest.mark.parametrize(
    ("peers", "devices", "by_peer"),
    [(62, 62, True), (62, 63, False), (126, 63, False), (62, 254, False), (255, 255, True), (62, 61, True)],
    ids=["as far away", "nearer", "peer 128", "device 255", "no router", "another way"],
)
def test_a_reset_with_another_ttl_is_not_the_peers(
    peers: int, devices: int, by_peer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router's reset with 64 counted as the peer's, whose packets start with 128."""
    measurement = measured(monkeypatch, peers, devices)
    assert measurement.bracket.how is How.RESET
    assert measurement.resets.hops_left == peers
    assert measurement.resets.by_peer is by_peer


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_lost_packets_make_no_peer_seem_nearer(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that was lost counted as one that was refused: the peer's reset was that of a nearer device."""
    loop = Hurried()
    placed(loop, monkeypatch, lambda _: made(0), RTT)

    def made(seed: int) -> Far:
        chance = random.Random(seed)
        return Far(loop.time, 1e9, True, Request(0), lost=lambda: chance.random() < share)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        found = Counter(runner.run(find_hops_left(cast(Connection, made(seed)))) for seed in range(40))
    assert set(found) <= {0, 62}, found
    assert found[62] or share > 0.1
