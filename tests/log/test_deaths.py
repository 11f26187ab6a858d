"""What is logged about connections that ended."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import time
from pathlib import Path

import pytest

from keepaliveD.config import Config, load
from keepaliveD.config.doubts import warnings
from keepaliveD.log.entries import ERROR, INFO, NOTICE, WARNING, Entry, of
from keepaliveD.log.entries.deaths import EXPLANATIONS
from keepaliveD.log.journal import JournaldLog, JsonLog, TextLog
from keepaliveD.model.actions import Outcome
from keepaliveD.model.autopsy import Common
from keepaliveD.model.causes import BY_KEY, EXPECTED, Cause, Foretold
from keepaliveD.model.connections import Owner
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import span
from keepaliveD.model.reports import ReportDeaths
from keepaliveD.policy.autopsy.autopsy import Autopsy, AutopsyRules
from tests.support.ends import FORGOTTEN_BY_REJECT, GUESS, MEASURED, Facts, alike, ends, live, reset, timed_out

SSH = Owner(812, "sshd", "ssh.service")


def entry(facts: Facts, count: int = 1, seconds: float = 0.0) -> Entry:
    (said,) = of(Outcome(ReportDeaths((alike(facts, count, seconds, SSH),))))
    return said


def test_one_end_names_the_middlebox_and_the_remedy() -> None:
    said = entry(FORGOTTEN_BY_REJECT)
    assert said.message == (
        "sshd[812] (ssh.service) 10.71.1.1:40000 -> 10.71.3.2:5432: ended: reset by a middlebox after idle at hop 2 of "
        "4, quiet for 3.5s (very likely, or peer does not know the connection; not foretold: no scan has seen it); "
        "to prevent it (helps if the path forgot the connection, which no known product does in less than 4min; not if "
        "somebody restarted the device or changed its rules), configure:"
    )
    assert said.below == (
        "[[path]]",
        'name = "to 10.71.3.2"',
        'networks = ["10.71.3.2/32"]',
        'timeout = "1s"  # half of 3.5s, a silence in which the path forgot',
        "[[arm]]",
        'path = "to 10.71.3.2"',
        'unit = "ssh.service"',
        'action = "enable"',
        'idle = "auto"',
    )
    assert (said.event, said.priority) == ("died", WARNING)
    assert said.fields["KEEPALIVE_CAUSE"] == "middlebox-idle"
    assert said.fields["KEEPALIVE_HOP"] == 2
    assert said.fields["KEEPALIVE_SILENCE_SEC"] == 3.5
    assert said.fields["KEEPALIVE_TIMEOUT_SOURCE"] == "guess"
    assert str(said.fields["KEEPALIVE_REMEDY"]).splitlines()[0] == "[[path]]"


def test_a_time_is_the_same_in_the_message_and_by_its_field() -> None:
    """keepalivectl deaths --explain reads the field."""
    said = entry({**FORGOTTEN_BY_REJECT, "silence": 84.52})
    (quiet,) = re.findall(r"quiet for ([^(]*) \(", said.message)
    assert quiet == span(float(str(said.fields["KEEPALIVE_SILENCE_SEC"]))) == "1min 24s"


def pasted(lines: list[str], directory: Path) -> Config:
    """The configuration of somebody who copies what follows the message."""
    file = directory / "config.toml"
    file.write_text("\n".join(lines[1:]), encoding="utf-8")
    return load(file)


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_what_prevents_it_can_be_pasted_from_the_log(form: str, tmp_path: Path) -> None:
    strange = Owner(812, "sshd", 'strange "\\x2d\x85\x7f.service')
    (said,) = of(Outcome(ReportDeaths((alike(FORGOTTEN_BY_REJECT, owner=strange),), interval=15.0)))
    written = io.StringIO()
    match form:
        case "text":
            TextLog(written.write, time.gmtime)(said)
        case "journal":
            journal = JournaldLog()
            journal._send = lambda message, **_: written.write(message)
            journal(said)
        case _:
            JsonLog(written.write, time.time)(said)
            written = io.StringIO(json.loads(written.getvalue())["MESSAGE"])
    config = pasted(written.getvalue().splitlines(), tmp_path)
    assert [path.name for path in config.paths] == ["default", "to 10.71.3.2"]
    assert config.interval == 0.5
    assert not [warning for warning in warnings(config) if "watch.interval" in warning]
    assert (config.arm[0].paths, config.arm[0].units) == (("to 10.71.3.2",), (strange.unit,))


def test_what_cannot_be_told_apart_is_named_and_not_called_certain() -> None:
    said = entry(live(silence=0.1))
    assert "ended: peer aborted (very likely, or reset by a middlebox while busy; not foreseeable)" in said.message
    assert said.fields["KEEPALIVE_OTHER_CAUSES"] == "middlebox-busy peer-gave-up"


def test_an_end_that_could_have_been_prevented_is_not_called_unforeseeable_outright() -> None:
    """Where a remedy names an idle time, the same line says on what it depends whether the end was foreseeable."""
    names_idle_time = re.compile("configure:$|idle timeout|TCP_KEEPIDLE")
    outlasted = timed_out(unacked=5, silence=250.0, since_lost=20.1, user_timeout=20_000)
    found = {}
    for name, facts in {"outlasted": outlasted, **{name: facts for name, (_, _, facts) in MEASURED.items()}}.items():
        said = entry(facts)
        _, _, remedied = said.message.partition("); ")
        if said.fields["KEEPALIVE_FORETOLD"] == "not-foreseeable" and names_idle_time.search(remedied):
            (found[name],) = re.findall("; (not foreseeable[^;]*)\\); ", said.message)
    assert set(found.values()) == {
        "not foreseeable, unless a NAT forgot it",
        "not foreseeable, unless the path forgot it",
        "not foreseeable: this host does not know the peer's own idle timeout",
    }, found


def test_many_ends_that_could_perhaps_have_been_prevented_say_the_same_as_one() -> None:
    said = entry(reset(silence=400.0, unacked=5), 9)
    assert " ended: peer does not know the connection (not foreseeable, unless a NAT forgot it); for" in said.message
    assert "[[arm]]" in said.below


def test_packets_that_the_own_firewall_dropped_after_a_silence_leave_open_whether_the_end_was_foreseeable() -> None:
    said = entry(timed_out(unacked=5, retransmits=4, silence=400.0, dropped_by_firewall=3))
    sure = "possibly, or silent after idle; not foreseeable, unless the path forgot it"
    assert f"ended: firewall of this host, quiet for 6min 40s ({sure}); to prevent it (helps if" in said.message
    assert "[[arm]]" in said.below


def test_who_killed_the_connection_is_named() -> None:
    said = entry({"error": 103, "closer": b"ss", "closer_pid": 77})
    assert "ended: killed on this host by ss[77] (certain; not foreseeable); keepalive would not" in said.message
    assert (said.fields["KEEPALIVE_ENDED_BY"], said.priority) == ("ss", NOTICE)


def test_many_are_one_entry_without_the_fields_of_one() -> None:
    said = entry(FORGOTTEN_BY_REJECT, count=100_000)
    assert said.message.startswith(
        "100000 connections of ssh.service on path default ended: reset by a middlebox after idle at hop 2 "
        "(not foretold: no scan has seen it); for example 10.71.1.1:40000 -> 10.71.3.2:5432, quiet for 3.5s "
        "(very likely, or peer does not know the connection); to prevent it ("
    )
    assert said.fields["KEEPALIVE_COUNT"] == 100_000
    assert not {"KEEPALIVE_COOKIE", "KEEPALIVE_LOCAL_PORT", "KEEPALIVE_PID"} & said.fields.keys()


def test_what_was_held_back_says_in_which_time() -> None:
    said = entry(FORGOTTEN_BY_REJECT, count=7, seconds=60.0)
    assert said.message.startswith("7 more connections of ssh.service on path default ended within 1min: ")


def test_of_kinds_that_are_not_kept_apart_only_the_example_has_a_unit_and_a_path() -> None:
    together = dataclasses.replace(alike(FORGOTTEN_BY_REJECT, 500, 60.0, SSH), common=Common.NOTHING)
    (said,) = of(Outcome(ReportDeaths((together,))))
    assert said.message.startswith(
        "500 more connections ended within 1min: reset by a middlebox after idle; for example sshd[812] "
        "(ssh.service) 10.71.1.1:40000 -> 10.71.3.2:5432 on path default at hop 2 of 4, quiet for 3.5s (very likely, "
        "or peer does not know the connection; not foretold: "
    )
    assert not {"KEEPALIVE_UNIT", "KEEPALIVE_PATH", "KEEPALIVE_HOP"} & said.fields.keys()
    assert (said.fields["KEEPALIVE_COUNT"], said.fields["KEEPALIVE_FORETOLD"]) == (500, "differs")


def test_many_of_one_user_without_a_unit_name_the_user() -> None:
    reports = Autopsy(AutopsyRules(frozenset(Cause), (GUESS,), ())).observe(
        Deaths(ends([{**FORGOTTEN_BY_REJECT, "uid": 4711}] * 6)), 1001.0
    )
    (said,) = of(Outcome(ReportDeaths(reports)))
    assert said.message.startswith("6 connections of uid 4711 on path default ended: ")
    assert said.fields["KEEPALIVE_UID"] == 4711
    assert "KEEPALIVE_UNIT" not in said.fields


def test_every_end_makes_one_printable_line() -> None:
    for _, _, facts in MEASURED.values():
        said = entry(facts)
        assert all(line.isprintable() for line in (said.message, *said.below))
        assert ERROR < said.priority <= INFO


def test_every_cause_that_is_logged_is_explained() -> None:
    assert set(EXPLANATIONS) == set(BY_KEY.values())


def test_the_documentation_lists_every_cause() -> None:
    text = (Path(__file__).parents[2] / "docs/deaths.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| <a id=\"([a-z0-9-]+)\"></a>`\1` \|", text, re.MULTILINE)
    assert set(listed) - {foretold.key for foretold in Foretold} == {cause.key for cause in Cause}
    assert all(f"`{cause.key}`" in text for cause in Cause)
    counted = text.partition("By default these are only counted: ")[2].partition(".\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", counted)) == {cause.key for cause in EXPECTED}
