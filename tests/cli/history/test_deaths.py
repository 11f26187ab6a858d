"""keepalivectl deaths reads the journal, and explains each end in plain words."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.cli.history import deaths
from keepaliveD.cli.printing import table
from keepaliveD.log import history
from keepaliveD.log.entries import Entry, of
from keepaliveD.log.kept import KeepingLog
from keepaliveD.model.actions import Outcome
from keepaliveD.model.autopsy import Common
from keepaliveD.model.causes import Foretold
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Misuse, NoInput, NotPermitted, Refusal, Unsupported
from keepaliveD.model.reports import ReportDeaths
from keepaliveD.records.history import History
from tests.support.ends import FORGOTTEN_BY_REJECT, MEASURED, Facts, alike, live

SSH = Owner(812, "sshd", "ssh.service")
EPOCH = datetime.datetime.now(datetime.UTC).replace(microsecond=0)  # within the week that is shown


def entry(facts: Facts, count: int = 1, owner: Owner = SSH) -> Entry:
    (said,) = of(Outcome(ReportDeaths((alike(facts, count, owner=owner),))))
    return said


FORGOTTEN = entry(FORGOTTEN_BY_REJECT)
ABORTED = entry(live(silence=0.1), owner=Owner())
MANY = entry(live(silence=0.1), 100)


def journal(*said: Entry, uid: int = 0) -> history.Reader:
    """A journal with these entries, a second apart, as systemd-python reads it."""

    def read(since: float) -> Iterator[Mapping[str, Any]]:
        del since
        for number, one in enumerate(said):
            fields = {name: str(value) for name, value in one.fields.items()}
            when = EPOCH + datetime.timedelta(seconds=number)
            yield {"MESSAGE": one.message, "_UID": uid, "__REALTIME_TIMESTAMP": when, **fields}

    return read


def printed(capsys: pytest.CaptureFixture[str], read: history.Reader, *words: str) -> str:
    deaths.show(parsed(*words), Path("/nonexistent"), read)
    return capsys.readouterr().out


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    deaths.add_deaths(parser)
    return parser.parse_args(["--state-dir=/nonexistent", *words])


def test_what_ended_is_grouped_and_the_newest_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, journal(FORGOTTEN, ABORTED, MANY)).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["COUNT", "100", "1", "1"]
    assert ["middlebox-idle" in line for line in lines[1:4]].count(True) == 1
    first, second, third = (line.partition("  ")[2] for line in lines[6:9])
    assert "100 connections" in first
    assert "10.71.3.2:5432" in second
    assert third.split()[2:6] == ["middlebox-idle", "at", "hop", "2"]
    assert "sshd[812]" in third


def test_a_program_cannot_name_itself_like_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    named = dataclasses.replace(FORGOTTEN, fields={**FORGOTTEN.fields, "KEEPALIVE_PROCESS": "sshd[1]  ssh.s"})
    assert '"sshd[1]  ssh.s"[812]' in printed(capsys, journal(named))


@pytest.mark.parametrize("since", ["infinity", "1970-01-02"])
def test_a_time_before_all_entries_selects_all(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "middlebox-idle" in printed(capsys, journal(FORGOTTEN), "--since", since)


def test_a_unit_or_an_address_selects(capsys: pytest.CaptureFixture[str]) -> None:
    both = journal(FORGOTTEN, ABORTED)
    assert "peer-aborted" not in printed(capsys, both, "ssh")
    assert "middlebox-idle" in printed(capsys, both, "ssh.service")
    assert "peer-aborted" in printed(capsys, both, "10.71.3.2")
    assert printed(capsys, both, "10.71.3.3").startswith("no entries")


@pytest.mark.parametrize(
    "target",
    [
        "sshd",
        "sshd*",
        "sshd[812]",
        "812",
        "10.71.3.2:5432",
        "[::ffff:10.71.3.2]:5432",
        "10.71.1.1:40000",
        "10.71.1.1",
        "sk:2a",
        "42",
    ],
)
def test_what_why_takes_selects(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By either end, by the process and by the cookie."""
    found = dataclasses.replace(FORGOTTEN, fields={**FORGOTTEN.fields, "KEEPALIVE_COOKIE": 42})
    other: dict[str, str | int | float] = {
        "KEEPALIVE_REMOTE_ADDRESS": "10.71.3.9",
        "KEEPALIVE_LOCAL_ADDRESS": "10.71.1.9",
    }
    both = journal(found, dataclasses.replace(ABORTED, fields={**ABORTED.fields, **other}), MANY)
    (one,) = json.loads(printed(capsys, both, target, "--json"))
    assert one["cause"] == "middlebox-idle"


@pytest.mark.parametrize(
    "target", ["amandad", "sshd[813]", "ssh[812]", "4194304", "10.71.3.2:5433", "10.71.3.7", "nowhere.invalid"]
)
def test_where_nothing_matches_the_answer_names_the_target(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = printed(capsys, journal(FORGOTTEN, ABORTED), target)
    named = f"process {target}" if target.isdecimal() else target
    assert answer == f"no entries about {named}; 2 entries are about others, see keepalivectl deaths\n"
    with pytest.raises(NoInput, match=f"^--explain last: no entries about {re.escape(named)}; "):
        printed(capsys, journal(FORGOTTEN, ABORTED), target, "--explain", "last")


def test_half_a_name_offers_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    answer = printed(capsys, journal(FORGOTTEN, ABORTED), "shd")
    assert answer.endswith(", see keepalivectl deaths; did you mean sshd?\n")


def test_where_there_are_no_entries_at_all_the_answer_names_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    answer = printed(capsys, journal(), "amandad")
    assert answer.startswith("no entries about amandad, nor about any other ended connection")


@pytest.mark.parametrize("target", ["", "10.71.3.2:0", "fd00::1:70000"])
def test_a_wrong_target_is_a_misuse(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Misuse):
        printed(capsys, journal(FORGOTTEN), target)


def identifiers(capsys: pytest.CaptureFixture[str], read: history.Reader, *words: str) -> list[str]:
    """The first word of each line about one entry, the newest first."""
    _, _, listed = printed(capsys, read, *words).partition("\n\n")
    return [line.split()[0] for line in listed.splitlines()[1:-1]]


def test_an_identifier_means_the_same_entry_however_many_come_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    (before,) = identifiers(capsys, journal(FORGOTTEN))
    afterwards = identifiers(capsys, journal(FORGOTTEN, ABORTED, ABORTED, MANY))
    assert afterwards[-1] == before
    assert len(set(afterwards)) == 4
    assert identifiers(capsys, journal(FORGOTTEN, ABORTED), "ssh.service") == [before]
    text = printed(capsys, journal(FORGOTTEN, ABORTED, ABORTED, MANY), "--explain", before)
    assert "cause: reset by a middlebox after idle (very likely)" in text
    (one,) = json.loads(printed(capsys, journal(FORGOTTEN, ABORTED), "--json", "--explain", before))
    assert (one["id"], one["cause"]) == (before, "middlebox-idle")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identifiers that begin alike: those of ends by a middlebox, those of many, and all others."""
    names = {"middlebox-idle": "0123abcd", "peer-aborted": "0123abef"}
    monkeypatch.setattr(history.Record, "id", property(lambda record: names[record["CAUSE"]]))


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("words", [("0123abc",), ("0123abcd",), ("0123", "ssh.service")])
def test_the_first_characters_of_an_identifier_are_enough_where_no_other_entry_begins_so(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Of those that --since and TARGET leave."""
    text = printed(capsys, journal(FORGOTTEN, ABORTED), "--explain", *words)
    assert "cause: reset by a middlebox after idle" in text


@pytest.mark.usefixtures("called")
def test_where_several_entries_begin_so_one_line_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    said = "^--explain 0123: 2 entries begin so: 0123abef, 0123abcd; write more of the one that you mean$"
    with pytest.raises(Misuse, match=said):
        printed(capsys, journal(FORGOTTEN, ABORTED, ABORTED), "--explain", "0123")
    with pytest.raises(NoInput, match=r"^--explain 0124: no entry has this identifier"):
        printed(capsys, journal(FORGOTTEN, ABORTED), "--explain", "0124")


def test_of_very_many_that_begin_so_a_few_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.Record, "id", property(lambda record: f"abcd{int(record.when) % 10_000:04}"))
    with pytest.raises(Misuse, match=r"abcd: 100 entries begin so: (abcd[0-9]{4}, ){8}and 92 others; write more of "):
        printed(capsys, journal(*[FORGOTTEN] * 100), "--explain", "abcd")


def test_the_newest_entry_needs_no_identifier(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cause: peer aborted" in printed(capsys, journal(FORGOTTEN, ABORTED), "--explain", "last")
    newest = printed(capsys, journal(FORGOTTEN, ABORTED), "ssh.service", "--explain=last")
    assert "cause: reset by a middlebox after idle" in newest


def test_a_number_that_each_new_entry_would_change_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        printed(capsys, journal(FORGOTTEN), "--explain", "1")
    assert (
        "'1' is not an ID; write one that keepalivectl deaths lists, or its first 4 characters or more, or last for "
        "the newest entry"
    ) in capsys.readouterr().err


def test_one_end_is_explained_with_evidence_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, journal(ABORTED, FORGOTTEN), "--explain", "last")
    assert "cause: reset by a middlebox after idle (very likely)" in text
    assert "\n  seen: quiet for 3.5s before\n" in text
    assert "\n  [[arm]]\n" in text
    first, *_ = text.splitlines()
    assert first.endswith("not if somebody restarted the device or changed its rules; see remedy below")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    for module in (deaths, table):
        monkeypatch.setattr(module, "terminal_width", lambda: 80)


@pytest.mark.usefixtures("narrow")
def test_in_a_narrow_terminal_one_sees_which_connection_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """The peer and the cause stay; the local end is left out first."""
    lines = printed(capsys, journal(FORGOTTEN, MANY)).splitlines()
    assert max(map(len, lines)) <= 80
    groups, left_out = lines[0].split(), [line for line in lines if line.startswith("column")]
    heading, _, one = lines[5:8]
    assert heading.split() == ["ID", "WHEN", "CAUSE", "REMOTE"]
    assert one.endswith("  middlebox-idle at hop 2  10.71.3.2:5432")
    assert groups == ["COUNT", "LAST", "CAUSE", "UNIT", "PATH"]
    assert left_out == [
        "column left out: FORETOLD; a wider terminal shows it, and so does --json",
        "columns left out: SURE, LOCAL, PROCESS, UNIT; a wider terminal shows them, and",
    ]


@pytest.mark.usefixtures("narrow")
def test_an_explanation_is_broken_between_words_and_its_remedy_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, journal(FORGOTTEN), "--explain", "last").splitlines()
    above, remedy = lines[: lines.index("remedy:")], lines[lines.index("remedy:") :]
    assert max(map(len, above)) <= 80
    wide = str(FORGOTTEN.fields["KEEPALIVE_EVIDENCE"]).split()
    assert " ".join(wide[-5:]) in " ".join(" ".join(above).split())
    assert [line.strip() for line in remedy[1:]] == str(FORGOTTEN.fields["KEEPALIVE_REMEDY"]).split("\n")


@pytest.mark.usefixtures("narrow")
def test_a_remedy_in_words_is_broken_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    said = {**ABORTED.fields, "KEEPALIVE_REMEDY": "keepalive would not have helped: " + "the peer ended it " * 5}
    lines = printed(capsys, journal(dataclasses.replace(ABORTED, fields=said)), "--explain", "last").splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("foretold", "words"),
    [
        (Foretold.FORETOLD, "forecast: foretold, 1min 28s before"),
        (Foretold.NOT_FORESEEABLE, "forecast: not foreseeable; a warning had come 1min 28s before"),
    ],
)
def test_a_warning_of_something_else_is_not_called_a_forecast(
    capsys: pytest.CaptureFixture[str], foretold: Foretold, words: str
) -> None:
    """A program was killed that had been warned of."""
    said = {**ABORTED.fields, "KEEPALIVE_FORETOLD": foretold.key, "KEEPALIVE_WARNED_SEC": 88}
    shown = printed(capsys, journal(dataclasses.replace(ABORTED, fields=said)), "--explain", "last")
    assert words in shown.splitlines()


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("name", MEASURED)
def test_the_forecast_is_said_as_the_log_says_it(capsys: pytest.CaptureFixture[str], name: str, count: int) -> None:
    said = entry(MEASURED[name][2], count)
    (forecast,) = re.findall("^forecast: (.*)$", printed(capsys, journal(said), "--explain", "last"), re.MULTILINE)
    assert f"({forecast})" in said.message or f"; {forecast})" in said.message


def test_what_many_ends_of_many_kinds_do_not_have_in_common_is_not_counted_for_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    together = dataclasses.replace(alike(FORGOTTEN_BY_REJECT, 500, 60.0, SSH), common=Common.NOTHING)
    (said,) = of(Outcome(ReportDeaths((together,))))
    group = printed(capsys, journal(said)).splitlines()[1].split()
    assert (group[0], group[-3:]) == ("500", ["differs", "-", "-"])
    assert "forecast: not the same for all of them" in printed(capsys, journal(said), "--explain", "last")


def test_what_would_tell_two_causes_apart_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, journal(ABORTED), "--explain", "last")
    assert "  or: reset by a middlebox while busy; what would tell: a tcp-keepalived at the peer" in text


@pytest.mark.parametrize(
    "damage",
    [{"KEEPALIVE_COUNT": "\N{SUPERSCRIPT TWO}"}, {"KEEPALIVE_COUNT": "9" * 5000}, {"KEEPALIVE_WARNED_SEC": "nan"}],
)
@pytest.mark.parametrize("words", [(), ("--explain", "last")])
def test_an_entry_with_a_damaged_number_is_shown_without_it(
    damage: dict[str, str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Entry(FORGOTTEN.event, FORGOTTEN.priority, FORGOTTEN.message, {**FORGOTTEN.fields, **damage})
    assert "middlebox" in printed(capsys, journal(damaged), *words)


def test_there_is_no_such_entry(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoInput, match="--explain 0123abcd: no entry has this identifier; see keepalivectl deaths"):
        printed(capsys, journal(ABORTED), "--explain", "0123abcd")
    with pytest.raises(NoInput, match="--explain last: no entries about ended connections"):
        printed(capsys, journal(), "--explain", "last")


def test_programs_read_json(capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = json.loads(printed(capsys, journal(FORGOTTEN), "--json"))
    assert (one["cause"], one["when"], one["unit"]) == ("middlebox-idle", EPOCH.timestamp(), "ssh.service")


def test_an_entry_that_somebody_else_wrote_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, journal(FORGOTTEN, uid=1000)).startswith("no entries")


def test_a_field_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    evil = Entry("died", 4, "\x1b[2J", {**FORGOTTEN.fields, "KEEPALIVE_UNIT": "\x1b[31mx"})
    assert "\x1b" not in printed(capsys, journal(evil)) + printed(capsys, journal(evil), "--explain", "last")


@pytest.mark.parametrize(
    "wrong", [("--since", "yesterdayish"), ("--explain", "0"), ("--explain", "abc"), ("--explain", "0123ABCD")]
)
def test_a_wrong_value_is_a_misuse(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        printed(capsys, journal(), *wrong)


@pytest.mark.parametrize(
    "since",
    [
        "2h",
        "-2h",
        "2 hours ago",
        "1h 30min ago",
        "2026-11-28",
        "2026-11-28 14:00",
        "14:00",
        "today",
        "yesterday",
        "now",
    ],
)
def test_a_date_or_a_time_span_is_taken(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, journal(), "--since", since)


ONLY_NETLINK = (
    "only ends that this host gave up are seen, in this network namespace: BPF is not permitted: requires CAP_BPF; "
    "the optional drop-in bpf.conf gives it; packets cannot be read; the drop-in packets.conf gives this"
)
HELP = (
    "; only ends that this host gave up are seen, in this network namespace; "
    "the drop-in bpf.conf or packets.conf helps, see keepalivectl status\n"
)


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, object] | Refusal) -> None:
    """Have the daemon answer this to Status, or have it refuse."""

    def ask(_path: Path, method: str) -> dict[str, object]:
        assert method == "Status"
        if isinstance(answer, Refusal):
            raise answer
        return answer

    monkeypatch.setattr(deaths, "ask", ask)


def test_without_entries_a_daemon_that_does_not_see_all_ends_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, {"unseen": ONLY_NETLINK})
    assert printed(capsys, journal()).endswith(HELP)
    assert printed(capsys, journal(FORGOTTEN), "amandad").endswith(HELP)
    assert "see keepalivectl status" not in printed(capsys, journal(FORGOTTEN))
    assert json.loads(printed(capsys, journal(), "--json")) == []


@pytest.mark.parametrize(
    "why", ["autopsy.enabled = false", 'watch.engine = "netlink"', "netlink: Permission denied: the sandbox"]
)
def test_what_no_drop_in_mends_is_said_with_its_reason(
    why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, {"unseen": f"ends of connections are not seen: {why}"})
    assert printed(capsys, journal()).endswith(f"; ends of connections are not seen: {why}\n")


@pytest.mark.parametrize("unseen", ["", "ends of connections are not fully explained: routers are not named"])
def test_a_daemon_that_sees_all_ends_needs_no_help(
    unseen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, {"unseen": unseen})
    assert ";" not in printed(capsys, journal())


@pytest.mark.parametrize("answer", [{}, NoInput("no daemon"), NotPermitted("run as root")])
def test_where_no_daemon_tells_the_newest_start_does(
    answer: dict[str, object] | Refusal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, answer)
    starts = [Entry("started", 6, "", {"KEEPALIVE_UNSEEN": each}) for each in ("something else: x", ONLY_NETLINK)]

    def read(since: float, events: Sequence[str], newest: int) -> Iterator[Mapping[str, Any]]:
        assert events == history.STARTS
        return iter(list(journal(*starts)(since))[-newest:])

    monkeypatch.setattr(history, "journal", read)
    assert printed(capsys, journal()).endswith(HELP)


def forbidden(_: float) -> Iterator[Mapping[str, Any]]:
    """A journal that may not be read."""
    raise NotPermitted("the history is in the journal: not permitted: run as root")


def test_who_may_not_read_the_history_is_told_so_and_not_that_nothing_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither that of the state directory, nor that of the journal; and some of it is no reason to hide the rest."""
    words = "--state-dir", str(tmp_path)
    log = KeepingLog(lambda _: None, History(tmp_path), EPOCH.timestamp)
    log(FORGOTTEN)
    assert "middlebox-idle" in printed(capsys, forbidden, *words)
    deaths.show(parsed(*words), tmp_path, forbidden)
    assert capsys.readouterr().err == (
        "note: not all is listed: the history is in the journal: not permitted: run as root\n"
    )
    monkeypatch.setattr(History, "since", forbidden_file)
    for read in (journal(), forbidden):
        for more in ((), ("--json",), ("--explain", "last"), ("amandad",)):
            with pytest.raises(NotPermitted, match="run as root"):
                printed(capsys, read, *words, *more)


def forbidden_file(own: History, _: float) -> Iterator[Mapping[str, Any]]:
    raise NotPermitted(f"{own}: not permitted: run as root")


def test_without_a_journal_the_history_of_the_state_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "systemd.journal", None)
    log = KeepingLog(lambda _: None, History(tmp_path), EPOCH.timestamp)
    for one in (FORGOTTEN, ABORTED):
        log(one)
    text = printed(capsys, history.journal, "--state-dir", str(tmp_path))
    assert ["middlebox-idle" in text, "peer-aborted" in text] == [True, True]
    *_, oldest = identifiers(capsys, history.journal, "--state-dir", str(tmp_path))
    assert "cause: reset by a middlebox after idle" in printed(
        capsys, history.journal, "--state-dir", str(tmp_path), "--explain", oldest
    )


def test_a_history_without_entries_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "systemd.journal", None)
    History(tmp_path).begin()
    assert printed(capsys, history.journal, "--state-dir", str(tmp_path)).startswith("no entries")


def test_both_histories_are_read_where_there_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    KeepingLog(lambda _: None, History(tmp_path), lambda: EPOCH.timestamp() - 1)(FORGOTTEN)
    lines = printed(capsys, journal(ABORTED), "--state-dir", str(tmp_path)).splitlines()
    newest, oldest = lines[5:7]
    assert ("peer-aborted" in newest, "middlebox-idle" in oldest) == (True, True)


def test_without_a_journal_there_is_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "systemd.journal", None)
    with pytest.raises(Unsupported, match="systemd-python"):
        list(history.journal(0.0))
