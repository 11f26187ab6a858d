"""What becomes of a probe, and what that shows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.greeting import Request
from keepaliveD.measuring.probing import answer
from keepaliveD.policy.measuring.measurement import PlannedTest, Seen, Side
from tests.measuring.hurried import PEER, SERVICE, Hurried, Quiet, finds, placed


def test_a_silent_peer_has_surely_probed_once_a_later_connection_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was begun earlier may have been answered before the peer was late."""
    loop = Hurried()
    plan = PlannedTest(20.0, Side.THERE)
    quiet = Quiet(loop.time, 10.0, False, Request(0, 20_000))
    placed(loop, monkeypatch, lambda _: quiet, 5.0)
    connection, far_end = cast(Connection, quiet), FarEnd(PEER, lambda: None)

    async def tell() -> Seen:
        await asyncio.sleep(18.0)
        before = asyncio.create_task(answer(connection, PlannedTest(18.0), 18.0, far_end))  # until 23 s
        seen = await answer(connection, plan, 18.0, far_end)
        await before
        return seen

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        seen = runner.run(tell())
    assert seen.again == pytest.approx(28.3, abs=0.2)
    assert seen.until == pytest.approx(29.5, abs=0.2)


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
