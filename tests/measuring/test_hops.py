"""How many hops a path has, counted by probes that pass few, on a clock that does not make anybody wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from keepaliveD.measuring import hops as module
from keepaliveD.measuring.connection import Connection, State
from tests.measuring.hurried import RTT, Hurried


@dataclass
class Routed:
    """A connection over so many hops, the last of which forgets it `timeout` seconds after its last packet."""

    clock: Callable[[], float]
    hops: int
    timeout: float
    rtt: float = RTT
    allowed: int = -1
    packets: int = 0
    known: bool = True
    refreshed: float = field(init=False)  # when a packet has passed the last hop
    began: float = field(init=False)
    arriving: list[float] = field(default_factory=list)  # when answers will have come
    before: int = 0
    probed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refreshed = self.began = self.clock()

    def state(self) -> State:
        last = max((at for at in self.arriving if at <= self.clock()), default=self.began)
        return State(True, self._arrived, self.clock() - last, self.clock() - last, self.rtt)

    @property
    def _arrived(self) -> int:
        return sum(at <= self.clock() for at in self.arriving)

    def set_hops(self, allowed: int) -> None:
        self.allowed = allowed

    def stop_probing(self) -> None:
        pass

    def restart(self) -> None:
        self.before = self._arrived

    def heard(self) -> bool:
        return self._arrived != self.before

    def probe(self) -> None:
        now = self.clock()
        self.probed.append(self.allowed)
        if self.allowed != -1 and self.allowed < self.hops:
            return
        self.known = self.known and now - self.refreshed < self.timeout
        if self.known:
            self.refreshed = now
            if self.allowed in (-1, *range(self.hops + 1, 255)):
                self.arriving.append(now + self.rtt)


def counted(hops: int, timeout: float = math.inf, rtt: float = RTT) -> int | None:
    loop = Hurried()
    with pytest.MonkeyPatch.context() as patched, asyncio.Runner(loop_factory=lambda: loop) as runner:
        patched.setattr(module, "time", SimpleNamespace(monotonic=loop.time))

        async def count() -> int | None:
            return await module.count_devices(cast(Connection, Routed(loop.time, hops, timeout, rtt)))

        return runner.run(count())


@pytest.mark.parametrize("hops", [0, 1, 4, 29])
def test_the_peer_answers_only_probes_that_pass_all_hops(hops: int) -> None:
    assert counted(hops) == hops


def test_no_hop_forgets_the_connection_while_others_are_counted() -> None:
    """It was left quiet for 3 s a hop, and what was forgotten then had no hop."""
    assert counted(12, timeout=15.0) == 12


def test_a_late_answer_is_not_taken_for_one_to_the_next_probe() -> None:
    assert counted(4, rtt=1.4) == 4


def test_the_hops_of_a_path_that_has_forgotten_the_connection_are_not_known() -> None:
    assert counted(4, timeout=0.5) is None


def test_more_hops_than_can_be_counted_are_not_known() -> None:
    assert counted(40) is None
