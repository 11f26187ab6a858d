"""What is reported of connections that ended, and whether it was foretold."""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import math
from collections.abc import Sequence
from pathlib import Path as File
from typing import Unpack

import numpy as np
import pytest

from keepaliveD.cli.targets.named import process_name
from keepaliveD.model.autopsy import Alike, Common, Death
from keepaliveD.model.causes import ONLY_BESIDE, Cause, Foretold
from keepaliveD.model.connections import Owner, Verdict, WhatCounts
from keepaliveD.model.deaths import Deaths, Reset
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from keepaliveD.model.sockets import OWN, Switch, TcpState, Timer
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming.arming import Considered, times
from keepaliveD.policy.autopsy.autopsy import (
    AT_ONCE,
    FIRST_PAUSE,
    KINDS_OF_UNIT,
    KINDS_OF_USERS,
    MOST_CGROUPS,
    MOST_KINDS,
    MOST_MEASURING,
    MOST_OWNERS,
    MOST_UNITS,
    SINGLES,
    Autopsy,
    AutopsyRules,
)
from keepaliveD.policy.autopsy.remedies import (
    BY_A_NAT_OR_HERE,
    EARLY,
    FORGOTTEN_HERE,
    FORGOTTEN_PERHAPS,
    IN_TIME,
    PREVENTABLE,
    REJECTED_HERE,
    RESET_PERHAPS_BY_A_DEVICE,
    THERE_OR_HERE,
    WITHOUT_KEEPALIVE,
    remedy,
)
from keepaliveD.policy.autopsy.saves import Saves
from keepaliveD.policy.autopsy.silences import MOST as MOST_PEERS
from keepaliveD.policy.timeouts.moments import MOMENT
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import judge
from tests.support.ends import FORGOTTEN_BY_REJECT, GUESS, MEASURED, Facts, ends, live, reset, timed_out
from tests.support.tables import Socket, idle, table

OFFICE = Path("office", 300.0, Origin(Source.CONFIGURED, "file"), (ipaddress.ip_network("10.71.3.0/24"),))
OURS = 4026531840
ALL = frozenset(Cause)
KILLED: Facts = {"error": 103, "closer": b"ss", "closer_pid": 77}


def rules(*paths: Path, causes: frozenset[Cause] = ALL, ignore: Sequence[str] = ()) -> AutopsyRules:
    return AutopsyRules(causes, paths or (GUESS,), [ipaddress.ip_network(network) for network in ignore])


def died(*facts: Facts, ordinary: int = 0, lost: int = 0) -> Deaths:
    return Deaths(ends(facts), ordinary, lost)


def only(reports: Sequence[Alike]) -> Death:
    (report,) = reports
    (death,) = report.examples
    return death


def test_one_end_is_reported_with_its_evidence() -> None:
    death = only(Autopsy(rules(GUESS, OFFICE)).observe(died(FORGOTTEN_BY_REJECT), 1001.0))
    assert (death.cause, death.hop, death.peer_hop, death.path) == (Cause.MIDDLEBOX_IDLE, 2, 4, "office")
    assert str(death.remote) == "10.71.3.2:5432"
    assert death.evidence == (
        "quiet for 3.5s before",
        "a reset was accepted: RST; hop limit 63, so it was sent at hop 2; "
        "the peer's packets have 61, so the peer is at hop 4",
        "the reset has the form of a stack that does not know the connection: "
        "no ACK flag, identification 0, window 0, no timestamps",
        "bytes that the peer did not acknowledge: 5",
        "its program is told ECONNRESET",
    )


@pytest.mark.parametrize("name", MEASURED)
def test_every_end_has_evidence_and_a_remedy_or_why_not(name: str) -> None:
    death = only(Autopsy(rules()).observe(died(MEASURED[name][2]), 1001.0))
    assert death.evidence
    assert all(line.isprintable() for line in death.evidence)
    assert len(set(death.evidence)) == len(death.evidence)
    found = remedy(death)
    assert found.because
    assert bool(found.lines) == (death.cause in PREVENTABLE) or death.cause is Cause.UNKNOWN_TO_PEER


def test_every_cause_has_a_remedy_or_why_not() -> None:
    assert set(WITHOUT_KEEPALIVE) | set(PREVENTABLE) | ONLY_BESIDE == set(Cause)


def test_a_hundred_thousand_that_end_alike_are_one_report() -> None:
    many = np.repeat(ends([timed_out(unacked=5, silence=0.3)]), 100_000)
    reports = Autopsy(rules()).observe(Deaths(many), 1001.0)
    assert [report.count for report in reports] == [100_000]


def test_a_few_are_reported_one_by_one_and_more_at_growing_intervals() -> None:
    autopsy = Autopsy(rules())
    for number in range(AT_ONCE):
        assert autopsy.observe(died(KILLED), 1000.0 + number)
    assert not autopsy.observe(died(KILLED, KILLED), 1010.0)
    assert autopsy.next_due == 1000.0 + FIRST_PAUSE
    assert not autopsy.due(1059.0)
    (report,) = autopsy.due(1060.0)
    assert (report.count, report.seconds, len(report.examples)) == (2, 60.0, 1)
    assert not autopsy.observe(died(KILLED), 1061.0)
    assert autopsy.next_due == 1060.0 + 2 * FIRST_PAUSE


def test_what_is_held_back_can_be_had_at_once_and_is_not_reported_again() -> None:
    autopsy = Autopsy(rules())
    autopsy.observe(died(*[KILLED] * 10, *[FORGOTTEN_BY_REJECT] * 10), 1000.0)
    autopsy.observe(died(*[KILLED] * 3, FORGOTTEN_BY_REJECT), 1010.0)
    held = {report.examples[0].cause: (report.count, report.seconds) for report in autopsy.held_back(1020.0)}
    assert held == {Cause.LOCAL_KILL: (3, 20.0), Cause.MIDDLEBOX_IDLE: (1, 20.0)}
    assert autopsy.held_back(1030.0) == ()
    assert autopsy.next_due == math.inf


def test_what_is_held_back_stays_apart_where_a_reload_numbers_the_paths_otherwise() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    autopsy.observe(died(*[FORGOTTEN_BY_REJECT] * 10), 1000.0)
    autopsy.observe(died(FORGOTTEN_BY_REJECT), 1001.0)
    other = Path("other", 300.0, OFFICE.origin, OFFICE.networks)
    autopsy.follow(rules(GUESS, other))
    (report,) = autopsy.observe(died(FORGOTTEN_BY_REJECT), 1002.0)
    assert report.examples[0].path == "other"
    assert [report.examples[0].path for report in autopsy.held_back(1003.0)] == ["office"]


PROGRAM_ENDED: Facts = {"exiting": 1, "sent_reset": 1, "unread": 3, "closer": b"back up", "closer_pid": 812}


def test_the_program_that_ended_its_own_connection_is_its_process() -> None:
    death = only(Autopsy(rules()).observe(died(PROGRAM_ENDED), 1001.0))
    assert (death.cause, death.owner) == (Cause.PROGRAM_ENDED, Owner(812, "back up"))


@pytest.mark.parametrize("facts", [KILLED, {**PROGRAM_ENDED, "by_kernel": 1}])
def test_whoever_killed_a_connection_is_not_its_process(facts: Facts) -> None:
    assert only(Autopsy(rules()).observe(died(facts), 1001.0)).owner == Owner()


def test_the_last_processes_are_remembered_and_not_more() -> None:
    autopsy = Autopsy(rules())
    for cookie in range(MOST_OWNERS + 1):
        autopsy.learn_owners({cookie: Owner(7 + cookie, "backup")})
    first, last = ({**FORGOTTEN_BY_REJECT, "cookie": cookie} for cookie in (0, MOST_OWNERS))
    assert only(autopsy.observe(died(first), 1001.0)).owner == Owner()
    assert only(autopsy.observe(died(last), 1001.0)).owner == Owner(7 + MOST_OWNERS, "backup")


def test_after_a_pause_without_any_they_are_reported_one_by_one_again() -> None:
    autopsy = Autopsy(rules())
    autopsy.observe(died(*[KILLED] * 100), 1000.0)
    assert not autopsy.due(1100.0)
    assert only(autopsy.observe(died(KILLED), 1101.0)).cause is Cause.LOCAL_KILL


def test_ends_that_differ_are_reported_apart() -> None:
    reports = Autopsy(rules()).observe(died(KILLED, {**KILLED, "cgroup": 7}, FORGOTTEN_BY_REJECT), 1001.0)
    assert len(reports) == 3


def test_memory_is_bounded_however_many_kinds_of_ends_there_are() -> None:
    autopsy = Autopsy(rules())
    many = np.repeat(ends([KILLED]), 10_000)
    many["cgroup"] = np.arange(10_000)
    autopsy.observe(Deaths(many), 1001.0)
    assert len(autopsy._kinds) <= MOST_KINDS + len(Cause)


def test_what_more_kinds_than_are_kept_apart_do_not_have_in_common_is_not_said_of_all() -> None:
    """Neither a unit nor a path is named for ends that are together only because there are too many kinds."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    autopsy.name({cgroup: f"{cgroup}.service" for cgroup in range(1, 1000)})
    many = np.repeat(ends([FORGOTTEN_BY_REJECT]), 999)
    many["cgroup"] = np.arange(1, 1000)
    reports = autopsy.observe(Deaths(many), 1001.0)
    held = autopsy.held_back(1002.0)
    assert sum(each.count for each in (*reports, *held)) == 999
    (rest,) = [each for each in held if each.count > 1]
    assert (rest.count, rest.common) == (999 - MOST_KINDS, Common.NOTHING)
    assert {each.common for each in held if each is not rest} == {Common.UNIT | Common.PATH}


def test_what_many_kinds_of_one_unit_have_in_common_is_the_unit() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    autopsy.name({7: "ssh.service"})
    many = np.repeat(ends([{**FORGOTTEN_BY_REJECT, "cgroup": 7}]), 50)
    many["peer_ttl"], many["reset_ttl"] = 1, 1 + np.arange(1, 51)
    autopsy.observe(Deaths(many), 1001.0)
    (rest,) = [each for each in autopsy.held_back(1002.0) if each.count > 1]
    assert (rest.count, rest.common) == (50 - KINDS_OF_UNIT, Common.UNIT)


def test_those_held_back_of_units_that_are_not_known_name_the_user_alone() -> None:
    autopsy = Autopsy(rules())
    autopsy.observe(died(*[KILLED] * 10), 1000.0)
    autopsy.observe(died({**KILLED, "cgroup": 7}, {**KILLED, "cgroup": 8}), 1001.0)
    (report,) = autopsy.held_back(1002.0)
    assert (report.count, report.common) == (2, Common.USER | Common.PATH)


def test_ends_that_were_foretold_are_reported_apart_from_those_that_were_not() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=290.0, warn=True)
    foretold = reset(reset_ttl=63, silence=301.0)
    surprising = {**foretold, "cookie": 2}
    reports = autopsy.observe(died(foretold, *[surprising] * 100), 1001.0)
    told = {each.examples[0].hindsight.foretold: each.count for each in reports}
    assert told == {Foretold.FORETOLD: 1, Foretold.NEVER_SCANNED: 100}


def test_the_example_of_many_is_the_one_whose_cause_is_the_least_sure() -> None:
    sure, doubtful = (reset(reset_ttl=63, peer_ttl=ttl, silence=3.5, unacked=5) for ttl in (61, 62))
    autopsy = Autopsy(rules())
    (report,) = autopsy.observe(died(sure, doubtful, *[sure] * 10), 1001.0)
    assert (report.count, report.examples[0].confidence) == (12, 0.85)
    autopsy.observe(died(sure), 1002.0)
    autopsy.observe(died(doubtful), 1003.0)
    autopsy.observe(died(sure), 1004.0)
    (report,) = autopsy.held_back(1005.0)
    assert (report.count, report.examples[0].confidence) == (3, 0.85)


def test_however_many_kinds_there_are_few_owners_are_looked_for_in_a_minute() -> None:
    autopsy = Autopsy(rules())
    autopsy.name({cgroup: f"{cgroup}.service" for cgroup in range(1100)})
    many = np.repeat(ends([KILLED]), 100)
    many["cgroup"] = np.arange(100)
    assert len(autopsy.observe(Deaths(many), 1001.0)) == SINGLES
    assert len(autopsy.due(1061.0)) == 100 - SINGLES
    many["cgroup"] += 1000
    assert len(autopsy.observe(Deaths(many), 1062.0)) == SINGLES


def test_a_unit_with_ends_of_many_kinds_hides_no_other() -> None:
    """Whoever is in a unit may make cgroups below it, and choose the hop limits of what he sends himself."""
    autopsy = Autopsy(rules())
    autopsy.name({**dict.fromkeys(range(1, 1000), "user@4711.service"), 1000: "ssh.service"})
    strange = np.repeat(ends([FORGOTTEN_BY_REJECT]), 999)
    strange["cgroup"] = np.arange(1, 1000)
    strange["reset_ttl"] = 1 + np.arange(999) % 60
    autopsy.observe(Deaths(strange), 1001.0)
    assert len(autopsy._kinds) <= KINDS_OF_UNIT + len(Cause)
    (report,) = autopsy.observe(died({**FORGOTTEN_BY_REJECT, "cgroup": 1000}), 1002.0)
    assert only((report,)).owner.unit == "ssh.service"


def test_a_user_without_a_unit_hides_no_end_of_another() -> None:
    autopsy = Autopsy(rules())
    attacker, victim = ({**KILLED, "uid": uid} for uid in (4711, 1000))
    many, one = sorted(autopsy.observe(died(*[attacker] * 6, victim), 1001.0), key=lambda each: -each.count)
    assert (many.count, many.common, many.examples[0].uid) == (6, Common.UNIT | Common.USER | Common.PATH, 4711)
    assert only((one,)).uid == 1000


def test_a_user_without_a_unit_does_not_use_up_what_others_may_have_reported_one_by_one() -> None:
    autopsy = Autopsy(rules())
    strange = np.repeat(ends([{**FORGOTTEN_BY_REJECT, "uid": 4711}]), 20)
    strange["peer_ttl"], strange["reset_ttl"] = 1, 1 + np.arange(1, 21)
    autopsy.observe(Deaths(strange), 1001.0)
    assert only(autopsy.observe(died({**FORGOTTEN_BY_REJECT, "uid": 1000}), 1002.0)).uid == 1000


def test_one_with_thousands_of_user_ids_hides_no_end_of_a_unit() -> None:
    """Whoever has a range of subordinate user ids is as many users as he likes."""
    autopsy = Autopsy(rules())
    autopsy.name({7: "ssh.service"})
    many = np.repeat(ends([KILLED]), 10_000)
    many["uid"] = 100_000 + np.arange(10_000)
    autopsy.observe(Deaths(many), 1001.0)
    assert len(autopsy._kinds) <= KINDS_OF_USERS + len(Cause)
    assert only(autopsy.observe(died({**KILLED, "cgroup": 7}), 1002.0)).owner.unit == "ssh.service"


def test_one_who_logs_in_very_often_hides_no_end_of_a_unit_or_of_another_user() -> None:
    """A login session counts as its user."""
    autopsy = Autopsy(rules())
    sessions = {100 + number: f"session-{number}.scope" for number in range(2 * MOST_KINDS)}
    autopsy.name({7: "ssh.service", 8: "session-c1.scope", **sessions})
    many = np.repeat(ends([{**KILLED, "uid": 4711}]), 2 * len(sessions))
    many["cgroup"] = np.repeat(list(sessions), 2)
    told = autopsy.observe(Deaths(many), 1001.0)
    assert told[0].examples[0].owner.unit == "session-0.scope"
    assert len(autopsy._kinds) == 1
    assert only(autopsy.observe(died({**KILLED, "cgroup": 7}), 1002.0)).owner.unit == "ssh.service"
    assert only(autopsy.observe(died({**KILLED, "cgroup": 8, "uid": 1000}), 1003.0)).uid == 1000
    (held,) = autopsy.held_back(1004.0)
    assert (held.count, held.common, held.examples[0].uid) == (
        2 * len(sessions) - sum(each.count for each in told),
        Common.USER | Common.PATH,
        4711,
    )


def test_any_number_of_logins_leaves_room_to_count_the_ends_of_units_apart() -> None:
    autopsy = Autopsy(rules())
    sessions = {100 + number: f"session-{number}.scope" for number in range(MOST_UNITS + 1)}
    autopsy.name({**sessions, 7: "ssh.service"})
    many = np.repeat(ends([KILLED]), len(sessions))
    many["cgroup"] = list(sessions)
    autopsy.observe(Deaths(many), 1001.0)
    autopsy.observe(died({**KILLED, "cgroup": 7}), 1002.0)
    assert autopsy.tally.foretold == {
        ("default", "", Foretold.NOT_FORESEEABLE): len(sessions),
        ("default", "ssh.service", Foretold.NOT_FORESEEABLE): 1,
    }


def test_users_whose_ends_are_forgotten_are_counted_no_more() -> None:
    autopsy = Autopsy(rules())
    autopsy.observe(died(*({**KILLED, "uid": uid} for uid in range(20))), 1001.0)
    assert autopsy._kinds_of
    autopsy.due(1001.0 + FIRST_PAUSE)
    assert not autopsy._kinds
    assert not autopsy._kinds_of


def test_ends_of_one_unit_are_alike_whoever_ran_it() -> None:
    autopsy = Autopsy(rules())
    autopsy.name({7: "ssh.service"})
    (report,) = autopsy.observe(died(*({**KILLED, "cgroup": 7, "uid": uid} for uid in range(6))), 1001.0)
    assert (report.count, report.common) == (6, Common.UNIT | Common.PATH)


def test_causes_that_nobody_wants_to_read_about_are_only_counted() -> None:
    autopsy = Autopsy(rules(causes=frozenset({Cause.LOCAL_KILL})))
    assert len(autopsy.observe(died(KILLED, {"fin_first": 1, "silence": 0.1}, ordinary=7, lost=2), 1001.0)) == 1
    assert autopsy.tally.by_cause == {
        (Cause.LOCAL_KILL, Foretold.NOT_FORESEEABLE): 1,
        (Cause.PEER_CLOSED, Foretold.NOT_FORESEEABLE): 1,
    }
    assert (autopsy.tally.ordinary, autopsy.tally.lost) == (7, 2)


def test_ends_of_connections_that_measure_a_path_are_counted_apart_and_not_reported() -> None:
    """The daemon knows them by their cookies, which root alone may tell it; each ends once."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    autopsy.count_apart((1, 2))
    measuring = [{**FORGOT, "cookie": 1}, {**KILLED, "cookie": 2}]
    (report,) = autopsy.observe(died(*measuring, {**KILLED, "cookie": 3}), 1001.0)
    assert [death.cookie for death in report.examples] == [3]
    assert autopsy.tally.measured == 2
    assert sum(autopsy.tally.by_cause.values()) == sum(autopsy.tally.foretold_by().values()) == 1
    assert autopsy.observe(died({**KILLED, "cookie": 2}), 1002.0)


def test_of_too_many_connections_that_measure_a_path_the_oldest_are_forgotten() -> None:
    autopsy = Autopsy(rules())
    for first in range(0, MOST_MEASURING + 1, 1024):
        autopsy.count_apart(range(first, first + 1024))
    autopsy.observe(died({**KILLED, "cookie": 0}, {**KILLED, "cookie": MOST_MEASURING}), 1001.0)
    assert autopsy.tally.measured == 1


def test_what_connections_that_measure_a_path_live_through_is_no_evidence() -> None:
    """Neither what root's have survived, nor that they died: they were quiet on purpose, until they did."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    autopsy.count_apart((1, 2, 3))
    of_service = Socket(netns=OURS, uid=0, local_port=40000, remote_port=5432)
    for survived in (0.0, 80.0):
        sockets = [Socket(cookie=cookie) | of_service for cookie in (1, 2, 3)]
        judgement = judge(dataclasses.replace(table(990.0, *sockets), netns=OURS), nothing_known(), (GUESS, OFFICE), ())
        autopsy.remember(judgement, dataclasses.replace(judgement.activity, survived=np.full(3, survived)))
    for cookie in (1, 2, 3):
        autopsy.observe(died({**FORGOT, **of_service, "cookie": cookie, "ended_at": 500.0 * cookie}), 1001.0)
    autopsy.advisor.due(5000.0)
    evidence = autopsy.advisor._evidence
    assert (evidence.lived.sum(), evidence.died.sum(), autopsy.tally.measured) == (0, 0, 3)


def test_ignored_networks_are_not_judged() -> None:
    assert not Autopsy(rules(ignore=["10.71.3.0/24"])).observe(died(KILLED), 1001.0)


def watched(
    autopsy: Autopsy, *, idle: float, warn: bool = False, path: Path = OFFICE, state: TcpState = TcpState.ESTABLISHED
) -> None:
    """A scan at 990 of a connection that was quiet for so long."""
    quiet: Socket = {"since_sent": idle, "since_received": idle, "since_acked": idle}
    look = table(990.0, {"cookie": 1, "remote": "10.71.3.2", "remote_port": 5432, "state": state, **quiet})
    judgement = judge(look, nothing_known(), (GUESS, path), ())
    verdict = judgement.forecast.verdict
    told = verdict if warn else np.zeros(1, np.uint8)
    told_at = np.full(1, 985.0)
    memory = dataclasses.replace(judgement.activity, judged=verdict, reported=told, reported_at=told_at)
    autopsy.remember(judgement, memory)


def test_an_end_that_was_warned_of_is_foretold() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=290.0, warn=True)
    death = only(autopsy.observe(died(reset(reset_ttl=63, silence=301.0)), 1001.0))
    assert death.hindsight[:3] == (Foretold.FORETOLD, Verdict.BARE, 15.0)
    assert autopsy.tally.foretold == {("office", "", Foretold.FORETOLD): 1}
    assert autopsy.tally.foretold_by(path="office") == {Foretold.FORETOLD: 1}
    assert not autopsy.tally.foretold_by(path="default")


def test_an_own_firewall_that_drops_what_was_warned_of_had_perhaps_forgotten_it() -> None:
    dropped = reset(reset_ttl=64, reset_local=1, dropped_by_firewall=1, silence=301.0)
    for warn, foretold in ((True, Foretold.FORETOLD), (False, Foretold.NOT_FORESEEABLE)):
        autopsy = Autopsy(rules(GUESS, OFFICE))
        watched(autopsy, idle=290.0, warn=warn)
        death = only(autopsy.observe(died(dropped), 1001.0))
        assert (death.cause, death.hindsight.foretold) == (Cause.LOCAL_FIREWALL, foretold)
        assert (remedy(death).because == FORGOTTEN_HERE) == bool(remedy(death).lines) == warn


FORGOT = reset(reset_ttl=63, silence=400.0)
NOT_TOLD = {
    "no scan has seen it": (None, FORGOT, Foretold.NEVER_SCANNED),
    "the path forgot it sooner": (100.0, reset(reset_ttl=63, silence=110.0), Foretold.EARLIER_THAN_EXPECTED),
    "a warning was not yet due": (100.0, FORGOT, Foretold.NOT_YET_DUE),
    "the peer aborted": (100.0, live(silence=110.0), Foretold.NOT_FORESEEABLE),
    "a NAT, perhaps": (100.0, reset(silence=400.0, unacked=5), Foretold.NOT_FORESEEABLE),
}


@pytest.mark.parametrize("name", NOT_TOLD)
def test_an_end_that_was_not_foretold_says_why(name: str) -> None:
    idle, facts, foretold = NOT_TOLD[name]
    autopsy = Autopsy(rules(GUESS, OFFICE))
    if idle is not None:
        watched(autopsy, idle=idle)
    death = only(autopsy.observe(died(facts), 1001.0))
    assert death.hindsight.foretold is foretold
    assert math.isnan(death.hindsight.warned_before)


@pytest.mark.parametrize(
    ("state", "foretold"),
    [
        (TcpState.FIN_WAIT1, Foretold.EARLIER_THAN_EXPECTED),
        (TcpState.FIN_WAIT2, Foretold.UNKNOWN_VERDICT),
        (TcpState.CLOSE_WAIT, Foretold.UNKNOWN_VERDICT),
    ],
)
def test_a_close_that_was_not_answered_ends_a_silence_of_an_open_connection(
    state: TcpState, foretold: Foretold
) -> None:
    """Its verdict is unknown from the close on. For one that was half-closed no timeout is known."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=110.0, state=state)
    death = only(autopsy.observe(died(timed_out(state=state, silence=110.0, unacked=1, retransmits=9)), 1001.0))
    assert (death.cause, death.hindsight.foretold) == (Cause.SILENT_AFTER_IDLE, foretold)


def test_an_end_is_held_against_the_timeout_that_verdicts_followed() -> None:
    """Evidence had shortened it. Arming does not follow evidence, and so the remedy writes a timeout as before."""
    autopsy = Autopsy(rules(GUESS))
    memory = dataclasses.replace(nothing_known(), cookie=np.arange(30, dtype=np.uint64), survived=np.zeros(30))
    for survived in (0.0, 80.0):
        seen = dataclasses.replace(memory, survived=np.full(30, survived))
        sockets = table(0.0, *[idle(1.0)] * 30).sockets
        autopsy.advisor.scanned(seen, np.zeros(30, np.intp), np.ones(30, np.bool_), sockets)
    forgot = reset(reset_ttl=63, silence=110.0, netns=OWN)
    for peer in range(3):
        autopsy.observe(died({"remote_low": peer, "ended_at": 200.0 * peer, **forgot}), 800.0)
    autopsy.advisor.due(900.0)
    (shorter,) = autopsy.advisor.with_evidence([GUESS])
    assert shorter.timeout < 110.0
    watched(autopsy, idle=50.0)
    death = only(autopsy.observe(died(reset(reset_ttl=63, silence=110.0)), 1001.0))
    assert death.hindsight.foretold is Foretold.NOT_YET_DUE
    assert (death.timeout, remedy(death).lines[0]) == (240.0, "[[path]]")


def test_a_connection_that_ended_before_the_last_scans_is_still_known() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=290.0, warn=True)
    for later in range(3):
        judgement = judge(table(991.0 + later), nothing_known(), (GUESS,), ())
        autopsy.remember(judgement, judgement.activity)
    assert only(autopsy.observe(died(FORGOT), 1001.0)).hindsight.foretold is Foretold.FORETOLD


def test_what_is_gone_is_forgotten_after_a_while() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=290.0, warn=True)
    for later in (1.0, 10.0):
        judgement = judge(table(991.0 + later), nothing_known(), (GUESS,), ())
        autopsy.remember(judgement, judgement.activity)
    assert only(autopsy.observe(died(FORGOT), 1001.0)).hindsight.foretold is Foretold.NEVER_SCANNED


def test_the_remedy_for_a_path_that_is_not_configured_names_the_path_and_arms_it() -> None:
    death = only(Autopsy(rules()).observe(died(FORGOTTEN_BY_REJECT), 1001.0))
    assert remedy(death).lines == (
        "[[path]]",
        'name = "to 10.71.3.2"',
        'networks = ["10.71.3.2/32"]',
        'timeout = "1s"  # half of 3.5s, a silence in which the path forgot',
        "",
        "[[arm]]",
        'path = "to 10.71.3.2"',
        'action = "enable"',
        'idle = "auto"',
    )


def test_the_remedy_goes_by_the_shortest_silence_in_which_one_with_the_same_peer_was_forgotten() -> None:
    """The newest one may have been silent for longer. Not by one that was busy, nor by those of others."""
    autopsy = Autopsy(rules())
    sooner, longer = ({**FORGOTTEN_BY_REJECT, "silence": silence} for silence in (24.0, 54.0))
    ended = ends([{**sooner, "silence": silence} for silence in (7.0, 8.0, 9.0, 0.2)])
    ended["uid"][0], ended["netns"][1], ended["remote_low"][2] = 1234, OURS + 1, 77
    autopsy.observe(Deaths(ended), 900.0)
    assert _half(only(autopsy.observe(died(longer), 1000.0))) == "half of 54s"
    assert _half(only(autopsy.observe(died(sooner), 1001.0))) == "half of 24s"
    assert _half(only(autopsy.observe(died(longer), 1002.0))) == "half of 24s"


def _half(death: Death) -> str:
    """Of what the timeout in the remedy is half."""
    (line,) = (line for line in remedy(death).lines if line.startswith("timeout"))
    return line.partition("# ")[2].partition(",")[0]


def test_of_very_many_peers_the_last_ones_are_remembered() -> None:
    autopsy = Autopsy(rules())
    first = {**FORGOTTEN_BY_REJECT, "silence": 24.0}
    autopsy.observe(died(first), 1000.0)
    many = np.repeat(ends([first]), MOST_PEERS)
    many["remote_low"] = np.arange(MOST_PEERS)
    autopsy.observe(Deaths(many), 1001.0)
    assert _half(only(autopsy.observe(died({**first, "silence": 54.0}), 1100.0))) == "half of 54s"


@pytest.mark.parametrize(("interval", "written"), [(15.0, '"500ms"'), (0.6, '"500ms"'), (0.5, None), (0.0, None)])
def test_the_remedy_says_how_often_a_path_that_forgets_so_soon_is_to_be_scanned(
    interval: float, written: str | None
) -> None:
    """With the path alone a warning comes too late, and keepalivectl check says so."""
    death = only(Autopsy(rules()).observe(died(FORGOTTEN_BY_REJECT), 1001.0))
    lines = remedy(death, interval).lines
    scans = () if written is None else ("[watch]", f"interval = {written}  # at most half of the idle timeout", "")
    assert lines == (*scans, *remedy(death).lines)


def test_the_remedy_for_a_user_timeout_after_a_silence_is_keepalive_of_the_programs_own() -> None:
    """No rule arms a socket with a short TCP_USER_TIMEOUT."""
    outlasted = timed_out(unacked=5, silence=250.0, since_lost=20.1, user_timeout=20_000)
    death = only(Autopsy(rules(GUESS, OFFICE)).observe(died(outlasted), 1001.0))
    assert remedy(death) == ((), FORGOTTEN_PERHAPS)
    busy = only(Autopsy(rules(GUESS, OFFICE)).observe(died({**outlasted, "silence": 0.1}), 1001.0))
    assert remedy(busy).because.startswith("keepalive would not have helped")


def test_a_peer_that_resets_after_a_silence_may_be_a_device_that_a_probe_would_have_kept_from_it() -> None:
    """As a load balancer does, in the form and from the distance of the peer."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    idle, busy = (only(autopsy.observe(died(live(silence=one)), 1001.0)) for one in (60.0, 0.1))
    assert remedy(idle) == ((), RESET_PERHAPS_BY_A_DEVICE)
    survived = dataclasses.replace(idle, hindsight=idle.hindsight._replace(survived=90.0))
    assert remedy(survived) == remedy(busy)
    assert remedy(busy).because.startswith("keepalive would not have helped: the peer ended the connection on purpose")


@pytest.mark.parametrize(
    ("silence", "path", "why"),
    [(3.5, GUESS, EARLY), (250.0, GUESS, IN_TIME), (3.5, Path("quick", 3.0, Origin(Source.CONFIGURED)), IN_TIME)],
    ids=["sooner than any product", "later than some", "as its path is known to"],
)
def test_a_reset_after_a_silence_that_no_product_forgets_after_may_have_another_reason(
    silence: float, path: Path, why: str
) -> None:
    """As when its rules were reloaded: so the lines are only a guess."""
    death = only(
        Autopsy(AutopsyRules(frozenset(Cause), (path,), ())).observe(
            died({**FORGOTTEN_BY_REJECT, "silence": silence}), 1001.0
        )
    )
    found = remedy(death)
    assert found.because == why
    assert found.lines


@pytest.mark.parametrize("lost", [FORGOT, FORGOTTEN_BY_REJECT, reset(silence=250.0, unacked=1)])
@pytest.mark.parametrize("state", [9, 11], ids=["LAST_ACK", "CLOSING"])
def test_keepalive_is_not_recommended_for_a_connection_that_both_ends_had_closed(lost: Facts, state: int) -> None:
    """Its program still has the socket: it is told that only the last FIN was lost or refused."""
    before, closed = ({**lost, "state": one, "inode": 7} for one in (1, state))
    assert remedy(only(Autopsy(rules(GUESS, OFFICE)).observe(died(before), 1001.0))).lines
    both = remedy(only(Autopsy(rules(GUESS, OFFICE)).observe(died(closed), 1001.0)))
    assert both == ((), "keepalive would not have helped: both ends had closed the connection")


LATE: Facts = {"state": 9, "fin_first": 1, "shutdown": 3, "unacked": 1, "silence": 75.0}
LATE_CLOSES: dict[str, Facts] = {
    "a reset answers it": reset(**LATE),
    "a router on the way rejects it": reset(**LATE, reset_ttl=63),
    "nobody sees the reset": reset(**LATE, reset=Reset.UNSEEN, reset_flags=0),
    "a firewall drops it": timed_out(**LATE, retransmits=8),
    "a router says that the peer is not reached": {**LATE, "error": errno.EHOSTUNREACH, "icmp_type": 3, "icmp_code": 1},
    "this host does not let it leave": timed_out(**{**LATE, "unacked": 0}, unsent=1),
    "both ends had closed at once": timed_out(**{**LATE, "state": 11, "fin_first": 0}),
    "the peer had closed in use": reset(**LATE, since_fin=75.0, since_sent=76.0, since_received=75.1),
}


@pytest.mark.parametrize("name", LATE_CLOSES)
def test_a_close_after_that_of_the_peer_is_ordinary_whatever_becomes_of_its_fin(name: str) -> None:
    autopsy = Autopsy(rules())
    assert autopsy.observe(died(LATE_CLOSES[name], ordinary=2), 1001.0) == ()
    assert autopsy.tally.ordinary == 3
    assert not autopsy.tally.by_cause


LOST_MORE: dict[str, tuple[Facts, Cause]] = {
    "data is lost, too": (reset(**{**LATE, "unacked": 5}), Cause.WROTE_AFTER_CLOSE),
    "data never left": (timed_out(**LATE, unsent=5), Cause.SILENT_AFTER_IDLE),
    "its program is told": (reset(**LATE, inode=7), Cause.UNKNOWN_TO_PEER),
    "the peer had not closed": (reset(**{**LATE, "state": 4, "fin_first": 0}), Cause.UNKNOWN_TO_PEER),
    "the peer did not read what it had got": (live(**LATE), Cause.PEER_ABORTED_AFTER_CLOSE),
    "somebody killed it": ({**LATE, "error": errno.ECONNABORTED}, Cause.LOCAL_KILL),
    "a signal ended its program": (reset(**LATE, signal=9, exiting=1), Cause.PROGRAM_KILLED),
    "the peer had closed after idle": (
        reset(**LATE, since_fin=75.0, since_sent=90.0, since_received=86.0),
        Cause.PEER_CLOSED_IDLE,
    ),
}


@pytest.mark.parametrize("name", LOST_MORE)
def test_a_close_after_that_of_the_peer_has_a_cause_where_more_is_to_be_said_than_that_its_fin_was_lost(
    name: str,
) -> None:
    facts, cause = LOST_MORE[name]
    autopsy = Autopsy(rules())
    assert only(autopsy.observe(died(facts), 1001.0)).cause is cause
    assert autopsy.tally.ordinary == 0


def test_the_silence_of_a_late_close_is_the_one_before_the_peer_closed() -> None:
    death = only(Autopsy(rules()).observe(died(LOST_MORE["the peer had closed after idle"][0]), 1001.0))
    assert death.silence == pytest.approx(11.0)
    assert death.evidence == (
        "quiet for 11s before",
        "bytes that the peer did not acknowledge: 1",
        "the peer closed first, 1min 15s before the end",
        "this end had closed before",
    )


def test_nobody_is_told_of_the_end_of_what_its_program_had_closed() -> None:
    closed = reset(state=4, shutdown=3, silence=3.0)
    for inode, told in ((0, False), (7, True)):
        death = only(Autopsy(rules()).observe(died({**closed, "inode": inode}), 1001.0))
        assert ("its program is told ECONNRESET" in death.evidence) == told


def test_the_own_firewall_that_dropped_what_came_may_have_lost_the_peer_its_connection() -> None:
    """It may have rejected what the peer sent; or somebody has forged packets for it to drop."""
    dropped = reset(silence=400.0, unacked=5, dropped_by_firewall=1)
    death = only(Autopsy(rules(GUESS)).observe(died(dropped), 1001.0))
    assert (death.cause, death.others[0], death.confidence) == (Cause.UNKNOWN_TO_PEER, Cause.LOCAL_FIREWALL, 0.6)
    assert remedy(death).lines
    assert remedy(death).because == BY_A_NAT_OR_HERE
    busy = only(Autopsy(rules(GUESS)).observe(died({**dropped, "silence": 0.1}), 1001.0))
    assert remedy(busy).because.endswith(REJECTED_HERE)


def test_packets_that_the_own_firewall_dropped_do_not_take_the_remedy_of_a_silence_away() -> None:
    """Anybody who knows the ports can forge some that it drops."""
    dropped = timed_out(unacked=5, retransmits=4, silence=400.0, dropped_by_firewall=3)
    death = only(Autopsy(rules(GUESS)).observe(died(dropped), 1001.0))
    assert (death.cause, death.others[0]) == (Cause.LOCAL_FIREWALL, Cause.SILENT_AFTER_IDLE)
    forgotten = only(Autopsy(rules(GUESS)).observe(died({**dropped, "dropped_by_firewall": 0}), 1001.0))
    assert remedy(death) == (remedy(forgotten).lines, THERE_OR_HERE)
    assert remedy(death).lines
    survived = dataclasses.replace(death, hindsight=death.hindsight._replace(survived=500.0))
    busy = only(Autopsy(rules(GUESS)).observe(died({**dropped, "silence": 0.1}), 1001.0))
    for each in (survived, busy):
        assert remedy(each) == ((), f"keepalive would not have helped: {WITHOUT_KEEPALIVE[Cause.LOCAL_FIREWALL]}")


def test_the_remedy_for_a_path_that_is_known_arms_it() -> None:
    death = only(Autopsy(rules(GUESS, OFFICE)).observe(died(FORGOT), 1001.0))
    assert remedy(death).lines == ("[[arm]]", 'path = "office"', 'action = "enable"', 'idle = "auto"')


def test_ends_that_silence_brought_about_are_evidence_about_their_path() -> None:
    """Others are not: whoever was killed says nothing about the path."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    forgot = {**FORGOT, "netns": OWN}
    earlier = {**forgot, "ended_at": 500.0}
    autopsy.observe(died({**KILLED, "netns": OWN}, forgot, earlier), 1001.0)
    autopsy.advisor.due(1000.0 + MOMENT)
    assert autopsy.advisor._evidence.died.sum(axis=1).tolist() == [0, 2]
    assert autopsy.advisor._evidence.lived.sum() == 0


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        (Socket(), True),
        (Socket(uid=113), True),
        (Socket(uid=61184), True),
        (Socket(uid=1000), False),
        (Socket(uid=100_000), False),
        (Socket(netns=9), False),
        (Socket(local_port=5432, remote_port=40000), False),
        (Socket(local_port=5432, remote_port=1023), False),
    ],
)
def test_only_what_services_of_this_host_open_is_evidence(other: Socket, *, counts: bool) -> None:
    """Namespaces have firewalls of their own; any user has peers that fall silent; who connects resets as he likes."""
    autopsy = Autopsy(rules(GUESS, OFFICE))
    facts = Socket(netns=OURS, uid=0, local_port=40000, remote_port=5432) | other
    for survived in (0.0, 80.0):
        scan = dataclasses.replace(table(990.0, Socket(cookie=1) | facts), netns=OURS)
        judgement = judge(scan, nothing_known(), (GUESS, OFFICE), ())
        memory = dataclasses.replace(judgement.activity, survived=np.full(1, survived))
        autopsy.remember(judgement, memory)
    autopsy.observe(died({**FORGOT, **facts}), 1001.0)
    autopsy.advisor.due(1000.0 + MOMENT)
    evidence = autopsy.advisor._evidence
    assert (evidence.lived.sum(), evidence.died.sum()) == ((1, 1) if counts else (0, 0))


def test_the_remedy_for_a_path_with_too_long_a_timeout_shortens_it() -> None:
    death = only(Autopsy(rules(GUESS, OFFICE)).observe(died(reset(reset_ttl=63, silence=250.0)), 1001.0))
    assert remedy(death).lines[:2] == (
        '# in the [[path]] named "office":',
        'timeout = "240s"  # no product that is known forgets a connection sooner',
    )


def test_the_remedy_says_that_a_connection_had_survived_as_long_a_silence() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=10.0)
    survived = np.full(1, 61.7)
    autopsy._scan = autopsy._scan._replace(survived=survived)
    death = only(autopsy.observe(died(reset(reset_ttl=63, silence=100.0)), 1001.0))
    assert remedy(death).lines[1] == 'timeout = "61s"  # the connection had survived such a silence'


def test_where_the_connection_had_survived_a_longer_silence_nothing_is_recommended() -> None:
    autopsy = Autopsy(rules(GUESS, OFFICE))
    watched(autopsy, idle=10.0)
    autopsy._scan = autopsy._scan._replace(survived=np.full(1, 600.0))
    death = only(autopsy.observe(died(reset(reset_ttl=63, silence=100.0)), 1001.0))
    assert remedy(death) == ((), "keepalive would not have helped: the connection had survived a longer silence before")


def test_keepalive_does_not_help_on_a_path_that_counts_only_data() -> None:
    proxy = dataclasses.replace(OFFICE, counts=WhatCounts.DATA)
    death = only(Autopsy(rules(GUESS, proxy)).observe(died(FORGOT), 1001.0))
    assert remedy(death) == (
        (),
        "keepalive would not have helped: its path counts only data; let the program send something",
    )


def test_keepalive_would_not_have_helped_a_connection_that_was_killed() -> None:
    death = only(Autopsy(rules()).observe(died(KILLED), 1001.0))
    assert remedy(death) == ((), "keepalive would not have helped: this host ended the connection by force")
    assert "ended on this host by ss[77]" in death.evidence


def test_what_a_program_calls_itself_cannot_forge_a_line() -> None:
    death = only(Autopsy(rules()).observe(died({**KILLED, "closer": b"x\n<0>evil"}), 1001.0))
    assert death.closer == '"x\\\\n<0>evil"'


@pytest.mark.parametrize("name", [b"x", "größe".encode(), b"\xff\xfe", b"gr\xc3", b"\xc2\x9b31m"])
def test_a_process_is_called_the_same_when_its_connection_ends_as_while_it_lives(name: bytes, tmp_path: File) -> None:
    """So that a name that is copied from an end into a rule matches."""
    comm = tmp_path / "comm"
    comm.write_bytes(name + b"\n")
    death = only(Autopsy(rules()).observe(died({**PROGRAM_ENDED, "closer": name}), 1001.0))
    assert death.owner.process == process_name(comm)
    assert death.closer == quoted(process_name(comm))


ARM = ArmRule("arm[1]", ArmAction.ENABLE, None, 20, 31, paths=("office",))
TIMES = times(ARM, OFFICE.timeout)


def kept_alive(autopsy: Autopsy, now: float, quiet: float, **facts: Unpack[Socket]) -> int:
    """How many saves there are after this scan of a connection over the office, without data for so long."""
    here: Socket = {"cookie": 1, "remote": "10.71.3.2", "since_sent": quiet, "since_received": quiet}
    look = table(now, {**ARMED, **here, **facts})
    judgement = judge(look, nothing_known(), (GUESS, OFFICE), ())
    autopsy.remember(judgement, judgement.activity)
    return autopsy.tally.saved_by(path="office")


ARMED: Socket = {
    "keepalive": Switch.ON,
    "timer": Timer.KEEPALIVE,
    "expires": 60.0,
    "keepidle": TIMES.idle,
    "keepintvl": TIMES.interval,
    "keepcnt": 31,
    "own": 7,
    "since_acked": 50.0,
    "since_packet": 50.0,
}


def test_a_silence_that_an_armed_connection_survives_is_a_save_and_counts_once() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(GUESS, OFFICE), arm=(ARM,)))
    assert [kept_alive(autopsy, 1000.0 + quiet, quiet) for quiet in (100.0, 290.0, 310.0, 400.0)] == [0, 0, 1, 1]
    assert [kept_alive(autopsy, 2000.0 + quiet, quiet) for quiet in (10.0, 320.0)] == [1, 2]


def test_a_probe_that_is_on_its_way_makes_no_save_count_twice() -> None:
    saves, found = Saves(), []
    for quiet, probes in ((310.0, 0), (360.0, 1), (361.0, 0)):
        facts: Socket = {**ARMED, "remote": "10.71.3.2", "since_sent": quiet, "since_received": quiet, "probes": probes}
        judgement = judge(table(1000.0 + quiet, facts), nothing_known(), (GUESS, OFFICE), ())
        armed = dataclasses.replace(judgement.activity, arming=np.array([Considered.ARMED.value], np.uint8))
        found.append(len(saves.observe(dataclasses.replace(judgement, activity=armed), (ARM,))))
    assert found == [1, 0, 0]


def test_a_silence_survived_by_keepalive_of_the_programs_own_is_no_save() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(GUESS, OFFICE), arm=(ARM,)))
    assert kept_alive(autopsy, 1400.0, 400.0, keepidle=TIMES.idle - 1) == 0


def test_a_silence_that_was_survived_before_arming_is_no_save() -> None:
    """The path waits for longer than was said; arming had no part in that."""
    autopsy = Autopsy(dataclasses.replace(rules(GUESS, OFFICE), arm=(ARM,)))
    assert kept_alive(autopsy, 1400.0, 400.0, keepalive=Switch.OFF, timer=Timer.OFF, own=0) == 0
    assert [kept_alive(autopsy, 1000.0 + quiet, quiet) for quiet in (410.0, 420.0)] == [0, 0]
    assert [kept_alive(autopsy, 2000.0 + quiet, quiet) for quiet in (10.0, 320.0)] == [0, 1]


def test_what_is_not_answered_is_no_save() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(GUESS, OFFICE), arm=(ARM,)))
    assert kept_alive(autopsy, 1400.0, 400.0, probes=2) == 0


def test_what_keeps_a_connection_that_measures_is_no_save() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(GUESS, OFFICE), arm=(ARM,)))
    autopsy.count_apart((1,))
    assert kept_alive(autopsy, 1400.0, 400.0) == 0


def scanned(autopsy: Autopsy, now: float, *sockets: Socket) -> None:
    judgement = judge(table(now, *sockets), nothing_known(), (GUESS,), ())
    autopsy.remember(judgement, judgement.activity)


def test_units_are_known_before_their_connections_end_and_counted_apart() -> None:
    autopsy = Autopsy(rules())
    scanned(autopsy, 990.0, {"cookie": 1, "cgroup": 7}, {"cookie": 2, "cgroup": 8})
    assert autopsy.unnamed() == (7, 8)
    autopsy.name({7: "ssh.service", 8: ""})
    assert not autopsy.unnamed()
    scanned(autopsy, 995.0, {"cookie": 2, "cgroup": 8})
    assert not autopsy.unnamed()
    first, *_ = autopsy.observe(died({**KILLED, "cgroup": 7}, {**KILLED, "cgroup": 8}, {**KILLED, "cookie": 9}), 1001.0)
    assert {report.owner.unit for report in first.examples} <= {"ssh.service", ""}
    assert autopsy.tally.foretold_by(unit="ssh.service") == {Foretold.NOT_FORESEEABLE: 1}
    assert autopsy.tally.foretold_by() == {Foretold.NOT_FORESEEABLE: 3}
    assert autopsy.tally.by_path_and_unit() == [
        ("default", "", {Foretold.NOT_FORESEEABLE: 2}, 0),
        ("default", "ssh.service", {Foretold.NOT_FORESEEABLE: 1}, 0),
    ]


def test_only_ends_of_the_units_and_users_that_are_asked_for_are_reported_and_all_are_counted() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(), units=("amanda@*.service",), users=(34,)))
    autopsy.name({7: "amanda@1.service", 8: "ssh.service"})
    reports = autopsy.observe(
        died(
            {**KILLED, "cgroup": 7, "uid": 34, "cookie": 1},
            {**KILLED, "cgroup": 7, "uid": 0, "cookie": 2},
            {**KILLED, "cgroup": 8, "uid": 34, "cookie": 3},
        ),
        1001.0,
    )
    assert [death.cookie for report in reports for death in report.examples] == [1]
    assert autopsy.tally.by_cause == {(Cause.LOCAL_KILL, Foretold.NOT_FORESEEABLE): 3}


def test_an_end_whose_unit_is_not_known_yet_is_reported_and_its_unit_asked_for() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(), units=("amanda.service",)))
    assert autopsy.observe(died({**KILLED, "cgroup": 9}), 1001.0)
    assert autopsy.unnamed() == (9,)
    autopsy.name({9: "cron.service"})
    assert not autopsy.observe(died({**KILLED, "cgroup": 9}), 1002.0)


def test_where_an_end_does_not_tell_its_cgroup_that_of_the_last_scan_counts() -> None:
    autopsy = Autopsy(dataclasses.replace(rules(), units=("amanda.service",)))
    scanned(autopsy, 990.0, {"cookie": 1, "cgroup": 7}, {"cookie": 2, "cgroup": 8})
    autopsy.name({7: "amanda.service", 8: "ssh.service"})
    reports = autopsy.observe(died({**KILLED, "cookie": 1}, {**KILLED, "cookie": 2}), 1001.0)
    assert [death.owner.unit for report in reports for death in report.examples] == ["amanda.service"]


def test_where_an_end_does_not_tell_its_user_that_of_the_last_scan_counts() -> None:
    """The kernel destroys a socket whose program has closed it as root's."""
    autopsy = Autopsy(dataclasses.replace(rules(), users=(34,)))
    scanned(autopsy, 990.0, {"cookie": 1, "uid": 34}, {"cookie": 2, "uid": 0})
    (report,) = autopsy.observe(died({**KILLED, "cookie": 1, "uid": 0}, {**KILLED, "cookie": 2, "uid": 0}), 1001.0)
    assert only((report,)).uid == 34


def test_who_makes_very_many_cgroups_displaces_none_of_anybody_else() -> None:
    """Anybody may make cgroups below his own; a service's first connection may have been the oldest."""
    autopsy = Autopsy(rules())
    autopsy.name({1: "database.service", 2: "backup.service"})
    for start in range(3, 3 * MOST_CGROUPS, 1000):
        autopsy.name(dict.fromkeys(range(start, start + 1000), "user@1234.service"))
    assert len(autopsy.units) <= MOST_CGROUPS
    assert [autopsy.units.get(cgroup) for cgroup in (1, 2)] == ["database.service", "backup.service"]


def test_any_number_of_logins_displaces_no_cgroup_of_a_unit() -> None:
    autopsy = Autopsy(rules())
    autopsy.name({1: "database.service"})
    autopsy.name({cgroup: f"session-{cgroup}.scope" for cgroup in range(2, 2 * MOST_CGROUPS)})
    assert len(autopsy.units) <= MOST_CGROUPS
    assert autopsy.units.get(1) == "database.service"


def test_units_are_forgotten_before_they_are_too_many() -> None:
    autopsy = Autopsy(rules())
    autopsy.name({cgroup: f"{cgroup}.service" for cgroup in range(1, 3 * MOST_CGROUPS)})
    assert len(autopsy._units) == MOST_CGROUPS
    many = np.repeat(ends([KILLED]), 3 * MOST_CGROUPS)
    many["cgroup"] = np.arange(len(many))
    autopsy.observe(Deaths(many), 1001.0)
    assert len(autopsy.tally.foretold) <= MOST_UNITS + 1
