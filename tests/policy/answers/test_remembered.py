"""What is remembered of each socket is the same after it was told, some sockets at a time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from keepaliveD.policy.answers import remembered as module
from keepaliveD.policy.answers.listing import Lister
from keepaliveD.policy.answers.remembered import OF_ALL, remembered, some_remembered
from keepaliveD.policy.verdicts.activity import COLUMNS, Activity
from keepaliveD.policy.verdicts.judge import Judgement, judge
from tests.support.tables import FIREWALL, idle, table, watch

COOKIES = (7, 3, 2**64 - 1, 5, 11)


def scanned(*counts: int) -> Judgement:
    """Scans in which a peer probes: so many segments by each, 10 s after one another."""
    return watch(
        *(
            table(
                10.0 * number,
                *(idle(10.0 * number, cookie=cookie, segments_in=count, segments_out=count) for cookie in COOKIES),
            )
            for number, count in enumerate(counts, 1)
        )
    )


def all_told(judgement: Judgement) -> list[dict[str, Any]]:
    listed, answers, after = Lister().listed(judgement, None, 100.0), [], None
    while True:
        told, after = some_remembered(listed, after)
        answers.append(json.loads(json.dumps(told, allow_nan=False)))
        if after is None:
            return answers


def rows_of(activity: Activity) -> dict[int, tuple[Any, ...]]:
    """By cookie, what is remembered."""
    rows = zip(*(getattr(activity, name).tolist() for name in COLUMNS), strict=True)
    return {row[COLUMNS.index("cookie")]: tuple(map(str, row)) for row in rows}


@pytest.mark.parametrize("few", [1, 2, len(COOKIES), 100])
def test_what_was_told_is_what_is_remembered(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", few)
    judgement = scanned(1, 2, 3)
    answers = all_told(judgement)
    memory = remembered(answers)
    assert memory is not None
    assert len(answers) == -(-len(COOKIES) // few)
    assert [getattr(memory, name) for name in OF_ALL] == [getattr(judgement.activity, name) for name in OF_ALL]
    assert rows_of(memory) == rows_of(judgement.activity)
    assert memory.cookie.tolist() == sorted(COOKIES)
    assert np.isfinite(memory.peer_period).all()


def test_the_next_scan_is_judged_by_it_as_by_the_memory_itself() -> None:
    judgement = scanned(1, 2, 3)
    memory = remembered(all_told(judgement))
    assert memory is not None
    following = table(35.0, *(idle(35.0, cookie=cookie, segments_in=3, segments_out=3) for cookie in COOKIES))
    by_told, by_own = (judge(following, before, (FIREWALL,), ()).forecast for before in (memory, judgement.activity))
    assert by_told.verdict.tolist() == by_own.verdict.tolist()
    assert by_told.cut_at.tolist() == by_own.cut_at.tolist()
    assert by_told.due.tolist() == by_own.due.tolist()


def test_answers_of_two_scans_are_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 2)
    before, after = all_told(scanned(1, 2)), all_told(scanned(1, 2, 3))
    assert remembered([*before[:1], *after[1:]]) is None


def test_a_daemon_that_remembers_nothing_says_so() -> None:
    memory = remembered(all_told(watch(table(10.0))))
    assert memory is not None
    assert not len(memory)


@pytest.mark.parametrize(
    "wrong", [{}, {"type": "<f8", "octets": "%"}, {"type": "<f9", "octets": ""}, {"type": "<f8", "octets": "AAAA"}, 7]
)
def test_what_another_version_tells_is_refused(wrong: Any) -> None:
    (told,) = all_told(scanned(1))
    told["columns"]["beat"] = wrong
    with pytest.raises((KeyError, TypeError, ValueError)):
        remembered([told])


def test_what_a_newer_version_tells_besides_is_left_out() -> None:
    (told,) = all_told(scanned(1))
    assert remembered([{**told, "columns": {**told["columns"], "new": 7}}])
