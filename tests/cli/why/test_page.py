"""The page about connections: whole sentences, and no name that can forge a line of it."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli.targets.named import rarer_end
from keepaliveD.cli.why import for_people, page, solutions
from keepaliveD.cli.why.forgotten import Forgotten, Gone, helpful_path
from keepaliveD.cli.why.host import Host
from keepaliveD.model.connections import Due, Endpoint, Owner, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.explained import Explained, HelpfulRule
from keepaliveD.model.keepalive import ALL, NONE, Found, Keepalive, Own, Shown, SocketKeepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.results import Armed, ArmingResult, Mark
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.model.text import printable
from tests.support import samples

SYSTEM = Keepalive(7200, 75, 9)
OFF = Found(SocketKeepalive(False, SYSTEM), ALL, SYSTEM)
ON = Found(SocketKeepalive(True, SYSTEM), ALL, SYSTEM)
REARM = ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)
ARMED = Armed(OFF.stands, SocketKeepalive(True, Keepalive(180, 20, 31)))
REMEDY = HelpfulRule((("unit", "amanda@backup.service"), ("action", "enable")), ARMED)
RESENDING = dataclasses.replace(samples.BARE, verdict=Verdict.CUT, due=Due.RETRANSMIT, due_in=3.0)
BARE = Explained(samples.BARE, True, OFF, None, None, REARM, ArmingResult.LEFT_BY_RULE, REMEDY)


def changed(its: Explained, connection: dict[str, object] | None = None, **others: object) -> Explained:
    one = dataclasses.replace(its.connection, **(connection or {}))  # type: ignore[arg-type]
    return dataclasses.replace(its, connection=one, **others)  # type: ignore[arg-type]


def lines(*explained: Explained, host: Host = Host()) -> list[str]:  # noqa: B008
    return list(page.page(explained, host))


def fact(its: Explained, label: str, host: Host = Host()) -> str:  # noqa: B008
    """What one line says."""
    (line,) = (line for line in lines(its, host=host) if line.startswith(f"  {label} "))
    return line[2 + page.LABEL :]


def fate(its: Explained) -> str:
    return lines(its)[2].strip()


def test_a_bare_connection_is_explained_in_full() -> None:
    assert lines(BARE) == [
        "",
        "10.1.2.3:40000 -> 10.20.0.9:10080  amandad[812] (amanda@backup.service)",
        "  BARE: the path forgets this connection in 58s, and no packet is due before its program sends data.",
        "  keepalive    off: its program has not switched it on",
        "  next packet  none, until its program or the peer sends data",
        "  last packet  4min 2s ago",
        '  path         "office firewall", forgets after 5min without a packet '
        "(configured in /etc/tcp-keepalived/config.toml)",
        '  armed        no: rule keepalive.arm says "rearm", which leaves sockets alone that have keepalive off',
    ]


def test_a_connection_at_risk_only_by_evidence_is_not_armed_and_the_page_says_what_to_do() -> None:
    evidence: dict[str, object] = {"origin": Origin(Source.EVIDENCE, "3 connections died in silences of 5min or more")}
    its = changed(BARE, evidence, decision=None, remedy=None)
    assert fact(its, "armed") == "no: nothing is armed by evidence; write the idle timeout into a [[path]]"
    assert "(evidence: 3 connections died in silences of 5min or more)" in fact(its, "path")


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({"verdict": Verdict.SAFE, "timeout": FOREVER}, "SAFE: the path never forgets this connection."),
        (
            {"verdict": Verdict.SAFE, "due": Due.KEEPALIVE, "due_in": -10.0, "left": -19.0},
            "SAFE: the next packet leaves in 0s; without one the path would forget this connection in 0s.",
        ),
        (
            {"verdict": Verdict.SAFE, "due": Due.KEEPALIVE, "due_in": 20.0},
            "SAFE: the next packet leaves in 20s; without one the path would forget this connection in 58s.",
        ),
        (
            {"verdict": Verdict.LATE, "due": Due.KEEPALIVE, "due_in": 7000.0},
            "LATE: the path forgets this connection in 58s, before the next packet leaves, in 1h 56min.",
        ),
        (
            {"verdict": Verdict.LATE, "due": Due.END, "due_in": 5.0, "confirmed": False},
            "LATE: the peer answers nothing: it is gone, the path has forgotten this connection, or the way is down. "
            "It ends in 5s. (Likely, not certain.)",
        ),
        (
            {"verdict": Verdict.CUT, "left": -12.0},
            "CUT: the path has presumably forgotten this connection, 12s ago. What is sent now is lost.",
        ),
        (
            {"verdict": Verdict.UNKNOWN, "state": "CLOSE_WAIT", "timeout": math.nan, "left": math.nan},
            "UNKNOWN: this connection is being closed (CLOSE_WAIT); for those no idle timeout is known.",
        ),
        (
            {"verdict": Verdict.UNKNOWN, "left": math.nan, "idle": math.nan},
            "UNKNOWN: the system does not show enough of this connection to tell.",
        ),
    ],
)
def test_what_will_happen_is_one_sentence(connection: dict[str, object], said: str) -> None:
    assert fate(changed(BARE, connection)) == said


def test_a_connection_that_nobody_watches_says_so_first() -> None:
    assert fate(changed(BARE, watched=False)).startswith("Not watched: its peer is in an ignored network (")


def test_a_connection_from_an_address_to_itself_is_not_watched_and_says_why() -> None:
    itself = changed(BARE, {"local": samples.BARE.remote}, watched=False)
    assert fate(itself).startswith("Not watched: both of its ends have the same address, so it stays on this host")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (ON, "on, switched on by its program: idle 2h, interval 1min 15s, probes 9 (the system's)"),
        (
            Found(SocketKeepalive(True, Keepalive(30, 75, 9)), ALL & ~Own.IDLE, SYSTEM),
            "on, switched on by its program: idle 30s (its program's); interval 1min 15s, probes 9 (the system's)",
        ),
        (
            Found(ON.stands, Own(0), SYSTEM),
            "on, switched on by its program: idle 2h, interval 1min 15s, probes 9 (its own, the same as the system's)",
        ),
        (
            Found(ON.stands, Own(0), None),
            "on, switched on by its program: idle 2h, interval 1min 15s, probes 9 (its own or the system's)",
        ),
    ],
)
def test_each_time_says_who_set_it(found: Found, said: str) -> None:
    assert fact(changed(BARE, {"verdict": Verdict.SAFE}, found=found), "keepalive") == said


def test_where_the_arming_record_cannot_be_read_nobody_is_said_to_have_switched_it_on() -> None:
    """The daemon may have armed it; of what is off it has not."""
    host = Host(hidden="requires root")
    said = "on: idle 2h, interval 1min 15s, probes 9; who set it is not known: requires root"
    assert fact(changed(BARE, {"verdict": Verdict.SAFE}, found=ON), "keepalive", host) == said
    assert fact(BARE, "keepalive", host) == "off: its program has not switched it on"
    assert "armed by keepaliveD" in fact(
        changed(BARE, found=Found(ARMED.after, ALL, SYSTEM), entry=ARMED), "keepalive", host
    )


def test_what_the_daemon_has_set_in_the_system_is_reported_with_what_stood_before() -> None:
    host = Host(True, samples.BARE.netns, SYSTEM)
    said = "               the daemon has set the system's; before: idle 2h, interval 1min 15s, probes 9"
    assert said in lines(changed(BARE, found=ON), host=host)
    assert said not in lines(changed(BARE, {"netns": 1}, found=ON), host=host)


def test_what_was_armed_says_by_whom_and_how_it_is_undone() -> None:
    ours = changed(BARE, {"verdict": Verdict.SAFE}, found=Found(ARMED.after, Own(0), SYSTEM), entry=ARMED)
    assert fact(ours, "keepalive") == "on, armed by keepaliveD: idle 3min, interval 20s, probes 31; before: off"
    assert fact(ours, "armed") == "yes; keepalivectl disarm restores what stood there: off"
    times = ARMED.before._replace(times=Keepalive(100, 1, 5))  # of the system, while the daemon had set it
    assert fact(changed(ours, entry=ARMED._replace(before=times)), "armed").endswith("what stood there: off")
    again = Armed(ARMED.after, ARMED.after)
    assert fact(changed(ours, entry=again), "keepalive").endswith("its timer was restarted")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            {"entry": Mark.LEFT_ALONE},
            "it was, until keepalivectl undo or disarm took that back, or its program changed it; no rule arms it "
            f"again, but this does: keepalivectl arm {rarer_end(BARE.connection)}",
        ),
        ({"entry": ARMED}, "it was, with idle 3min, interval 20s, probes 31; its program has changed that since"),
        ({"decision": ARMED}, "no daemon runs; rule keepalive.arm would arm it: idle 3min, interval 20s, probes 31"),
        ({"decision": None}, "not known what a daemon does: the socket was not read"),
        ({"decision": ArmingResult.KEPT_BY_PROGRAM}, 'no: rule keepalive.arm says "rearm", which keeps the times'),
        (
            {
                "decision": ArmingResult.TOO_LONG,
                "rule": dataclasses.replace(REARM, name="arm[1]", idle=400),
                "times": Keepalive(400, 20, 31),
            },
            'no: rule arm[1] would not arm it: idle 6min 40s is too long: path "office firewall" forgets after 5min '
            "(configured in /etc/tcp-keepalived/config.toml); "
            'use idle = "auto", or at most 4min 26s',
        ),
        (
            {"decision": ArmingResult.PROBE_UNANSWERED, "found": ON},
            "no: rule keepalive.arm would not arm it: to arm it while a keepalive probe is unanswered could end",
        ),
        (
            {"decision": ArmingResult.PROBE_UNANSWERED, "connection": dataclasses.replace(RESENDING, idle=1.0)},
            "no: rule keepalive.arm would not arm it: to arm it while data is being sent again could end",
        ),
        (
            {"decision": ArmingResult.PROBE_UNANSWERED},
            "no: rule keepalive.arm would not arm it: to arm it while a packet is unanswered could end",
        ),
        ({"decision": ArmingResult.USER_TIMEOUT}, "no: rule keepalive.arm would not arm it: its program has set a TCP"),
        (
            {"rule": dataclasses.replace(REARM, name="arm[1]", action=ArmAction.OBSERVE)},
            'no: rule arm[1] says "observe"',
        ),
    ],
)
def test_why_it_is_not_armed(others: dict[str, Any], said: str) -> None:
    assert fact(dataclasses.replace(BARE, **others), "armed").startswith(said)


def test_a_verdict_from_before_an_arming_is_not_shown_as_the_present_one() -> None:
    """The daemon answers from its last scan, and reads the socket as it is now."""
    late: dict[str, object] = {"verdict": Verdict.LATE, "due": Due.KEEPALIVE, "due_in": 7140.0, "keepalive": Shown.ON}
    armed = Found(ARMED.after, Own(0), SYSTEM)
    for before in ({}, late):
        its = changed(BARE, before, found=armed, entry=ARMED, decision=ARMED)
        verdict = its.connection.verdict.label
        assert page.outdated(its)
        assert fate(its) == f"{verdict.upper()} at the last scan; its keepalive was changed since: see the next scan."
        assert fact(its, "next packet") == "keepalive in 3min at most"
        assert page.headline("amanda@backup", [its]) == "amanda@backup: 1 connection: 1 changed since the last scan"
    off = changed(BARE, {"verdict": Verdict.SAFE, "due": Due.KEEPALIVE, "keepalive": Shown.ON}, entry=Mark.LEFT_ALONE)
    assert page.outdated(off)
    assert fact(off, "next packet") == "none, until its program or the peer sends data"


@pytest.mark.parametrize(
    ("connection", "found"),
    [
        ({}, OFF),
        ({"verdict": Verdict.LATE, "due": Due.KEEPALIVE, "keepalive": Shown.ON}, ON),
        ({"verdict": Verdict.CUT, "keepalive": Shown.ON}, Found(ARMED.after, Own(0), SYSTEM)),
        ({"verdict": Verdict.SAFE, "keepalive": Shown.HIDDEN}, ON),
        ({"keepalive": Shown.ON}, None),
    ],
)
def test_a_verdict_holds_as_long_as_nobody_changes_the_socket(connection: dict[str, object], found: Found) -> None:
    assert not page.outdated(changed(BARE, connection, found=found, entry=ARMED))


def test_where_only_data_counts_keepalive_that_stands_says_of_no_verdict_that_it_is_old() -> None:
    """Nor is what leaves such a connection a packet that the path counts: the answer to a probe is none."""
    its = changed(
        BARE, {"counts": WhatCounts.DATA, "keepalive": Shown.ON}, found=Found(ARMED.after, NONE, SYSTEM), entry=ARMED
    )
    assert not page.outdated(its)
    assert fate(its).startswith("BARE: the path forgets this connection in 58s, unless its program or the peer sends")
    assert page.headline("amanda@backup", [its]) == "amanda@backup: 1 connection: 1 bare"
    assert fact(its, "last data") == "4min 2s ago"


def test_a_daemon_that_runs_arms_at_its_next_scan() -> None:
    said = fact(changed(BARE, decision=ARMED), "armed", Host(True))
    assert said == "rule keepalive.arm arms it at the next scan: idle 3min, interval 20s, probes 31"


def test_what_the_daemon_has_tried_and_left_waits_for_a_reload() -> None:
    said = fact(changed(BARE, decision=ARMED, left_until_reload=True), "armed", Host(True))
    assert said == (
        "no: the daemon tried it before, and left it; after a reload rule keepalive.arm arms it: "
        "idle 3min, interval 20s, probes 31"
    )


def test_what_was_not_read_is_not_known() -> None:
    unread = changed(BARE, {"keepalive": Shown.ON}, found=None, hindrance=ArmingResult.OWNER_NOT_VISIBLE, decision=None)
    assert fact(unread, "keepalive") == "on; who set it is not known: requires root"


def test_a_path_that_counts_only_data_is_said_to_be_beyond_help() -> None:
    its = changed(BARE, {"counts": WhatCounts.DATA}, decision=ArmingResult.ONLY_DATA)
    assert fact(its, "path").endswith("/config.toml); keepalive does not help there")
    assert "without data (configured in " in fact(its, "path")
    assert "would not arm it: the path counts only data; let its program send some" in fact(its, "armed")


def test_a_timeout_that_nobody_knows_is_called_a_guess() -> None:
    its = changed(BARE, {"path": "default", "origin": Origin(Source.GUESS)})
    assert fact(its, "path").endswith("(guess: watch.default_timeout; no [[path]] matches)")
    (section, *_) = solutions.assumed([its])
    assert section == "[[path]]"
    assert tomllib.loads("\n".join(solutions.assumed([its])))["path"][0]["networks"] == ["10.20.0.9/32"]
    assert solutions.assumed([BARE]) == []
    safe = changed(BARE, {"verdict": Verdict.SAFE, "origin": Origin(Source.GUESS)})
    assert solutions.assumed([safe])[0] == "[[path]]"
    assert "keepalivectl deaths" in for_people.assumed([safe])


def test_connections_that_are_alike_are_explained_once() -> None:
    others = [changed(BARE, {"local": Endpoint("10.1.2.3", 40001 + number)}) for number in range(3)]
    said = lines(BARE, *others)
    assert len([line for line in said if "BARE" in line]) == 1
    assert said[-1] == (
        "  alike        3 others: 10.1.2.3:40001 -> 10.20.0.9:10080, 10.1.2.3:40002 -> 10.20.0.9:10080, ..."
    )


def test_the_headline_counts_the_worst_first() -> None:
    safe = changed(BARE, {"verdict": Verdict.SAFE})
    assert page.headline("amanda@backup", [BARE, safe, safe]) == "amanda@backup: 3 connections: 1 bare, 2 safe"
    more = page.headline("amanda*\x1b*", [changed(BARE, {"owner": Owner(1, "x", "amanda\x1b.service")})], 4)
    assert more == "amanda*\\x1b*: 5 connections: 1 bare; 1 is explained here, the most urgent of each user first"


def test_a_process_that_is_called_like_a_unit_is_said_to_be_a_process() -> None:
    """Anybody may call one so; a daemon without privileges knows no process, but its user."""
    posing = changed(BARE, {"owner": Owner(8, "nginx.service", "session-3.scope"), "uid": 1000})
    unseen = changed(BARE, {"owner": Owner(), "uid": 1001})
    assert page.headline("nginx.service", [posing]) == "process nginx.service (uid 1000): 1 connection: 1 bare"
    assert page.headline("nginx", [unseen]) == "process nginx (uid 1001): 1 connection: 1 bare"
    assert page.headline("ng*", [posing, unseen]) == "process ng* (2 users): 2 connections: 2 bare"
    for target, words in (("8", "process 8"), ("10.20.0.9", "10.20.0.9"), ("sk:1a", "sk:1a")):
        assert page.headline(target, [posing]) == f"{words}: 1 connection: 1 bare"


def test_the_headline_says_what_is_safe_only_by_a_guess() -> None:
    safe = changed(BARE, {"verdict": Verdict.SAFE})
    guessed = changed(safe, {"origin": Origin(Source.GUESS)})
    assert page.headline("amanda@backup", [BARE, guessed]) == "amanda@backup: 2 connections: 1 bare, 1 safe by a guess"
    assert page.headline("amanda@backup", [safe, guessed]) == "amanda@backup: 2 connections: 2 safe (1 by a guess)"
    for sure in ({"timeout": FOREVER}, {"origin": Origin(Source.EVIDENCE, "3 died")}, {"verdict": Verdict.BARE}):
        assert "guess" not in page.headline("amanda@backup", [changed(guessed, dict(sure))])


GONE = Gone(1.0, 1, "amanda@backup.service", "10.20.0.9", 100.0, 240.0, 'timeout = "50s"', "4026531840", "1000")


def test_where_only_the_newest_deaths_were_read_there_may_be_more() -> None:
    part = Forgotten((GONE._replace(number=7, is_part=True), GONE._replace(peer="", is_part=True)))
    assert fact(BARE, "died", Host(forgotten=part)).startswith("at least 7 connections to 10.20.0.9 died after ")


@pytest.mark.parametrize(("number", "forgot"), [(1, "it"), (2, "them")])
def test_the_path_had_forgotten_as_many_as_died(number: int, forgot: str) -> None:
    died = fact(BARE, "died", Host(forgotten=Forgotten((GONE._replace(number=number),))))
    assert f"the path had forgotten {forgot}; see keepalivectl deaths 10.20.0.9" in died


@pytest.mark.parametrize(
    "strange", [GONE._replace(netns="4026532000"), GONE._replace(uid="65534"), GONE._replace(netns="", uid="")]
)
def test_what_ended_of_another_user_or_in_another_network_namespace_supports_nothing(strange: Gone) -> None:
    """In one of his own anybody has that peer, and a firewall that forgets it when he likes."""
    one = changed(BARE, {"origin": Origin(Source.GUESS), "timeout": 240.0}).connection
    assert helpful_path(one, Forgotten([GONE]))
    assert helpful_path(one, Forgotten([strange])) is None


@pytest.mark.parametrize(
    ("source", "timeout", "offered"),
    [
        (Source.GUESS, 240.0, True),
        (Source.PLATFORM, 600.0, True),
        (Source.EVIDENCE, 80.0, True),  # which has shortened the guess already: nothing is armed by it
        (Source.GUESS, 100.0, False),
        (Source.CONFIGURED, 240.0, False),
        (Source.MEASURED, 240.0, False),
    ],
)
def test_ends_of_connections_offer_a_timeout_where_nobody_has_written_one_down(
    source: Source, timeout: float, *, offered: bool
) -> None:
    host = Host(forgotten=Forgotten((GONE,)))
    safe = changed(BARE, {"verdict": Verdict.SAFE, "timeout": timeout, "origin": Origin(source, "x")}, remedy=None)
    found = solutions.of([safe], host)
    assert [path.name for path in found.paths] == ["to 10.20.0.9"] * offered
    assert found.name == "to 10.20.0.9" * offered
    for helpless in ({"counts": WhatCounts.DATA}, {"remote": Endpoint("10.20.0.8", 1)}):
        assert not solutions.of([changed(safe, dict(helpless))], host).lines


def test_a_rule_that_is_wanted_twice_is_written_once() -> None:
    other = HelpfulRule((("user", "1000"), ("action", "enable")), ARMED)
    found = solutions.of([BARE, BARE, changed(BARE, remedy=other)], Host())
    assert tomllib.loads("\n".join(found.lines))["arm"] == [
        {"unit": "amanda@backup.service", "action": "enable"},
        {"user": 1000, "action": "enable"},
    ]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("process", "ssh", 'process = "ssh"  # covers every process of this name'),
        ("user", "1000", "user = 1000  # covers every process of this user"),
        ("unit", "ssh.service", 'unit = "ssh.service"'),
    ],
)
def test_a_rule_that_covers_more_than_was_asked_for_says_so(key: str, value: str, line: str) -> None:
    """Whoever asks for one ssh of his own does not expect to arm everybody's."""
    assert solutions.rule_lines(((key, value), ("action", "enable")))[1] == line


NAMES = st.text() | st.sampled_from(['"]\n[[arm]]', "\x1b[2J", "a\x7fb", "\u202e", "\ud800", "\\", '"'])


@given(st.builds(Owner, st.integers(0, 9), NAMES.map(printable), NAMES.map(printable)), st.sampled_from(Verdict))
def test_no_name_forges_a_line_or_a_key(owner: Owner, verdict: Verdict) -> None:
    """Owners have printable names; and yet these may hold quotes and brackets."""
    its = changed(BARE, {"owner": owner, "verdict": verdict})
    assert len(lines(its)) == len(lines(changed(BARE, {"verdict": verdict})))
    assert all(line.isprintable() for line in lines(its))
    rule = solutions.rule_lines((("process", owner.process), ("action", "enable")))
    assert tomllib.loads("\n".join(rule)) == {"arm": [{"process": owner.process, "action": "enable"}]}
