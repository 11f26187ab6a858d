"""Tests of hops that show nothing are made again."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from keepaliveD.measuring.measurement import Measurement
from keepaliveD.measuring.tomography import ATTEMPTS, Tomography
from keepaliveD.policy.measurement import Bracket, EndOfSilence, Result
from keepaliveD.policy.tomography import HopPlan, HopResult


def made(opens_at: int, monkeypatch: pytest.MonkeyPatch, gone: str = "") -> tuple[Counter[HopPlan], int]:
    """How often each test is made if each second one shows something only at that attempt, and how many have."""
    measurement = SimpleNamespace(
        bracket=Bracket(20.0, 22.0), target=SimpleNamespace(is_listener=True), circumstances=SimpleNamespace(gone=gone)
    )
    tomography = Tomography(cast(Measurement, measurement), 80.0)
    attempts: Counter[HopPlan] = Counter()

    async def count(_: Tomography) -> bool:
        tomography.map.names = ["", ""]
        return True

    async def test(_: Tomography, number: int, each: HopPlan, every: int) -> None:
        del every
        attempts[each] += 1
        shows = attempts[each] >= opens_at or number % 2 == 0
        end = EndOfSilence.SURVIVED if shows else EndOfSilence.VOID
        tomography.map.results.append(HopResult(each, Result(each.quiet, end)))

    monkeypatch.setattr(Tomography, "_count", count)
    monkeypatch.setattr(Tomography, "_test", test)
    asyncio.run(tomography.run())
    known = {each.plan for each in tomography.map.results if each.result.end is EndOfSilence.SURVIVED}
    return attempts, len(known)


def test_what_has_shown_nothing_is_tried_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without these tests a hop's timeout was too vague to be told from its neighbour's."""
    attempts, known = made(2, monkeypatch)
    assert set(attempts.values()) == {1, 2}
    assert known == len(attempts)


def test_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, known = made(1000, monkeypatch)
    assert max(attempts.values()) == ATTEMPTS
    assert known < len(attempts)


def test_nothing_is_tried_once_the_far_end_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, _ = made(1, monkeypatch, gone="the listener has ended")
    assert not attempts
