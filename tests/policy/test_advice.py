"""Advice about idle timeouts, from scans and from ends of connections."""

from __future__ import annotations

import numpy as np

from keepaliveD.log import entries
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportEvidence
from keepaliveD.model.results import Outcome
from keepaliveD.model.rules import Path
from keepaliveD.policy.activity import Activity, nothing_known
from keepaliveD.policy.advice import MOST_PATHS, Advisor
from keepaliveD.policy.judge import judge
from tests.support.tables import CONFIGURED, Socket, idle, table

GUESS = Path("default", 600.0, Origin(Source.GUESS))
PRODUCTS = (240.0, 350.0, 600.0, 3600.0)
ENDED = np.dtype([("remote_high", "u8"), ("remote_low", "u8"), ("silence", "f8")])


def survive(advisor: Advisor, path: Path, silence: float, connections: int) -> None:
    """So many connections are quiet for so long, and then heard."""
    memory: Activity = nothing_known()
    for now, extra in ((1000.0, 0), (1000.0 + silence - 1, 0), (1000.0 + silence + 1, 1)):
        since = 1.0 if extra else now - 1000.0
        sockets: list[Socket] = [
            idle(since, cookie=1 + number, segments_in=10 + extra, segments_out=10 + extra)
            for number in range(connections)
        ]
        judgement = judge(table(now, *sockets), memory, [path], [])
        memory = judgement.activity
        advisor.scanned(memory, judgement.assigned.index)


def die(advisor: Advisor, *silences: float, peers: int = 9) -> None:
    ended = np.zeros(len(silences), ENDED)
    ended["silence"] = silences
    ended["remote_low"] = np.arange(len(silences)) % peers
    advisor.died(ended, np.zeros(len(silences), np.uint32), np.ones(len(silences), np.bool_))


def test_nothing_is_advised_before_anything_has_happened() -> None:
    assert Advisor([GUESS], PRODUCTS).due(1000.0) == ()


def test_deaths_in_silences_that_are_shorter_than_the_timeout_are_advised_about_once_a_day() -> None:
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    die(advisor, 400.0, 420.0, 500.0)
    (found,) = advisor.due(2000.0)
    assert found.is_shorter
    assert 200 < found.timeout <= 350
    die(advisor, 410.0)
    assert advisor.due(3000.0) == ()
    die(advisor, 410.0)
    assert len(advisor.due(2000.0 + 86400.0)) == 1


def test_deaths_at_one_peer_are_not() -> None:
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    die(advisor, 400.0, 420.0, 500.0, peers=1)
    assert advisor.due(2000.0) == ()


def test_silences_longer_than_the_timeout_are_advised_about() -> None:
    short = Path("office", 240.0, CONFIGURED)
    advisor = Advisor([short], PRODUCTS)
    survive(advisor, short, 900.0, connections=40)
    (found,) = advisor.due(2000.0)
    assert (found.is_shorter, found.survived) == (False, 40)


def test_nobody_is_advised_to_lengthen_the_timeout_of_all_other_peers() -> None:
    """Some of them may be behind a path that forgets sooner."""
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 900.0, connections=40)
    (entry,) = entries.of(Outcome(ReportEvidence(advisor.due(2000.0))))
    assert "is probably too short: connections survived 40 silences longer than 10min" in entry.message
    assert "write a [[path]] for these peers with timeout = " in entry.message
    assert "watch.default_timeout = " not in entry.message


def test_other_paths_begin_anew() -> None:
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    die(advisor, 400.0, 420.0, 500.0)
    advisor.follow([Path("office", 600.0, CONFIGURED)], PRODUCTS)
    assert advisor.due(2000.0) == ()


def test_memory_is_bounded_however_many_paths_are_configured() -> None:
    many = [Path(str(number), 600.0, CONFIGURED) for number in range(MOST_PATHS + 10)]
    advisor = Advisor(many, PRODUCTS)
    ended = np.zeros(3, ENDED)
    ended["silence"], ended["remote_low"] = 400.0, (1, 2, 3)
    advisor.died(ended, np.full(3, MOST_PATHS + 5, np.uint32), np.ones(3, np.bool_))
    assert advisor.due(1000.0) == ()
    assert len(advisor._evidence.died) == MOST_PATHS


def test_the_entry_says_what_to_write() -> None:
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    die(advisor, 400.0, 420.0, 500.0)
    (entry,) = entries.of(Outcome(ReportEvidence(advisor.due(2000.0))))
    assert entry.event == "advice"
    assert entry.message.startswith(
        "path default: idle timeout 10min (guess: watch.default_timeout) is probably too long: "
        "3 connections died in silences of "
    )
    assert 'write a [[path]] for these peers with timeout = "' in entry.message
    assert ', or watch.default_timeout = "' in entry.message
    assert entry.fields["KEEPALIVE_TIMEOUT_SOURCE"] == "guess"
    assert entry.fields["KEEPALIVE_COUNT"] == 3
