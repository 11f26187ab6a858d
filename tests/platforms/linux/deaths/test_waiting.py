"""Ends that wait to be judged come out in time, once each."""

from __future__ import annotations

import numpy as np

from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.bpf.deaths import RECORD
from keepaliveD.platforms.linux.deaths.waiting import Waiting


def ended(*instants: int) -> Column:
    """Ends at these instants, in nanoseconds; the cookie is the instant, too."""
    records = np.zeros(len(instants), RECORD)
    records["cookie"] = records["ended_at"] = instants
    return records


def cookies(pieces: list[Column]) -> list[int]:
    return [cookie for piece in pieces for cookie in piece["cookie"].tolist()]


def test_an_end_is_taken_once_it_is_old_enough() -> None:
    waiting = Waiting()
    assert (waiting.first, waiting.take(100.0, 10)) == (None, [])
    waiting.add(ended(30, 10, 20))
    waiting.add(ended(25, 40))
    waiting.add(ended())
    assert waiting.first == 10
    assert sorted(cookies(waiting.take(25.0, 10))) == [10, 20, 25]
    assert (len(waiting), waiting.first) == (2, 30)
    assert cookies(waiting.take(100.0, 10)) == [30, 40]
    assert len(waiting) == 0


def test_of_too_many_the_oldest_are_taken_early() -> None:
    waiting = Waiting()
    waiting.add(ended(1, 2, 3))
    waiting.add(ended(4, 5, 6))
    assert cookies(waiting.take(0.0, 2)) == [1, 2, 3, 4]
    assert cookies(waiting.take(0.0, 2)) == []
    assert cookies(waiting.take(0.0, 0)) == [5, 6]


def test_what_comes_after_an_end_is_noted_wherever_it_waits() -> None:
    waiting = Waiting()
    waiting.add(ended(1, 2))
    waiting.add(ended(3))
    waiting.take(1.0, 10)
    waiting.note({})
    waiting.note({1: 9, 2: 4, 3: 5, 7: 6})
    assert [piece["afterwards"].tolist() for piece in waiting.take(10.0, 10)] == [[4], [5]]
