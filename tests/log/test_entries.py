"""What is said: readable, complete, and impossible to forge."""

import dataclasses
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.log import entries
from keepaliveD.log.entries import ERROR, INFO, NOTICE, WARNING, Entry
from keepaliveD.log.entries.connections import MOST_APART
from keepaliveD.log.entries.entry import HANDFUL
from keepaliveD.model.actions import Arm, Because, Disarm, Outcome, SetSystemKeepalive
from keepaliveD.model.connections import Connection, Counts, Due, Owner, Verdict, WhatCounts
from keepaliveD.model.errors import NotPermitted
from keepaliveD.model.firewall import Tracked
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportConnections, ReportDrift, ReportNearlyFull, ReportUnwatched
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.model.sockets import OWN, Unwatched
from keepaliveD.platforms.touching import Kind, Touched
from tests.support.samples import BARE


def late(**changes: object) -> Connection:
    values: dict[str, object] = {"verdict": Verdict.LATE, "due": Due.KEEPALIVE, "due_in": 6958.0} | changes
    return dataclasses.replace(BARE, **values)  # type: ignore[arg-type]


def cut(**changes: object) -> Connection:
    values: dict[str, object] = {"verdict": Verdict.CUT, "idle": 301.0, "left": -1.0} | changes
    return dataclasses.replace(BARE, **values)  # type: ignore[arg-type]


def say(*connections: Connection, before: Verdict = Verdict.UNKNOWN) -> list[Entry]:
    return list(entries.of(Outcome(ReportConnections(connections, (before,) * len(connections)))))


def test_a_bare_connection_in_one_line() -> None:
    (entry,) = say(BARE)
    assert entry.message == (
        "amandad[812] (amanda@backup.service) 10.1.2.3:40000 -> 10.20.0.9:10080: at risk: no packet is due, and "
        'path "office firewall" forgets it in 58s '
        "(quiet for 4min 2s; idle timeout 5min, configured in /etc/tcp-keepalived/config.toml); "
        "switch keepalive on in the program, or run keepalivectl arm"
    )
    assert (entry.event, entry.priority) == ("bare", WARNING)


def test_a_connection_whose_peer_may_yet_probe_is_said_to_have_nothing_due_that_is_known() -> None:
    (entry,) = say(dataclasses.replace(BARE, confirmed=False))
    assert ": at risk: no packet is known to be due, and path " in entry.message


def test_what_is_due_before_the_cut_and_may_come_too_late_is_said_to() -> None:
    """A timer may fire late."""
    (entry,) = say(late(due_in=50.0))
    assert ": at risk: keepalive is due in 50s, which may be too late: path " in entry.message


def test_a_late_connection_says_what_is_due_too_late() -> None:
    (entry,) = say(late())
    assert "at risk: keepalive is due in 1h 55min, but path " in entry.message
    assert entry.message.endswith("; shorten the program's keepalive idle time, or run keepalivectl arm")
    assert entry.fields["KEEPALIVE_DUE_SEC"] == 6958.0


def test_a_subflow_that_cannot_be_armed_is_said_to_be_one() -> None:
    (entry,) = say(dataclasses.replace(BARE, subflow=True))
    remedy = 'switch keepalive on in the program; it cannot be armed: MPTCP subflow: requires watch.engine = "bpf"'
    assert entry.message.endswith(f"; {remedy}")


def test_a_cut_connection_is_an_error() -> None:
    (entry,) = say(cut())
    assert 'expired: quiet for 5min 1s, so path "office firewall" has presumably forgotten it (' in entry.message
    assert entry.message.endswith("; let the program reconnect")
    assert (entry.event, entry.priority) == ("cut", ERROR)


def test_unanswered_packets_after_less_than_the_idle_timeout_tell_that_the_path_forgot_it_sooner() -> None:
    presumed = dataclasses.replace(cut(), confirmed=False)
    (entry,) = say(presumed)
    assert "sent after a silence of up to 5min 1s are not answered" in entry.message
    assert "sooner" not in entry.message
    (entry,) = say(dataclasses.replace(presumed, unanswered_after=180.0))
    assert ": presumably expired: packets sent after a silence of 3min are not answered; path " in entry.message
    assert "has presumably forgotten it, sooner than expected (idle timeout 5min, " in entry.message


def test_what_rests_on_a_guess_or_on_evidence_is_less_urgent() -> None:
    """Where no path is configured the timeout is the shortest in the catalogue: most exceed it."""
    observed = Origin(Source.EVIDENCE, "3 connections died in silences of 5min or more")
    for guess in (Origin(Source.GUESS), Origin(Source.PLATFORM, "Google Compute Engine"), observed):
        said = [say(connection)[0] for connection in (cut(origin=guess), late(origin=guess))]
        assert [entry.priority for entry in said] == [WARNING, NOTICE]
        assert all(f"idle timeout 5min, {guess})" in entry.message for entry in said)


def test_a_warning_on_a_path_that_counts_only_data_says_that_keepalive_does_not_help() -> None:
    for verdict, due in ((Verdict.BARE, Due.NOTHING), (Verdict.LATE, Due.RETRANSMIT)):
        connection = dataclasses.replace(BARE, verdict=verdict, due=due, due_in=90.0, counts=WhatCounts.DATA)
        (entry,) = say(connection)
        assert "(no data for 4min 2s; idle timeout 5min" in entry.message
        assert "; keepalive does not help, because that path counts only data; let the program send" in entry.message
        assert "keepalivectl arm" not in entry.message
        assert entry.fields["KEEPALIVE_TIMEOUT_COUNTS"] == "data"
    many = [dataclasses.replace(BARE, cookie=cookie, counts=WhatCounts.DATA) for cookie in range(9)]
    (entry,) = entries.of(Outcome(ReportConnections(tuple(many), (Verdict.UNKNOWN,) * 9)))
    assert "at risk: no data is due, the path forgets the first in 58s" in entry.message
    assert "keepalive does not help" in entry.message


def test_a_measured_timeout_is_as_urgent_as_a_configured_one() -> None:
    (entry,) = say(cut(origin=Origin(Source.MEASURED, "2026-11-28")))
    assert "(idle timeout 5min, measured 2026-11-28)" in entry.message
    assert (entry.priority, entry.fields["KEEPALIVE_TIMEOUT_SOURCE"]) == (ERROR, "measured")


def test_a_connection_that_is_safe_again_is_good_news() -> None:
    safe = dataclasses.replace(BARE, verdict=Verdict.SAFE, due=Due.KEEPALIVE, due_in=170.0, left=290.0, idle=10.0)
    (entry,) = say(safe, before=Verdict.BARE)
    assert (entry.event, entry.priority) == ("safe", INFO)
    assert "safe again: keepalive is due in 2min 50s, and path" in entry.message
    assert entry.message.endswith("config.toml)"), "nothing need be done"


def test_a_connection_that_outlived_its_cut_says_what_was_learnt() -> None:
    (entry,) = say(dataclasses.replace(BARE, idle=3.0, timeout=350.0), before=Verdict.CUT)
    assert (entry.event, entry.priority) == ("safe", INFO)
    assert 'still alive: a packet passed 3s ago; idle timeout of path "office firewall" is at least 5min 50s (' in (
        entry.message
    )


def test_many_that_outlived_their_cut_are_reported_as_such() -> None:
    """Whatever comes next for them: they were given up, and live."""
    many = [dataclasses.replace(BARE, idle=3.0)] * 7
    (entry,) = entries.of(Outcome(ReportConnections(tuple(many), (Verdict.CUT,) * 7)))
    assert (entry.event, entry.priority, entry.fields["KEEPALIVE_COUNT"]) == ("safe", INFO, 7)
    assert "still alive: packets passed; for example" in entry.message


def test_all_fields_of_a_connection() -> None:
    (entry,) = say(BARE)
    assert entry.fields == {
        "KEEPALIVE_VERDICT": "bare",
        "KEEPALIVE_BEFORE": "unknown",
        "KEEPALIVE_LEFT_SEC": 58.0,
        "KEEPALIVE_IDLE_SEC": 242.0,
        "KEEPALIVE_DUE": "nothing",
        "KEEPALIVE_PATH": "office firewall",
        "KEEPALIVE_TIMEOUT_SEC": 300.0,
        "KEEPALIVE_TIMEOUT_ORIGIN": "configured in /etc/tcp-keepalived/config.toml",
        "KEEPALIVE_TIMEOUT_SOURCE": "configured",
        "KEEPALIVE_TIMEOUT_COUNTS": "packets",
        "KEEPALIVE_LOCAL_ADDRESS": "10.1.2.3",
        "KEEPALIVE_LOCAL_PORT": 40000,
        "KEEPALIVE_REMOTE_ADDRESS": "10.20.0.9",
        "KEEPALIVE_REMOTE_PORT": 10080,
        "KEEPALIVE_NETNS": 4026531840,
        "KEEPALIVE_COOKIE": 4711,
        "KEEPALIVE_UID": 1000,
        "KEEPALIVE_UNIT": "amanda@backup.service",
        "KEEPALIVE_PID": 812,
        "KEEPALIVE_PROCESS": "amandad",
    }


def test_without_an_owner_nothing_is_made_up() -> None:
    (entry,) = say(dataclasses.replace(BARE, owner=Owner()))
    assert entry.message.startswith("10.1.2.3:40000 -> ")
    assert not entry.fields.keys() & {"KEEPALIVE_PID", "KEEPALIVE_PROCESS", "KEEPALIVE_UNIT"}


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2K", "x: safe now", "evil\u202egnp", "a b", 'a"b', ""])
def test_a_process_name_can_neither_end_the_line_nor_pose_as_its_text(name: str) -> None:
    (entry,) = say(dataclasses.replace(BARE, owner=Owner(812, name, "")))
    assert entry.message.isprintable()
    assert re.match(r'([\w.@/+-]+|"([^"\\]|\\.)*")\[812\] 10\.1\.2\.3:40000 -> ', entry.message)


def test_a_handful_is_reported_one_by_one() -> None:
    assert len(say(*[BARE] * HANDFUL)) == HANDFUL


def test_more_become_one_summary_a_unit_and_path() -> None:
    """Ten thousand sockets that go bare at once must not become ten thousand lines."""
    other = dataclasses.replace(BARE, owner=Owner(9, "psql", "pool.service"))
    urgent = dataclasses.replace(BARE, left=12.0)
    said = say(*[BARE] * 7000, urgent, *[other] * 3000)
    assert [entry.message for entry in said] == [
        '7001 connections of amanda@backup.service on path "office firewall": at risk: no packet is due, '
        "the path forgets the first in 12s (idle timeout 5min, configured in /etc/tcp-keepalived/config.toml); "
        "for example 10.1.2.3:40000 -> 10.20.0.9:10080; "
        "switch keepalive on in the program, or run keepalivectl arm",
        '3000 connections of pool.service on path "office firewall": at risk: no packet is due, '
        "the path forgets the first in 58s (idle timeout 5min, configured in /etc/tcp-keepalived/config.toml); "
        "for example 10.1.2.3:40000 -> 10.20.0.9:10080; "
        "switch keepalive on in the program, or run keepalivectl arm",
    ]
    assert said[0].fields["KEEPALIVE_COUNT"] == 7001
    assert said[0].fields["KEEPALIVE_UNIT"] == "amanda@backup.service"


def test_nobody_hides_the_warning_of_another_user_behind_a_process_of_the_same_name() -> None:
    """Without a unit, a summary is of one user: anybody may call his process backupd, and open connections at risk."""
    victim = dataclasses.replace(BARE, cookie=7, uid=1000, owner=Owner(9, "backupd"))
    attacker = dataclasses.replace(BARE, uid=4711, left=1.0, owner=Owner(10, "backupd"))
    many, one = say(*[attacker] * 3, victim, *[attacker] * 3)
    assert many.message.startswith('6 connections of backupd (uid 4711) on path "office firewall": at risk: ')
    assert (many.fields["KEEPALIVE_UID"], one.fields["KEEPALIVE_COOKIE"]) == (4711, 7)


def test_nobody_hides_the_warning_of_another_container_either() -> None:
    """Root of every container may be the same user."""
    of_a, of_b = (dataclasses.replace(BARE, uid=0, owner=Owner(9, "nginx", container=name)) for name in ("a", "b"))
    said = say(*[of_a] * 6, *[of_b] * 3)
    assert [entry.message.partition(" on path")[0] for entry in said] == [
        "6 connections of container a",
        "3 connections of container b",
    ]


def test_a_summary_without_a_process_names_the_user() -> None:
    (said,) = say(*[dataclasses.replace(BARE, uid=4711, owner=Owner())] * 6)
    assert said.message.startswith("6 connections of uid 4711 on path")


@pytest.mark.parametrize("armed", [False, True])
def test_who_is_as_many_users_as_he_wishes_makes_no_more_entries_for_it(*, armed: bool) -> None:
    """Subordinate ids give a user 65,536; to write as many entries took longer than the watchdog waits."""
    victim = dataclasses.replace(BARE, cookie=7, uid=33, owner=Owner())
    many = [dataclasses.replace(BARE, uid=100_000 + number, owner=Owner()) for number in range(3 * MOST_APART)]
    said = reported(*many, victim, armed=armed)
    assert len(said) == MOST_APART + 1
    assert [entry.fields["KEEPALIVE_UID"] for entry in said if entry.fields.get("KEEPALIVE_COOKIE") == 7] == [33]
    (others,) = (entry for entry in said if "KEEPALIVE_COUNT" in entry.fields)
    assert others.fields["KEEPALIVE_COUNT"] == len(many) - (MOST_APART - 1)
    assert others.message.startswith(
        f"{len(many) - (MOST_APART - 1)} connections of {2 * MOST_APART + 1} users on path"
    )
    assert "KEEPALIVE_UID" not in others.fields


@pytest.mark.parametrize("armed", [False, True])
def test_many_users_with_connections_on_many_paths_make_no_more_entries_either(*, armed: bool) -> None:
    """300 users on 41 paths were 10,241 entries of one scan, 6 s of processor time."""
    paths = [f"path {number}" for number in range(41)]
    attackers = (
        dataclasses.replace(BARE, uid=uid, path=path, owner=Owner()) for path in paths for uid in range(2000, 2300)
    )
    victim = dataclasses.replace(BARE, cookie=7, uid=5000, path="office", owner=Owner())
    said = reported(*attackers, victim, armed=armed)
    assert len(said) <= MOST_APART + len(paths)
    assert sum(int(entry.fields.get("KEEPALIVE_COUNT", 1)) for entry in said) == 41 * 300 + 1
    assert [entry.fields["KEEPALIVE_UID"] for entry in said if entry.fields.get("KEEPALIVE_COOKIE") == 7] == [5000]


@pytest.mark.parametrize("armed", [False, True])
@pytest.mark.parametrize("victim", [Owner(container="web"), Owner(unit="database.service")])
def test_nobody_hides_a_container_or_a_unit_however_many_users_he_is(victim: Owner, *, armed: bool) -> None:
    many = [dataclasses.replace(BARE, uid=1000 + number, owner=Owner()) for number in range(2 * MOST_APART)]
    its = [dataclasses.replace(BARE, uid=200_000 + number, owner=victim) for number in range(7)]
    named = f"7 connections of {victim.unit or f'container {victim.container}'} on path"
    assert sum(entry.message.startswith(named) for entry in reported(*many, *its, armed=armed)) == 1


@pytest.mark.parametrize("armed", [False, True])
def test_who_logs_in_very_often_hides_no_unit(*, armed: bool) -> None:
    """A login session counts as its user: a user may have any number of them."""
    sessions = [
        dataclasses.replace(BARE, owner=Owner(unit=f"session-{number}.scope")) for number in range(2 * MOST_APART)
    ]
    its = [dataclasses.replace(BARE, owner=Owner(unit="zzz.service"))] * 7
    of_user, of_unit = reported(*sessions, *its, armed=armed)
    assert of_user.message.startswith(f"{2 * MOST_APART} connections of uid 1000 on path")
    assert of_user.fields["KEEPALIVE_UID"] == 1000
    assert of_unit.fields["KEEPALIVE_UNIT"] == "zzz.service"


def test_more_units_than_have_entries_of_their_own_are_counted_in_a_summary() -> None:
    said = say(*(dataclasses.replace(BARE, owner=Owner(unit=f"{number}.service")) for number in range(MOST_APART + 2)))
    (others,) = (entry for entry in said if "KEEPALIVE_COUNT" in entry.fields)
    assert others.message.startswith("2 connections of 2 units and containers on path")
    assert not others.fields.keys() & {"KEEPALIVE_UNIT", "KEEPALIVE_UID"}


def test_connections_of_one_owner_that_have_no_entry_of_their_own_still_name_him() -> None:
    """Another path of his has been told, and the room is used up."""
    users = [dataclasses.replace(BARE, uid=number, owner=Owner()) for number in range(1, MOST_APART + 1)]
    said = say(*users, *[dataclasses.replace(BARE, uid=1, path="office", owner=Owner(process="sshd"))] * 2)
    assert said[-1].message.startswith("2 connections of sshd (uid 1) on path office")
    said = say(*users, *(dataclasses.replace(BARE, uid=1, path="office", owner=Owner(process=name)) for name in "abc"))
    assert said[-1].message.startswith("3 connections of uid 1 on path office")


def reported(*connections: Connection, armed: bool) -> list[Entry]:
    """What is said of these, which are at risk, or were armed."""
    return list(arming_entries(*connections)) if armed else say(*connections)


def arming_entries(*connections: Connection) -> Iterator[Entry]:
    """What is said of these, which were armed."""
    wish = Wish(ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31), Keepalive(180, 20, 31))
    stood, stands = (SocketKeepalive(on, Keepalive(180, 20, 31)) for on in (False, True))
    result = Arming(connections, ArmingResult.ARMED, stood, stands)
    return entries.of(Outcome(Arm(connections, (wish,)), armings=(result,)))


def test_connections_of_one_unit_are_one_summary_whoever_runs_them() -> None:
    (said,) = say(*(dataclasses.replace(BARE, uid=uid) for uid in range(6)))
    assert said.fields["KEEPALIVE_UNIT"] == "amanda@backup.service"
    assert "KEEPALIVE_UID" not in said.fields


def test_a_single_one_among_many_is_reported_in_full() -> None:
    said = say(*[BARE] * 10, cut())
    assert [entry.fields.get("KEEPALIVE_COUNT") for entry in said] == [10, None]


def settings(because: Because, *, dry_run: bool = False) -> list[Entry]:
    action = SetSystemKeepalive({"net.ipv4.tcp_keepalive_time": 180}, {"net.ipv4.tcp_keepalive_time": 7200}, because)
    return list(entries.of(Outcome(action, dry_run=dry_run)))


@pytest.mark.parametrize(
    ("because", "event", "message"),
    [
        (Because.CONFIGURED, "applied", "found 7200, set to 180"),
        (Because.DRIFT, "drift", "changed to 7200 by someone else, set to 180 again"),
        (Because.RESTORE, "restored", "found 7200, restored to 180"),
    ],
)
def test_a_setting_names_the_old_and_the_new_value(because: Because, event: str, message: str) -> None:
    (entry,) = settings(because)
    assert (entry.event, entry.message) == (event, f"net.ipv4.tcp_keepalive_time: {message}")
    assert (entry.fields["KEEPALIVE_FOUND"], entry.fields["KEEPALIVE_VALUE"]) == (7200, 180)


def test_a_dry_run_does_not_claim_to_have_done_it() -> None:
    (entry,) = settings(Because.CONFIGURED, dry_run=True)
    assert "found 7200, would be set to 180" in entry.message


def test_a_refusal_is_said_as_it_is() -> None:
    action = SetSystemKeepalive({"x": 1}, {"x": 2}, Because.DRIFT)
    (entry,) = entries.of(Outcome(action, refused=NotPermitted("x: cannot be set to 1: run as root")))
    assert (entry.priority, entry.message) == (ERROR, "x: cannot be set to 1: run as root")


def test_drift_that_is_left_so_says_what_was_wanted() -> None:
    (entry,) = entries.of(Outcome(ReportDrift({"x": 180}, {"x": 300}, yielded=True)))
    assert entry.message == (
        'x: changed from 180 to 300 by someone else; left to whoever set it (keepalive.on_drift = "yield")'
    )


def test_namespaces_that_cannot_be_entered_are_reported_and_their_end_is_not() -> None:
    unwatched = list(entries.of(Outcome(ReportUnwatched(Unwatched(forbidden=3, surplus=1, hidden=True)))))
    assert [entry.event for entry in unwatched] == ["unwatched"] * 3
    assert [entry.fields for entry in unwatched] == [{"KEEPALIVE_NAMESPACES": 3}, {"KEEPALIVE_NAMESPACES": 1}, {}]
    assert [entry.message.partition(":")[0] for entry in unwatched] == [
        "3 network namespaces are not watched",
        "1 network namespace is not watched",
        "network namespaces of other users' processes may not be watched",
    ]
    assert list(entries.of(Outcome(ReportUnwatched(Unwatched())))) == []


def test_the_own_network_namespace_is_called_so() -> None:
    """It is the whole host as a rule; an inode tells nobody."""
    own = os.stat("/proc/self/ns/net").st_ino
    first, second = entries.of(Outcome(ReportUnwatched(Unwatched(silent=(7, own)))))
    assert first.message.startswith("this network namespace is not watched: no answer; its connections are not seen; ")
    assert first.fields == {"KEEPALIVE_NETNS": own}
    assert second.message.startswith("1 network namespace is not watched: no answer")
    (crowded,) = entries.of(Outcome(ReportUnwatched(Unwatched(crowded=(own,)))))
    assert crowded.message.startswith("this network namespace is not watched completely: ")
    hung = entries.of_hang(Touched(1, Kind.NAMESPACE, own), 80.0)
    assert hung.message == f"no answer from this network namespace ({own}): left out for 1min 20s, then tried again"
    assert hung.fields == {"KEEPALIVE_NETNS": own}
    assert entries.of_hang(Touched(1, Kind.LOCKS, own), 10.0).message == (
        f"no answer from a locked socket of this network namespace ({own}): "
        "others there are armed one by one for 10s, then tried again"
    )
    assert "socket of network namespace 7: others" in entries.of_hang(Touched(1, Kind.LOCKS, 7), 10.0).message


def test_a_crowded_namespace_is_named_and_of_many_the_rest_is_counted() -> None:
    """Anybody can make them, and fill the log otherwise."""
    first, *others, last = entries.of(Outcome(ReportUnwatched(Unwatched(crowded=tuple(range(11, 16))))))
    assert first.message.startswith("network namespace 11 is not watched completely: ")
    assert [entry.fields for entry in (first, *others)] == [{"KEEPALIVE_NETNS": netns} for netns in (11, 12, 13)]
    assert last.message.startswith("2 more network namespaces are not watched completely")


def test_a_namespace_of_which_sockets_are_missing_is_named_and_of_many_the_rest_is_counted() -> None:
    own, *others, last = entries.of(Outcome(ReportUnwatched(Unwatched(incomplete=(OWN, *range(11, 15))))))
    assert own.message.startswith("this network namespace is not watched completely: the kernel told of fewer sockets")
    assert [entry.fields for entry in (own, *others)] == [{}, {"KEEPALIVE_NETNS": 11}, {"KEEPALIVE_NETNS": 12}]
    assert last.message.startswith("2 more network namespaces are not watched completely")


def test_a_firewall_that_is_nearly_full_is_reported_with_what_to_raise() -> None:
    (own,) = entries.of(Outcome(ReportNearlyFull((Tracked(0, 240_000, 262_144),))))
    assert (own.event, own.priority) == ("nearly-full", entries.WARNING)
    assert own.message == (
        "this host's own firewall is nearly full: it tracks 240000 of at most 262144 connections; "
        "when it is full, new connections are dropped; raise net.netfilter.nf_conntrack_max"
    )
    assert own.fields == {"KEEPALIVE_COUNT": 240_000, "KEEPALIVE_LIMIT": 262_144}


def test_of_many_firewalls_that_are_nearly_full_the_rest_is_counted() -> None:
    full = tuple(Tracked(netns, 99, 100) for netns in range(11, 16))
    named = list(entries.of(Outcome(ReportNearlyFull(full))))
    assert [entry.fields["KEEPALIVE_NETNS"] for entry in named] == [11, 12, 13]
    assert "firewall in network namespace 13 is nearly full" in named[-1].message
    assert [entry.message.endswith("; 2 more are") for entry in named] == [False, False, True]


def documented(kind: str) -> set[str]:
    """Code spans in the first column of the tables of docs/journal.md."""
    text = Path(__file__).parents[2].joinpath("docs/journal.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^\| `({kind})` \|", text, re.MULTILINE))


def test_the_documentation_lists_every_message_id() -> None:
    assert documented("[0-9a-f]{32}") == set(entries.MESSAGE_IDS.values())


def test_message_ids_are_unique() -> None:
    assert len(set(entries.MESSAGE_IDS.values())) == len(entries.MESSAGE_IDS)


def test_the_documentation_lists_every_field() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in Path(entries.__file__).parent.glob("*.py"))
    assert documented("[A-Z_]{3,}") == set(re.findall(r'"(KEEPALIVE_[A-Z_]+)"', source))


# arming

RULE = ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31)
OFF = SocketKeepalive(False, Keepalive(7200, 75, 9))
ON = SocketKeepalive(True, Keepalive(180, 20, 31))
PEER = "10.1.2.3:40000 -> 10.20.0.9:10080: "
LINE = f"amandad[812] (amanda@backup.service) {PEER}"


def arming(result: ArmingResult, connection: Connection = BARE) -> Arming:
    """As the armer answers."""
    missed = result in (
        ArmingResult.CLOSED,
        ArmingResult.SUBFLOW,
        ArmingResult.OWNER_NOT_FOUND,
        ArmingResult.OWNER_NOT_VISIBLE,
        ArmingResult.NOT_PERMITTED,
        ArmingResult.OTHER_USER_NAMESPACE,
    )
    if result is ArmingResult.DISARMED:
        return Arming((connection,), result, ON, OFF)
    return Arming(
        (connection,), result, None if missed else OFF, None if missed else ON if result is ArmingResult.ARMED else OFF
    )


def told(*armings: Arming, rules: tuple[ArmRule, ...] = (RULE,)) -> list[Entry]:
    action = Arm(
        tuple(one for each in armings for one in each.connections), tuple(Wish(rule, ON.times) for rule in rules)
    )
    return list(entries.of(Outcome(action, armings=armings)))


BECAUSE = ', because no packet was due, and path "office firewall" forgets it in 58s'
AT_RISK = '; at risk: no packet is due, and path "office firewall" forgets it in 58s'


@pytest.mark.parametrize(
    ("result", "event", "priority", "said"),
    [
        (ArmingResult.ARMED, "armed", NOTICE, "armed by arm[1]: idle 3min, interval 20s, probes 31 (before: off)"),
        (ArmingResult.KEPT_BY_PROGRAM, "unarmed", NOTICE, "not armed: kept by program (off)"),
        (
            ArmingResult.CHANGED_SINCE,
            "unarmed",
            NOTICE,
            "not armed: changed since by its program or by keepalivectl disarm (off)",
        ),
        (ArmingResult.CHANGED_MEANWHILE, "unarmed", NOTICE, "not armed: changed meanwhile (off)"),
        (
            ArmingResult.PROBE_UNANSWERED,
            "unarmed",
            WARNING,
            "not armed: keepalive probe unanswered: to arm it now may end it at once; arm it again once the peer has "
            "answered (off)",
        ),
        (
            ArmingResult.SUBFLOW,
            "unarmed",
            WARNING,
            'cannot be armed: MPTCP subflow: requires watch.engine = "bpf"',
        ),
        (
            ArmingResult.OWNER_NOT_FOUND,
            "unarmed",
            WARNING,
            "cannot be armed: owner not found: it may belong to the kernel, to a process outside this PID namespace, "
            "or to one that the search has not reached in time",
        ),
        (
            ArmingResult.NOT_PERMITTED,
            "unarmed",
            WARNING,
            "cannot be armed: not permitted: requires root or CAP_SYS_PTRACE, and a kernel.yama.ptrace_scope below 3",
        ),
        (
            ArmingResult.OTHER_USER_NAMESPACE,
            "unarmed",
            WARNING,
            "cannot be armed: owner in another user namespace: "
            "requires CAP_SYS_PTRACE over that namespace: run in the host's own",
        ),
        (
            ArmingResult.OWNER_NOT_VISIBLE,
            "unarmed",
            WARNING,
            "cannot be armed: owner not visible: requires root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        ),
        (ArmingResult.FAILED, "unarmed", WARNING, "cannot be armed: failed: the kernel refused"),
        (
            ArmingResult.TOO_LONG,
            "unarmed",
            WARNING,
            'not armed by arm[1]: idle 3min is too long: path "office firewall" forgets after 5min '
            "(configured in /etc/tcp-keepalived/config.toml); "
            'use idle = "auto", or at most 4min 26s',
        ),
    ],
)
def test_what_became_of_a_socket_in_one_line(result: ArmingResult, event: str, priority: int, said: str) -> None:
    """What, before, after, because; and what would help."""
    (entry,) = told(arming(result))
    assert (entry.event, entry.priority) == (event, priority)
    assert entry.message == LINE + said + (BECAUSE if event == "armed" else AT_RISK)
    assert entry.fields["KEEPALIVE_RESULT"] == result.value.lower().replace(" ", "-")


@pytest.mark.parametrize("result", [ArmingResult.LEFT_BY_RULE, ArmingResult.ALREADY_SET, ArmingResult.CLOSED])
def test_where_nothing_was_done_and_nothing_is_to_be_done_nothing_is_said(result: ArmingResult) -> None:
    assert told(arming(result)) == []


def test_every_result_is_either_reported_or_not_worth_it() -> None:
    """A new one must be thought of."""
    assert {result for result in ArmingResult if told(arming(result))} == set(ArmingResult) - {
        ArmingResult.LEFT_BY_RULE,
        ArmingResult.ALREADY_SET,
        ArmingResult.CLOSED,
    }


def test_of_what_its_program_set_meanwhile_that_is_said_which_stands_there_now() -> None:
    (entry,) = told(Arming((BARE,), ArmingResult.CHANGED_MEANWHILE, OFF, SocketKeepalive(True, Keepalive(33, 75, 9))))
    assert entry.message.startswith(LINE + "not armed: changed meanwhile (idle 33s, ")


def test_connections_of_one_result_are_reported_apart_where_their_units_or_paths_are() -> None:
    others = (dataclasses.replace(BARE, owner=Owner(9, "psql", "pool.service")), dataclasses.replace(BARE, path="p"))
    said = told(Arming((BARE, *others, *[BARE] * HANDFUL), ArmingResult.ARMED, OFF, ON))
    assert [entry.fields.get("KEEPALIVE_COUNT", 1) for entry in said] == [HANDFUL + 1, 1, 1]


def test_a_dry_run_says_would() -> None:
    (entry,) = told(Arming((BARE,), ArmingResult.WOULD_BE_ARMED, after=ON))
    assert entry.message == LINE + "would be armed by arm[1]: idle 3min, interval 20s, probes 31" + BECAUSE
    assert entry.fields["KEEPALIVE_RESULT"] == "would-be-armed"


def test_what_was_put_back_needs_no_reason() -> None:
    (entry,) = entries.of(Outcome(Disarm((BARE,)), armings=(arming(ArmingResult.DISARMED),)))
    assert entry.message == LINE + "disarmed: off (before: idle 3min, interval 20s, probes 31)"
    assert (entry.event, entry.priority) == ("disarmed", NOTICE)


@pytest.mark.parametrize(
    ("connection", "because"),
    [
        (late(), ', because keepalive was due in 1h 55min, and path "office firewall" forgets it in 58s'),
        (BARE, BECAUSE),
        (cut(), ', because path "office firewall" has presumably forgotten it'),
        (dataclasses.replace(BARE, verdict=Verdict.SAFE), ""),
        (
            dataclasses.replace(BARE, verdict=Verdict.SAFE, left=math.inf, timeout=math.inf),
            ', although path "office firewall" never forgets it',
        ),
        (dataclasses.replace(BARE, verdict=Verdict.UNKNOWN, left=math.nan, timeout=math.nan), ""),
    ],
)
def test_the_reason_is_the_outlook(connection: Connection, because: str) -> None:
    """By hand also those are armed that were at no risk."""
    (entry,) = told(arming(ArmingResult.ARMED, connection))
    assert entry.message.endswith("(before: off)" + because)


def test_before_and_after_are_fields() -> None:
    (entry,) = told(arming(ArmingResult.ARMED))
    assert {name: value for name, value in entry.fields.items() if re.match("KEEPALIVE_(RULE|BEFORE|AFTER)", name)} == {
        "KEEPALIVE_RULE": "arm[1]",
        "KEEPALIVE_BEFORE_ON": 0,
        "KEEPALIVE_BEFORE_IDLE_SEC": 7200,
        "KEEPALIVE_BEFORE_INTERVAL_SEC": 75,
        "KEEPALIVE_BEFORE_PROBES": 9,
        "KEEPALIVE_AFTER_ON": 1,
        "KEEPALIVE_AFTER_IDLE_SEC": 180,
        "KEEPALIVE_AFTER_INTERVAL_SEC": 20,
        "KEEPALIVE_AFTER_PROBES": 31,
    }
    assert entry.fields["KEEPALIVE_COOKIE"] == 4711


def test_the_rule_is_the_first_that_means_the_owner() -> None:
    other = dataclasses.replace(RULE, units=("cron.service",))
    second = dataclasses.replace(RULE, name="arm[2]", units=("amanda*",))
    (entry,) = told(arming(ArmingResult.ARMED), rules=(other, second, RULE))
    assert "armed by arm[2]: " in entry.message
    assert entry.fields["KEEPALIVE_RULE"] == "arm[2]"


@pytest.mark.parametrize(("total", "said"), [(0, "Watching 0 connections"), (1, "Watching 1 connection: 1 bare")])
def test_one_connection_is_counted_in_the_singular(total: int, said: str) -> None:
    assert entries.counts_line(Counts(total, 1, {Verdict.BARE: total})) == said


def test_a_handful_of_armings_is_reported_one_by_one() -> None:
    assert len(told(*[arming(ArmingResult.ARMED)] * HANDFUL, *[arming(ArmingResult.CLOSED)] * 99)) == HANDFUL


def test_more_armings_become_one_summary_a_unit_path_and_result() -> None:
    """2,000 sockets of a pool are armed in one look."""
    other = dataclasses.replace(BARE, owner=Owner(9, "psql", "pool.service"))
    urgent = dataclasses.replace(BARE, left=12.0)
    said = told(
        *[arming(ArmingResult.ARMED)] * 1999,
        arming(ArmingResult.ARMED, urgent),
        *[arming(ArmingResult.KEPT_BY_PROGRAM, other)] * 7,
    )
    assert [entry.message for entry in said] == [
        '2000 connections of amanda@backup.service on path "office firewall": '
        "armed by arm[1]: idle 3min, interval 20s, probes 31 (before: off); "
        "for example 10.1.2.3:40000 -> 10.20.0.9:10080, because no packet was due, "
        'and path "office firewall" forgets it in 12s',
        '7 connections of pool.service on path "office firewall": '
        "not armed: kept by program (off); "
        "for example 10.1.2.3:40000 -> 10.20.0.9:10080; at risk: no packet is due, "
        'and path "office firewall" forgets it in 58s',
    ]
    assert [entry.fields["KEEPALIVE_COUNT"] for entry in said] == [2000, 7]
    assert said[0].fields["KEEPALIVE_UNIT"] == "amanda@backup.service"
    assert said[0].fields["KEEPALIVE_RESULT"] == "armed"


def test_nobody_hides_what_became_of_a_socket_of_another_user_behind_a_process_of_the_same_name() -> None:
    victim = dataclasses.replace(BARE, cookie=7, uid=1000, owner=Owner(9, "backupd"))
    attacker = dataclasses.replace(BARE, uid=4711, owner=Owner(10, "backupd"))
    many, one = told(
        *[arming(ArmingResult.KEPT_BY_PROGRAM, attacker)] * 6, arming(ArmingResult.KEPT_BY_PROGRAM, victim)
    )
    assert many.message.startswith('6 connections of backupd (uid 4711) on path "office firewall": ')
    assert (many.fields["KEEPALIVE_UID"], one.fields["KEEPALIVE_COOKIE"]) == (4711, 7)


def test_a_summary_says_what_stood_in_how_many_and_has_only_fields_that_all_share() -> None:
    """Of ten connections four had keepalive on."""
    was_on = SocketKeepalive(True, Keepalive(7200, 75, 9))
    (entry,) = told(*[arming(ArmingResult.ARMED)] * 6, *[Arming((BARE,), ArmingResult.ARMED, was_on, ON)] * 4)
    assert (
        "armed by arm[1]: idle 3min, interval 20s, probes 31 (before: 6 off; 4 idle 2h, interval 1min 15s, probes 9); "
        in (entry.message)
    )
    assert "KEEPALIVE_BEFORE_ON" not in entry.fields
    assert entry.fields["KEEPALIVE_BEFORE_IDLE_SEC"] == 7200
    assert entry.fields["KEEPALIVE_AFTER_ON"] == 1


def test_a_summary_does_not_list_kinds_without_end() -> None:
    each = [
        Arming((BARE,), ArmingResult.ARMED, SocketKeepalive(True, Keepalive(number, 75, 9)), ON)
        for number in range(1, 9)
    ]
    (entry,) = told(*each)
    assert "; 1 idle 3s, interval 1min 15s, probes 9; 5 others); for example" in entry.message


def test_a_summary_counts_what_reads_alike_once() -> None:
    """Times that are not in force are not shown, so they make no difference."""
    other = SocketKeepalive(False, Keepalive(600, 75, 9))
    (entry,) = told(*[arming(ArmingResult.ARMED)] * 6, *[Arming((BARE,), ArmingResult.ARMED, other, ON)] * 4)
    assert "probes 31 (before: off); for example" in entry.message


def test_a_summary_of_connections_whose_path_is_not_known_names_none() -> None:
    """Disarming by hand reads no configuration."""
    anywhere = dataclasses.replace(BARE, path="")
    armings = (arming(ArmingResult.DISARMED, anywhere),) * 9
    (entry,) = entries.of(Outcome(Disarm((anywhere,) * 9), armings=armings))
    assert entry.message.startswith("9 connections of amanda@backup.service: disarmed: off (before: ")
    (single,) = entries.of(Outcome(Disarm((anywhere,)), armings=armings[:1]))
    for each in (entry, single):
        assert not {"KEEPALIVE_PATH", "KEEPALIVE_TIMEOUT_ORIGIN"} & each.fields.keys()


def test_a_timer_that_was_only_restarted_is_said_to_be() -> None:
    (entry,) = told(Arming((BARE,), ArmingResult.ARMED, ON, ON))
    assert entry.message.startswith(LINE + "timer restarted by arm[1]: idle 3min, interval 20s, probes 31, because")


def test_what_failed_midway_says_what_stands_there() -> None:
    (entry,) = told(Arming((BARE,), ArmingResult.FAILED, OFF, SocketKeepalive(True, Keepalive(7200, 20, 9))))
    assert "failed: the kernel refused; it has idle 2h, interval 20s, probes 9 now" in entry.message


def test_what_was_done_by_hand_says_by_whom() -> None:
    (entry,) = told(arming(ArmingResult.ARMED))
    fields = entries.by_hand(entry, 1000).fields
    assert (fields["KEEPALIVE_RULE"], fields["KEEPALIVE_BY_UID"], fields["KEEPALIVE_COOKIE"]) == ("hand", 1000, 4711)


def test_what_was_armed_and_what_was_not_are_two_summaries() -> None:
    said = told(*[arming(ArmingResult.ARMED), arming(ArmingResult.NOT_PERMITTED)] * 7)
    assert [(entry.event, entry.fields["KEEPALIVE_COUNT"]) for entry in said] == [("armed", 7), ("unarmed", 7)]


def test_a_single_arming_among_many_is_reported_in_full() -> None:
    other = dataclasses.replace(BARE, path="default")
    said = told(*[arming(ArmingResult.ARMED)] * 10, arming(ArmingResult.ARMED, other))
    assert [entry.fields.get("KEEPALIVE_COUNT") for entry in said] == [10, None]
    assert "KEEPALIVE_COOKIE" in said[1].fields


HOSTILE = ["a\nb", "\x1b[2Jx", "x) armed by arm[9]: (y", "a\u202egpj", '"; drop', "\udcff", ""]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("count", [1, 10])
def test_a_process_cannot_forge_an_entry_by_its_name(name: str, count: int) -> None:
    """Nor by that of its unit: one printable line, and what is not a plain word stands in quotes."""
    hostile = dataclasses.replace(BARE, owner=Owner(5, name, name))
    for result in ArmingResult:
        for entry in told(*[arming(result, hostile)] * count):
            assert entry.message.isprintable()
            if "armed by arm[9]" in name:
                assert f'"{name}"' in entry.message


# what could not be put back


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize(
    ("result", "said"),
    [
        (ArmingResult.NOT_PERMITTED, "cannot be disarmed: not permitted: requires root or CAP_SYS_PTRACE"),
        (ArmingResult.OWNER_NOT_FOUND, "cannot be disarmed: owner not found: it may belong to the kernel"),
        (ArmingResult.FAILED, "cannot be disarmed: failed: the kernel refused"),
        (ArmingResult.CHANGED_SINCE, "not disarmed: changed since (off)"),
        (ArmingResult.CHANGED_MEANWHILE, "not disarmed: changed meanwhile (off)"),
        (
            ArmingResult.PROBE_UNANSWERED,
            "not disarmed: keepalive probe unanswered: to disarm it now would end it; disarm it again once the peer "
            "has answered (off)",
        ),
    ],
)
def test_what_cannot_be_disarmed_is_not_said_to_be_unarmed(result: ArmingResult, said: str, count: int) -> None:
    """It is armed, and nothing of its outlook is the reason."""
    armings = (arming(result),) * count
    for entry in entries.of(Outcome(Disarm((BARE,) * count), armings=armings)):
        assert said in entry.message
        assert "because" not in entry.message


def test_what_was_disarmed_by_somebody_meanwhile_is_left_without_a_look_at_it() -> None:
    (entry,) = told(Arming((BARE,), ArmingResult.CHANGED_SINCE))
    assert entry.message == LINE + "not armed: changed since by its program or by keepalivectl disarm" + AT_RISK


def test_a_probe_that_is_overdue_was_due_at_once() -> None:
    (entry,) = told(arming(ArmingResult.ARMED, late(due_in=-4.2)))
    assert "because keepalive was due in 0s, and" in entry.message


@pytest.mark.parametrize("odd", [math.inf, math.nan])
def test_a_field_that_is_no_number_is_left_out(odd: float) -> None:
    """A path may never forget, by a reload; JSON has neither infinity nor NaN."""
    connection = dataclasses.replace(BARE, verdict=Verdict.SAFE, left=odd, timeout=odd)
    disarmed = entries.of(Outcome(Disarm((connection,)), armings=(arming(ArmingResult.DISARMED, connection),)))
    for entry in (*disarmed, *say(connection, before=Verdict.BARE)) if odd == math.inf else disarmed:
        assert all(math.isfinite(value) for value in entry.fields.values() if not isinstance(value, str))
        assert "KEEPALIVE_LEFT_SEC" not in entry.fields
