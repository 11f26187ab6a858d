"""The connections of one scan, counted."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import numpy as np
import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path
from keepaliveD.model.snapshot import LEFT, Kind
from keepaliveD.model.sockets import Switch, Timer
from keepaliveD.policy.verdicts.connections import connections
from keepaliveD.policy.verdicts.judge import count
from keepaliveD.policy.verdicts.totals import totals
from tests.support.tables import FIREWALL, FOREVER, Socket, idle, table, watch

GUESSED = dataclasses.replace(FIREWALL, origin=Origin(Source.GUESS))


def safe(**others: Unpack[Socket]) -> Socket:
    """One that keepalive keeps."""
    return idle(10.0, timer=Timer.KEEPALIVE, expires=100.0, keepalive=Switch.ON) | others


def test_connections_that_have_all_in_common_are_counted_together() -> None:
    counted = totals(
        watch(
            table(
                1000.0,
                idle(10.0, cookie=1),
                idle(20.0, cookie=2),
                idle(20.0, cookie=3, keepalive=Switch.OFF),
                idle(400.0, cookie=4),
                idle(1.0, cookie=5, timer=Timer.KEEPALIVE, expires=100.0),
                idle(1.0, cookie=6, keepalive=Switch.ON, timer=Timer.RETRANSMIT, expires=1.0),
                idle(1.0, cookie=7, timer=Timer.RETRANSMIT, expires=1.0),
            )
        )
    )
    assert {kind: number for kind, number in counted.by_kind.items() if number} == {
        Kind("firewall", Verdict.BARE, Shown.OFF): 3,
        Kind("firewall", Verdict.CUT, Shown.OFF): 1,
        Kind("firewall", Verdict.SAFE, Shown.ON): 2,
        Kind("firewall", Verdict.SAFE, Shown.HIDDEN): 1,
    }
    assert sum(counted.by_kind.values()) == 7
    assert counted.complete
    assert counted.namespaces == 1


def test_every_combination_is_there_even_without_a_connection() -> None:
    """A number that goes away raises no alert."""
    counted = totals(watch(table(1000.0)))
    assert len(counted.by_kind) == len(Verdict) * len(Shown)
    assert not any(counted.by_kind.values())


def test_time_left_is_that_of_connections_at_risk_and_none_of_those_that_are_cut() -> None:
    left = totals(watch(table(1000.0, idle(290.0, cookie=1), idle(250.0, cookie=2), idle(900.0, cookie=3)))).left
    assert dict(zip(LEFT, left.within, strict=True)) == {0: 1, 15: 2, 60: 3, 300: 3, 900: 3, 3600: 3, 14400: 3}
    assert left.number == 3
    assert 59 < left.seconds < 61


def test_a_connection_on_a_path_that_never_forgets_has_no_end() -> None:
    never = dataclasses.replace(FIREWALL, timeout=FOREVER)
    assert totals(watch(table(1000.0, idle(10.0, cookie=1)), path=never)).left.number == 0


@pytest.mark.parametrize(("path", "guessed"), [(GUESSED, 2), (FIREWALL, 0)])
def test_connections_that_are_safe_by_a_guess_are_counted(path: Path, guessed: int) -> None:
    """Not one that has survived a longer silence, nor one that a guess alone puts at risk."""
    quiet = [table(1000.0, idle(0.0, cookie=4)), table(1350.0, idle(350.0, cookie=4))]
    bare, first, second = idle(250.0, cookie=1), safe(cookie=2), safe(cookie=3)
    survivor = safe(**idle(2.0, cookie=4, segments_in=11))
    judgement = watch(*quiet, table(1365.0, bare, first, second, survivor), path=path)
    assert judgement.forecast.verdict.tolist() == [Verdict.BARE, *[Verdict.SAFE] * 3]
    one_by_one = sum(one.rests_on_guess for one in connections(judgement, np.arange(4)))
    assert count(judgement).guessed == one_by_one == guessed
