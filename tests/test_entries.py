"""What is said: readable, complete, and impossible to forge."""

import dataclasses
import re
from pathlib import Path

import pytest

from keepaliveD import entries
from keepaliveD.entries import ERROR, INFO, NOTICE, WARNING, Entry
from keepaliveD.entries.entry import HANDFUL
from keepaliveD.errors import NotPermitted
from keepaliveD.model import (
    Because,
    Connection,
    Due,
    Outcome,
    Owner,
    Report,
    ReportDrift,
    ReportUnseen,
    SetSystemKeepalive,
    Verdict,
)
from tests.samples import BARE


def late(**changes: object) -> Connection:
    values: dict[str, object] = {"verdict": Verdict.LATE, "due": Due.KEEPALIVE, "due_in": 6958.0} | changes
    return dataclasses.replace(BARE, **values)  # type: ignore[arg-type]


def cut(**changes: object) -> Connection:
    values: dict[str, object] = {"verdict": Verdict.CUT, "idle": 301.0, "left": -1.0} | changes
    return dataclasses.replace(BARE, **values)  # type: ignore[arg-type]


def say(*connections: Connection, before: Verdict = Verdict.UNKNOWN) -> list[Entry]:
    return list(entries.of(Outcome(Report(connections, (before,) * len(connections)))))


def test_a_bare_connection_in_one_line() -> None:
    (entry,) = say(BARE)
    assert entry.message == (
        "amandad[812] (amanda@backup.service) 10.1.2.3:40000 -> 10.20.0.9:10080: no packet is due: "
        'path "office firewall" forgets it in 58s '
        "(quiet for 4min 2s of 5min, configured in /etc/tcp-keepalived/config.toml)"
    )
    assert (entry.event, entry.priority) == ("bare", WARNING)


def test_a_late_connection_says_what_is_due_too_late() -> None:
    (entry,) = say(late())
    assert "keepalive is due in 1h 55min, too late: " in entry.message
    assert entry.fields["KEEPALIVE_DUE_SEC"] == 6958.0


def test_a_cut_connection_is_an_error() -> None:
    (entry,) = say(cut())
    assert "quiet for 5min 1s: path" in entry.message
    assert (entry.event, entry.priority) == ("cut", ERROR)


def test_what_rests_on_a_guess_is_less_urgent() -> None:
    """Where no path is configured the timeout is the shortest in the catalogue: most exceed it."""
    guess = {"origin": "watch.default_timeout"}
    assert [say(connection)[0].priority for connection in (cut(**guess), late(**guess))] == [WARNING, NOTICE]


def test_a_connection_that_is_safe_again_is_good_news() -> None:
    safe = dataclasses.replace(BARE, verdict=Verdict.SAFE, due=Due.KEEPALIVE, due_in=170.0, left=290.0, idle=10.0)
    (entry,) = say(safe, before=Verdict.BARE)
    assert (entry.event, entry.priority) == ("safe", INFO)
    assert "safe now: keepalive is due in 2min 50s, path" in entry.message


def test_a_connection_that_outlived_its_cut_says_what_was_learnt() -> None:
    (entry,) = say(dataclasses.replace(BARE, idle=3.0, timeout=350.0), before=Verdict.CUT)
    assert entry.event == "safe"
    assert "lives after all: a packet passed 3s ago" in entry.message


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


def test_a_handful_is_told_one_by_one() -> None:
    assert len(say(*[BARE] * HANDFUL)) == HANDFUL


def test_more_become_one_summary_a_unit_and_path() -> None:
    """Ten thousand sockets that go bare at once must not become ten thousand lines."""
    other = dataclasses.replace(BARE, owner=Owner(9, "psql", "pool.service"))
    urgent = dataclasses.replace(BARE, left=12.0)
    said = say(*[BARE] * 7000, urgent, *[other] * 3000)
    assert [entry.message for entry in said] == [
        '7001 connections of amanda@backup.service on path "office firewall": no packet is due, '
        "the first is forgotten in 12s, such as 10.1.2.3:40000 -> 10.20.0.9:10080",
        '3000 connections of pool.service on path "office firewall": no packet is due, '
        "the first is forgotten in 58s, such as 10.1.2.3:40000 -> 10.20.0.9:10080",
    ]
    assert said[0].fields["KEEPALIVE_COUNT"] == 7001
    assert said[0].fields["KEEPALIVE_UNIT"] == "amanda@backup.service"


def test_a_single_one_among_many_is_told_in_full() -> None:
    said = say(*[BARE] * 10, cut())
    assert [entry.fields.get("KEEPALIVE_COUNT") for entry in said] == [10, None]


def settings(because: Because, *, dry_run: bool = False) -> list[Entry]:
    action = SetSystemKeepalive({"net.ipv4.tcp_keepalive_time": 180}, {"net.ipv4.tcp_keepalive_time": 7200}, because)
    return list(entries.of(Outcome(action, dry_run=dry_run)))


@pytest.mark.parametrize(
    ("because", "event", "message"),
    [
        (Because.CONFIGURED, "applied", "found 7200, set to 180"),
        (Because.DRIFT, "drift", "found 7200, set to 180 (somebody else had changed it)"),
        (Because.RESTORE, "restored", "found 7200, set to 180 (given back)"),
    ],
)
def test_a_setting_names_the_old_and_the_new_value(because: Because, event: str, message: str) -> None:
    (entry,) = settings(because)
    assert (entry.event, entry.message) == (event, f"net.ipv4.tcp_keepalive_time: {message}")
    assert (entry.fields["KEEPALIVE_FOUND"], entry.fields["KEEPALIVE_VALUE"]) == (7200, 180)


def test_a_dry_run_does_not_claim_to_have_done_it() -> None:
    (entry,) = settings(Because.CONFIGURED, dry_run=True)
    assert "would set 180" in entry.message


def test_a_refusal_is_said_as_it_is() -> None:
    action = SetSystemKeepalive({"x": 1}, {"x": 2}, Because.DRIFT)
    (entry,) = entries.of(Outcome(action, refused=NotPermitted("x: cannot be set to 1: run as root")))
    assert (entry.priority, entry.message) == (ERROR, "x: cannot be set to 1: run as root")


def test_drift_that_is_left_so_says_what_was_wanted() -> None:
    (entry,) = entries.of(Outcome(ReportDrift({"x": 180}, {"x": 300}, yielded=True)))
    assert entry.message == "x: was 180, somebody else set it to 300; left to whoever set it"


def test_namespaces_that_cannot_be_entered_are_told_and_their_end_is_not() -> None:
    assert [entry.event for entry in entries.of(Outcome(ReportUnseen(3)))] == ["unseen"]
    assert list(entries.of(Outcome(ReportUnseen(0)))) == []


def documented(kind: str) -> set[str]:
    """Code spans in the first column of the tables of docs/journal.md."""
    text = Path(__file__).parents[1].joinpath("docs/journal.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^\| `({kind})` \|", text, re.MULTILINE))


def test_the_documentation_lists_every_message_id() -> None:
    assert documented("[0-9a-f]{32}") == set(entries.MESSAGE_IDS.values())


def test_message_ids_are_unique() -> None:
    assert len(set(entries.MESSAGE_IDS.values())) == len(entries.MESSAGE_IDS)


def test_the_documentation_lists_every_field() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in Path(entries.__file__).parent.glob("*.py"))
    assert documented("[A-Z_]{3,}") == set(re.findall(r'"(KEEPALIVE_[A-Z_]+)"', source))
