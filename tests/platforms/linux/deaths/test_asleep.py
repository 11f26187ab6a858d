"""Silences in which the machine was suspended, of which the kernel's ages know nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from keepaliveD.model.deaths import DEATH
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import clock
from keepaliveD.platforms.linux.deaths.asleep import Asleep

HOUR = 3600.0
Sleep = Callable[[float, float], None]


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Sleep:
    """Set the clocks: how long the machine has run, how long it was suspended besides."""

    def set_clocks(ran: float, slept: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: ran + slept)
        monkeypatch.setattr(clock, "slept", lambda: slept)

    return set_clocks


def ended(at: float, heard: float, silence: float, **facts: float) -> Column:
    """An end at this instant of a connection whose peer was heard so many seconds before."""
    rows: Column = np.zeros(1, DEATH)
    for name in DEATH.names or ():
        if DEATH[name].kind == "f":
            rows[name] = math.nan
    for name, value in {"ended_at": at, "since_acked": heard, "silence": silence, **facts}.items():
        rows[name] = value
    return rows


def one_nap(clocks: Sleep, looked_before: float = 1000.0, looked_after: float = 1001.0) -> Asleep:
    """The machine was suspended for an hour between these looks."""
    clocks(looked_before, 0)
    asleep = Asleep()
    clocks(looked_after, HOUR)
    asleep.look()
    return asleep


def test_a_suspension_within_a_silence_counts(clocks: Sleep) -> None:
    """Quiet from 999 on; the machine slept; a packet at 1000.9 was answered by a reset at once."""
    rows = ended(1001.0 + HOUR, heard=2.0, silence=1.9)
    one_nap(clocks).lengthen(rows)
    assert rows["silence"][0] == pytest.approx(HOUR + 1.9)


def test_a_suspension_before_the_last_packet_does_not_count(clocks: Sleep) -> None:
    asleep = one_nap(clocks)
    clocks(1100.0, HOUR)
    asleep.look()
    rows = ended(1100.0 + HOUR, heard=20.0, silence=19.9)
    asleep.lengthen(rows)
    assert rows["silence"][0] == pytest.approx(19.9)


def test_a_suspension_after_the_first_lost_packet_does_not_count(clocks: Sleep) -> None:
    """It was lost at 990, and sent again after the machine had slept."""
    rows = ended(1001.0 + HOUR, heard=16.0, silence=5.0)
    one_nap(clocks).lengthen(rows)
    assert rows["silence"][0] == pytest.approx(5.0)


def test_where_it_may_have_been_before_or_after_the_silence_is_not_known(clocks: Sleep) -> None:
    """Nobody has looked at the clocks for long."""
    rows = ended(1001.0 + HOUR, heard=2.0, silence=1.9)
    one_nap(clocks, looked_before=500.0).lengthen(rows)
    assert math.isnan(rows["silence"][0])


def test_a_silence_before_a_fin_is_lengthened_too(clocks: Sleep) -> None:
    rows = ended(1001.0 + HOUR, heard=0.1, silence=5.0, since_fin=0.5)
    one_nap(clocks).lengthen(rows)
    assert rows["silence"][0] == pytest.approx(HOUR + 5.0)


def test_a_machine_that_was_not_suspended_changes_nothing(clocks: Sleep) -> None:
    clocks(1000.0, 10.0)
    asleep = Asleep()
    clocks(1001.0, 10.001)
    asleep.look()
    rows = ended(1011.0, heard=2.0, silence=1.9)
    asleep.lengthen(rows)
    assert rows["silence"][0] == pytest.approx(1.9)
