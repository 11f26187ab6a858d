"""Advice about idle timeouts, from scans and from ends of connections."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keepaliveD.log import entries
from keepaliveD.log.entries import NOTICE
from keepaliveD.model.actions import Arm, Outcome
from keepaliveD.model.arming import LOOKED
from keepaliveD.model.causes import Cause
from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.questions import ArmThis, Asker
from keepaliveD.model.reports import ReportConnections, ReportEvidence
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import ArmAction, ArmRule, OnDrift, Path, Rules
from keepaliveD.model.sockets import Switch, Timer
from keepaliveD.policy.answers.explain import Surroundings, explain
from keepaliveD.policy.answers.questions import follow
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.timeouts.advice import MOST_PATHS, Advisor
from keepaliveD.policy.timeouts.moments import MOMENT
from keepaliveD.policy.verdicts.activity import Activity, nothing_known
from keepaliveD.policy.verdicts.connections import by_urgency
from keepaliveD.policy.verdicts.judge import judge
from tests.support.ends import end, reset
from tests.support.tables import CONFIGURED, Socket, idle, table

GUESS = Path("default", 600.0, Origin(Source.GUESS))
PRODUCTS = (240.0, 350.0, 600.0, 3600.0)
FIRST = np.zeros(1, np.uint32)  # of the paths


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
        counted = np.ones(connections, np.bool_)
        advisor.scanned(memory, judgement.assigned.index, counted, judgement.table.sockets)


def die(advisor: Advisor, *silences: float, peers: int = 9) -> None:
    """A device has reset connections, each after such a silence; no event explains two of them."""
    for number, silence in enumerate(silences):
        at = max(advisor._moments._newest[0], -1e6) + MOMENT + 1 + silence
        ended = end(**reset(silence=silence, ended_at=at, remote_low=number % peers))
        advisor.died(ended, FIRST, np.array([Cause.MIDDLEBOX_IDLE.value]), np.ones(1, np.bool_))


def shortened(*paths: Path) -> Advisor:
    """Three connections at three peers have died in silences that are shorter than the timeout of the first path."""
    advisor = Advisor(paths, PRODUCTS)
    survive(advisor, paths[0], 300.0, connections=30)
    die(advisor, 400.0, 420.0, 500.0)
    advisor.due(2000.0)
    return advisor


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
    (known,) = advisor.findings
    assert (known.path, known.deaths) == (GUESS, 4), "and still told to whoever asks"
    advisor.follow([GUESS, dataclasses.replace(GUESS, name="office")], PRODUCTS)
    assert advisor.findings == (), "what was counted for other paths is forgotten"
    advisor.follow([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    die(advisor, 400.0, 420.0, 500.0)
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
    for at in (-1e6, -8e5, -6e5):
        ended = end(**reset(silence=400.0, ended_at=at))
        cause = np.array([Cause.MIDDLEBOX_IDLE.value])
        advisor.died(ended, np.array([MOST_PATHS + 5], np.uint32), cause, np.ones(1, np.bool_))
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


@pytest.mark.parametrize("origin", [Origin(Source.GUESS), Origin(Source.PLATFORM, "Google Compute Engine")])
def test_a_guess_is_shortened_and_says_that_it_is_evidence(origin: Origin) -> None:
    guess, other = dataclasses.replace(GUESS, origin=origin), Path("office", 240.0, CONFIGURED)
    shorter, same = shortened(guess, other).with_evidence([guess, other])
    assert 200 < shorter.timeout <= 350
    assert str(shorter.origin).startswith("evidence: 3 connections died in silences of ")
    assert same is other


@pytest.mark.parametrize(
    "origin", [CONFIGURED, Origin(Source.MEASURED, "2026-11-28"), Origin(Source.PRESET, "gcp-vpc")], ids=str
)
def test_what_a_person_has_said_is_never_shortened(origin: Origin) -> None:
    paths = [dataclasses.replace(GUESS, origin=origin)]
    assert shortened(*paths).with_evidence(paths) is paths


def test_deaths_at_one_peer_and_fewer_than_three_shorten_nothing() -> None:
    for silences, peers in (((400.0, 420.0, 500.0), 1), ((400.0, 500.0), 2)):
        advisor, paths = Advisor([GUESS], PRODUCTS), [GUESS]
        survive(advisor, GUESS, 300.0, connections=30)
        die(advisor, *silences, peers=peers)
        advisor.due(2000.0)
        assert advisor.with_evidence(paths) is paths


def test_no_guess_is_lengthened() -> None:
    advisor, paths = Advisor([GUESS], PRODUCTS), [GUESS]
    survive(advisor, GUESS, 900.0, connections=40)
    (found,) = advisor.due(2000.0)
    assert not found.is_shorter
    assert advisor.with_evidence(paths) is paths


def test_a_shortened_guess_stays_the_same_as_long_as_the_evidence_allows_it_and_goes_with_it() -> None:
    advisor = shortened(GUESS)
    (before,) = advisor.with_evidence([GUESS])
    die(advisor, 410.0, 430.0)
    advisor.due(3000.0)
    assert advisor.with_evidence([GUESS])[0] is before
    survive(advisor, GUESS, 900.0, connections=200)
    advisor.due(4000.0)
    assert advisor.with_evidence([GUESS]) == [GUESS]


def test_the_entry_says_that_verdicts_follow_it_and_arming_does_not() -> None:
    for path, said in ((GUESS, True), (dataclasses.replace(GUESS, origin=CONFIGURED), False)):
        advisor = Advisor([path], PRODUCTS)
        survive(advisor, path, 300.0, connections=30)
        die(advisor, 400.0, 420.0, 500.0)
        (entry,) = entries.of(Outcome(ReportEvidence(advisor.due(2000.0))))
        assert entry.message.endswith("; until then verdicts follow it, and arming keeps to 10min") is said


KEPT = idle(10.0, cookie=2, timer=Timer.KEEPALIVE, keepalive=Switch.ON, keepidle=400, expires=390.0)
BARE = idle(10.0, cookie=3, timer=Timer.OFF, keepalive=Switch.OFF)
ARM = ArmRule("all", ArmAction.ENABLE, idle=None, interval=20, probes=31)
RULES = Rules({}, OnDrift.REAPPLY, [GUESS], [], 60.0, arm=[ARM])


def test_evidence_changes_verdicts_and_nothing_that_is_armed() -> None:
    scan = table(1000.0, KEPT, BARE)
    by_guess, actions = ScanDecider(RULES).observe(scan)
    told, same = ScanDecider(RULES).observe(scan, with_evidence=shortened(GUESS).with_evidence([GUESS]))
    assert [Verdict(each) for each in by_guess.forecast.verdict] == [Verdict.SAFE, Verdict.BARE]
    assert [Verdict(each) for each in told.forecast.verdict] == [Verdict.LATE, Verdict.BARE]
    assert [told.forecast.confirmed[0], by_guess.forecast.confirmed[0]] == [False, True], "it may be wrong"
    assert {one.origin.source for one in by_urgency(told, at_risk_only=True)} == {Source.EVIDENCE}
    (armed,), (armed_by_guess,) = ([each for each in all_ if isinstance(each, Arm)] for all_ in (same, actions))
    assert repr(tuple(armed.connections)) == repr(tuple(armed_by_guess.connections))  # nan is not equal to itself
    assert armed.wishes == armed_by_guess.wishes
    assert ([one.cookie for one in armed.connections], armed.wishes[0].times.idle > 350) == ([3], True)


def test_a_connection_that_only_evidence_takes_for_expired_is_presumed_to_be_and_reported_once_nobody_answers() -> None:
    """With a priority less than where somebody has written down the timeout."""
    quiet = idle(380.0, cookie=4, timer=Timer.OFF, keepalive=Switch.OFF)
    advisor, decider = shortened(GUESS), ScanDecider(RULES)
    for now, socket, reports in (
        (1000.0, quiet, 0),
        (1001.0, idle(381.0, cookie=4, timer=Timer.RETRANSMIT, expires=1.0, retransmits=3), 1),
    ):
        told, actions = decider.observe(table(now, socket), with_evidence=advisor.with_evidence([GUESS]))
        assert (Verdict(told.forecast.verdict[0]), told.forecast.confirmed[0]) == (Verdict.CUT, False)
        said = [one for one in actions if isinstance(one, ReportConnections)]
        assert len(said) == reports
    (entry,) = entries.of(Outcome(said[0]))
    assert (entry.event, entry.priority) == ("cut", NOTICE)


def test_a_connection_that_has_outlasted_the_guess_too_has_expired_for_certain() -> None:
    quiet = idle(700.0, cookie=4, timer=Timer.OFF, keepalive=Switch.OFF, since_packet=700.0)
    told, _ = ScanDecider(RULES).observe(table(1000.0, quiet), with_evidence=shortened(GUESS).with_evidence([GUESS]))
    assert (Verdict(told.forecast.verdict[0]), told.forecast.confirmed[0]) == (Verdict.CUT, True)


def test_whoever_judges_by_the_shortened_paths_alone_is_certain_of_nothing_that_rests_on_them() -> None:
    """As keepalivectl watch does: the daemon tells it these."""
    (shorter,) = shortened(GUESS).with_evidence([GUESS])
    seen = judge(table(1000.0, KEPT, idle(380.0, cookie=4, since_packet=380.0)), nothing_known(), [shorter], [])
    assert [Verdict(each) for each in seen.forecast.verdict] == [Verdict.LATE, Verdict.CUT]
    assert not seen.forecast.confirmed.any()


def test_what_a_person_arms_by_hand_gets_no_times_by_evidence_either() -> None:
    told, _ = ScanDecider(RULES).observe(table(1000.0, BARE), with_evidence=shortened(GUESS).with_evidence([GUESS]))
    action = follow(Asker(1, 0, 1), ArmThis(3, None, None, None), told, RULES, {})
    assert isinstance(action, Arm)
    assert action.wishes[0].times.idle > 350


def test_why_decides_without_evidence_what_the_rules_do() -> None:
    told, _ = ScanDecider(RULES).observe(
        table(1000.0, KEPT, BARE), with_evidence=shortened(GUESS).with_evidence([GUESS])
    )
    around = Surroundings(Keepalive(180, 20, 31), [ARM], [], {})
    read = np.zeros(2, LOOKED)
    read["stands"], read["system"] = [(7200, 75, 9, False)] * 2, [(7200, 75, 9, True)] * 2
    kept, bare = explain(told, by_urgency(told, at_risk_only=True), read, around)
    assert {one.connection.origin.source for one in (bare, kept)} == {Source.EVIDENCE}
    assert (kept.connection.verdict, kept.decision, kept.remedy) == (Verdict.LATE, None, None)
    assert isinstance(bare.decision, Armed)
    assert bare.decision.after.times.idle > 350
