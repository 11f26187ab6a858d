"""Tests of hops that show nothing are made again."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from keepaliveD.measuring import tomography as module
from keepaliveD.measuring.connections import Connections
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.tomography import ATTEMPTS, Tomography
from keepaliveD.policy.measuring.measurement import Bracket, EndOfSilence, Result
from keepaliveD.policy.measuring.tomography import HopPlan, HopResult


def made(
    opens_at: int, monkeypatch: pytest.MonkeyPatch, gone: str = "", hops_left: int = 62, room: int = 78
) -> tuple[Counter[HopPlan], int]:
    """How often each test is made if each second one shows something only at that attempt, and how many have."""
    connection = SimpleNamespace(close=lambda: None)

    async def opened(_: object) -> object:
        return connection

    async def freed() -> None:
        assert under_way == 0

    far_end = SimpleNamespace(target=SimpleNamespace(is_listener=True), gone=gone)
    connections = SimpleNamespace(open=opened, room=room, has_room=lambda: True, free=freed)
    tomography = Tomography(cast(FarEnd, far_end), cast(Connections, connections), 80.0)
    attempts: Counter[HopPlan] = Counter()
    under_way = 0

    async def count(_: object) -> int:
        return 2

    async def names(*_: object) -> list[str]:
        return ["", ""]

    async def test(_: Tomography, number: int, each: HopPlan, every: int) -> None:
        del every
        attempts[each] += 1
        nonlocal under_way
        under_way += 1
        await asyncio.sleep(0)
        assert under_way <= room
        under_way -= 1
        shows = attempts[each] >= opens_at or number % 2 == 0
        end = EndOfSilence.SURVIVED if shows else EndOfSilence.VOID
        tomography.map.results.append(HopResult(each, Result(each.quiet, end)))

    monkeypatch.setattr(module, "count_devices", count)
    monkeypatch.setattr(module, "name_devices", names)
    monkeypatch.setattr(Tomography, "_see_where_it_stops", names)
    monkeypatch.setattr(Tomography, "_test", test)
    asyncio.run(tomography.run(Bracket(20.0, 22.0), hops_left))
    known = {each.plan for each in tomography.map.results if each.result.end is EndOfSilence.SURVIVED}
    return attempts, len(known)


def test_what_has_shown_nothing_is_tried_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without these tests a hop's timeout was too vague to be told from its neighbour's."""
    attempts, known = made(2, monkeypatch)
    assert set(attempts.values()) == {1, 2}
    assert known == len(attempts)


@pytest.mark.parametrize(("hops_left", "last"), [(62, {1, 2}), (63, {2}), (0, {1, 2})], ids=["alike", "shorter", "-"])
def test_the_peer_keeps_no_hop_awake_where_the_way_back_has_other_routers(
    hops_left: int, last: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its probes kept the device awake that forgets first: "> 32s", over one that forgets after 12 s."""
    attempts, _ = made(1, monkeypatch, hops_left=hops_left)
    assert {each.last for each in attempts} == last


def test_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, known = made(1000, monkeypatch)
    assert max(attempts.values()) == ATTEMPTS
    assert known < len(attempts)


def test_nothing_is_tried_once_the_far_end_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, _ = made(1, monkeypatch, gone="the listener has ended")
    assert not attempts


def test_no_more_connections_are_quiet_at_a_time_than_the_measurement_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of which 8 are said to be left quiet at a time got 16 for two hops, and 160 for twenty."""
    attempts, known = made(1, monkeypatch, room=8)
    assert known == len(attempts) == 16
