"""keepalivectl status and monitor: what is said with a daemon, and without one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from keepaliveD import __version__
from keepaliveD.cli import monitor
from keepaliveD.cli.asking import process, running
from keepaliveD.cli.ctl import main
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.status import overview, status, without_daemon
from keepaliveD.cli.status.overview import Host
from keepaliveD.daemon.control import interface
from keepaliveD.daemon.control.control import Control
from keepaliveD.log.entries import Entry
from keepaliveD.model.autopsy import Tally
from keepaliveD.model.causes import Foretold
from keepaliveD.model.connections import Counts, Owner, Verdict
from keepaliveD.model.errors import KernelError, NotPermitted
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.snapshot import AtRisk, LastScan, Setting, Snapshot
from keepaliveD.model.sockets import ALL_WATCHED, SocketTable, Unwatched
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.policy.verdicts.at_risk import at_risk
from keepaliveD.records.settings import SettingsRecord, file_name
from tests.support.fakes import IDENTITY, FakeArmer, FakeAtConnect, FakeOwners, FakeTuner, FakeWatcher, here
from tests.support.host import FakeHost, serving
from tests.support.tables import idle, table, watch

STOP = "systemctl stop tcp-keepalived"
SNAPSHOT = Snapshot(
    pid=812,
    running=3723.0,
    applied=True,
    settings=(Setting("time", 180, 99, 7200), Setting("intvl", 20, 20), Setting("probes", 31, 31, 9)),
    engine="bpf engine",
    counts=Counts(42, 3, {Verdict.SAFE: 40, Verdict.BARE: 2}),
    scan=LastScan(1.5, 0.043, 15.0),
    results={ArmingResult.ARMED: 3},
    problems=("reload failed: \x1b[2J",),
    at_risk=(
        AtRisk("backup.service", 0, Verdict.BARE, 1, True, 230.0),
        AtRisk("", 1000, Verdict.CUT, 2, False, -65.0),
        AtRisk("web.service", 0, Verdict.LATE, 1, True, math.nan),
        AtRisk("", 1000, Verdict.BARE, 7, True, 300.0),
        AtRisk("", 0, Verdict.BARE, 1, True, 310.0),
    ),
    tally=Tally(
        foretold=Counter({("office", "ssh.service", Foretold.FORETOLD): 3, ("office", "", Foretold.NEVER_SCANNED): 1}),
        saved=Counter({("office", "ssh.service"): 5}),
    ),
)


class Desk:
    """A state directory, a platform with one bare connection, perhaps a daemon, and what comes of a command line."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys
        self.tuner = FakeTuner()
        self.at_connect = FakeAtConnect()
        (directory / "config.toml").touch()

    def platform(self, **_: object) -> Platform:
        watcher = FakeWatcher(lambda _: [idle(10.0, cookie=1)])
        return Platform("fake", self.tuner, self.at_connect, lambda _: Session(watcher, FakeOwners(), FakeArmer()))

    def types(self, *words: str) -> tuple[int, list[str], list[str]]:
        """Status, lines on standard output, lines on standard error."""
        common = ["--config", str(self.directory / "config.toml"), "--state-dir", str(self.directory / "state")]
        left = main([*words, *(common if words[0] == "status" else [])])
        out, err = self.capsys.readouterr()
        return left, out.splitlines(), err.splitlines()

    def daemon(self, *entries: Entry) -> AbstractContextManager[None]:
        """One that answers, sends these entries to whoever monitors, and then ends."""

        def sent(control: Control) -> bool:
            monitored = bool(entries) and any(peer.client.streaming for peer in control._peers.values())
            for entry in entries if monitored else ():
                control.publish(interface.MONITOR, interface.entry(entry))
            return monitored

        return serving(self.directory, FakeHost(SNAPSHOT), ended=sent)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path, capsys)

    monkeypatch.setattr(without_daemon, "detect", desk.platform)
    monkeypatch.setattr(without_daemon, "in_worker", here)
    monkeypatch.setattr(process, "directory_of", lambda *_: tmp_path / "state")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return desk


@pytest.mark.parametrize(("guessed", "said"), [(40, "40 safe by a guess"), (3, "40 safe (3 by a guess)")])
def test_how_many_are_safe_by_a_guess_is_told(desk: Desk, guessed: int, said: str) -> None:
    snapshot = dataclasses.replace(SNAPSHOT, counts=dataclasses.replace(SNAPSHOT.counts, guessed=guessed))
    with serving(desk.directory, FakeHost(snapshot)):
        _, out, _ = desk.types("status")
        _, told, _ = desk.types("status", "--json")
    assert f"connections  42 in 3 namespaces: 2 bare, {said}" in out
    assert json.loads("".join(told))["connections"]["guessed"] == guessed


def test_a_daemon_is_asked(desk: Desk) -> None:
    """What it says is printed, harmless for a terminal."""
    with desk.daemon():
        left, out, err = desk.types("status")
    assert (left, err) == (0, [])
    assert out == [
        f"daemon       tcp-keepalived {__version__}, running for 1h 2min (process 812)",
        "settings     time    99; 7200 stood before; the configuration wants 180",
        "             intvl   20",
        "             probes  31; 9 stood before",
        "undo         systemctl stop tcp-keepalived",
        "engine       bpf engine",
        "last scan    1.5s ago, took 43ms; one every 15s or sooner",
        "connections  42 in 3 namespaces: 2 bare, 40 safe",
        "at risk      backup.service: 1 bare, the first in 3min 50s; keepalivectl why backup.service",
        "             uid 1000: 2 cut?, the first 1min 5s ago; 7 bare, the first in 5min; "
        "keepalivectl sockets --at-risk --user 1000",
        "             web.service: 1 late; keepalivectl why web.service",
        "             uid 0: 1 bare, the first in 5min 10s; keepalivectl sockets --at-risk --user 0",
        "arming       3 armed (by the daemon since its start); keepalivectl disarm restores those that are still armed",
        "ended        ssh.service on path office: 3 foretold; 5 silences survived by arming",
        "             on path office: 1 not foretold",
        "             keepalivectl deaths lists what ended them",
        "problem      reload failed: \\x1b[2J",
    ]


@pytest.mark.parametrize(
    ("stands", "before", "said"), [(7200, None, True), (7200, 7200, False), (99, None, False), (180, None, False)]
)
def test_a_setting_that_undo_restored_comes_with_the_command_that_sets_it_again(
    desk: Desk, stands: int, before: int | None, *, said: bool
) -> None:
    """Not one that is stricter: that stands on purpose."""
    snapshot = dataclasses.replace(SNAPSHOT, settings=(Setting("time", 180, stands, before),))
    with serving(desk.directory, FakeHost(snapshot)):
        _, out, _ = desk.types("status")
    redo = "redo         if keepalivectl undo restored a setting, this sets it again: systemctl reload tcp-keepalived"
    assert (redo in out) == said


def test_a_setting_that_stands_otherwise_than_configured_comes_with_the_reason(desk: Desk) -> None:
    """And without a command that would not set it."""
    settings = (Setting("time", 180, 5000, note="cannot be set"), Setting("intvl", 20, 30, note="kept"))
    with serving(desk.directory, FakeHost(dataclasses.replace(SNAPSHOT, settings=settings))):
        _, out, _ = desk.types("status")
        _, printed, _ = desk.types("status", "--json")
    assert out[1:3] == [
        "settings     time   5000; the configuration wants 180; cannot be set",
        "             intvl  30; the configuration wants 20; kept",
    ]
    assert not [line for line in out if line.startswith("redo ")]
    assert [one["note"] for one in json.loads("\n".join(printed))["settings"]] == ["cannot be set", "kept"]


def test_namespaces_that_are_not_watched_are_counted(desk: Desk) -> None:
    blind = dataclasses.replace(
        SNAPSHOT, unwatched=Unwatched(1, 2, hidden=True, silent=(7,), crowded=(8, 9), incomplete=(0,))
    )
    with serving(desk.directory, FakeHost(blind), ended=lambda _: False):
        _, out, _ = desk.types("status")
    (line,) = (line for line in out if line.startswith("not watched "))
    assert line.endswith(
        "some sockets of this network namespace, 4 other network namespaces, those of hidden processes, "
        "some sockets of 2 others; keepalivectl sockets says why"
    )


def test_a_host_that_is_not_seen_does_not_look_idle(desk: Desk) -> None:
    blind = dataclasses.replace(SNAPSHOT, netns=4026532000, unwatched=Unwatched(silent=(4026532000,)))
    with serving(desk.directory, FakeHost(blind), ended=lambda _: False):
        _, out, _ = desk.types("status")
    assert "not watched  this network namespace; keepalivectl sockets says why" in out
    assert "connections  42 in 3 namespaces that were seen: 2 bare, 40 safe" in out


@pytest.mark.parametrize("name", ["armed.damaged", f"{file_name(IDENTITY)}.damaged", file_name(IDENTITY)])
def test_without_a_daemon_damaged_records_are_problems(desk: Desk, name: str) -> None:
    """They are in the log of the daemon's starts; but who asks for the status may not know of that."""
    state = desk.directory / "state"
    state.mkdir()
    (state / name).write_bytes(b"\xff\n")
    _, out, _ = desk.types("status")
    (problem,) = (line for line in out if line.startswith("problem "))
    assert f"{state / name}: damaged " in problem
    assert problem.endswith("remove the file")


def test_without_a_daemon_the_kernel_is_read(desk: Desk) -> None:
    left, out, err = desk.types("status")
    assert (left, err) == (3, [])
    assert out == [
        f"daemon       none runs here; start it with {how_to_start(Path('/'))}",
        "settings     time    7200; the configuration wants 180",
        "             intvl   75; the configuration wants 20",
        "             probes  9; the configuration wants 31",
        "engine       fake engine (of this scan by keepalivectl)",
        "connections  1: 1 bare (by a single scan)",
        "at risk      backup.service: 1 bare?, the first in 3min 50s; keepalivectl why backup.service",
    ]


def test_without_a_daemon_what_a_scan_does_not_see_is_not_called_safe(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without privileges a verdict may be unknown, and other namespaces are hidden."""
    scan = FakeWatcher.scan

    def seen(watcher: FakeWatcher, now: float) -> SocketTable:
        watcher.sockets = lambda _: [idle(10.0, cookie=1), idle(math.nan, cookie=2)]
        return dataclasses.replace(scan(watcher, now), unwatched=Unwatched(forbidden=2))

    monkeypatch.setattr(FakeWatcher, "scan", seen)
    _, out, _ = desk.types("status")
    assert "connections  2: 1 bare, 1 unknown (by a single scan)" in out
    assert "not watched  2 other network namespaces; keepalivectl sockets says why" in out


def test_connections_without_a_unit_are_those_of_a_user_with_a_daemon_and_without(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is no unit, least of all in JSON."""
    monkeypatch.setattr(FakeOwners, "find", lambda _, inodes, __: [Owner(7, "program") for _ in inodes])
    _, out, _ = desk.types("status")
    assert "at risk      uid 1000: 1 bare?, the first in 3min 50s; keepalivectl sockets --at-risk --user 1000" in out
    (one,) = json.loads("\n".join(desk.types("status", "--json")[1]))["at_risk"]
    assert (one["unit"], one["user"]) == ("", 1000)


KEYS = {
    "version", "daemon", "process", "why", "stop", "applied", "settings", "restores", "engine", "unseen", "scan",
    "connections", "unwatched", "at_risk", "arming", "ends", "pinned", "problems",
}  # fmt: skip


def test_programs_read_json_with_a_daemon_and_without(desk: Desk) -> None:
    with desk.daemon():
        left, out, err = desk.types("status", "--json")
    asked = json.loads("\n".join(out))
    assert (left, err, asked.keys()) == (0, [], KEYS)
    assert (asked["version"], asked["daemon"]["pid"], asked["stop"]) == (1, 812, STOP)
    assert asked["connections"]["bare"] == 2
    assert asked["at_risk"][2] == {
        "unit": "web.service", "user": 0, "verdict": "late", "count": 1, "sure": True, "left": None
    }  # fmt: skip
    left, out, err = desk.types("status", "--json")
    alone = json.loads("\n".join(out))
    assert (left, err, alone.keys()) == (3, [], KEYS)
    assert (alone["daemon"], alone["process"], alone["scan"], alone["arming"], alone["ends"]) == (None,) * 5
    assert alone["why"].startswith("none runs here")
    assert (alone["connections"]["bare"], round(alone["at_risk"][0]["left"])) == (1, 230)
    assert alone["settings"][0] == {"name": "time", "wanted": 180, "stands": 7200, "before": None, "note": ""}


def test_the_manual_names_the_keys_of_the_json() -> None:
    manual = (Path(__file__).parents[3] / "packaging/manual/keepalivectl.1.in").read_text(encoding="utf-8")
    section = manual.partition("\n.SH JSON\n")[2].partition("\n.SH ")[0]
    assert not [key for key in KEYS if f"\\fB{key}\\fP" not in section and f".B {key}\n" not in section]


def test_what_a_killed_daemon_has_left_says_how_it_is_undone(desk: Desk) -> None:
    record = SettingsRecord(desk.directory / "state", IDENTITY, desk.tuner.ranges)
    with record.locked():
        record.record_found({"time": 7200}, {"time": 180})
    desk.tuner.values["time"] = 180
    desk.at_connect.pin = "/pin"
    _, out, _ = desk.types("status")
    assert "settings     time    180; left behind by a daemon; 7200 stood before" in out
    assert "undo         keepalivectl restore" in out
    assert "at connect   /pin arms new connections without a daemon; keepalivectl disarm removes it" in out


def test_what_is_pinned_beside_a_daemon_that_cannot_be_asked_is_not_said_to_be_left_behind(desk: Desk) -> None:
    desk.at_connect.pin = "/pin"
    with SettingsRecord(desk.directory / "state", IDENTITY, {}).locked():
        _, out, _ = desk.types("status")
    (line,) = (line for line in out if line.startswith("at connect"))
    assert line.startswith("at connect   /pin arms new connections, also once the daemon has ended; ")
    assert "keepalivectl disarm removes it after systemctl stop" in line


def test_a_daemon_that_cannot_be_asked_is_named(desk: Desk) -> None:
    with SettingsRecord(desk.directory / "state", IDENTITY, {}).locked():
        left, (first, *_), _ = desk.types("status")
    assert left == 0
    assert first == (
        f"daemon       process {os.getpid()} runs, but cannot be asked: {desk.directory}/control: "
        f"it does not listen there; start it with RUNTIME_DIRECTORY={desk.directory}"
    )


def test_whether_a_daemon_runs_may_stay_unknown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither its control socket nor its lock may be looked at."""

    def refuse(*_: object) -> dict[str, object]:
        raise NotPermitted(f"{desk.directory}/control: Permission denied; run as root")

    monkeypatch.setattr(status, "ask", refuse)
    left, (first, *_), _ = desk.types("status")
    assert (left, first) == (4, f"daemon       {desk.directory}/control: Permission denied; run as root")


def test_beside_a_daemon_that_does_not_answer_the_page_shows_what_else_there_is(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_: object) -> dict[str, object]:
        raise KernelError(f"{desk.directory}/control: the daemon does not answer: timed out")

    monkeypatch.setattr(status, "ask", time_out)
    with SettingsRecord(desk.directory / "state", IDENTITY, desk.tuner.ranges).locked():
        left, (first, *rest), _ = desk.types("status")
    why = f"{desk.directory}/control: the daemon does not answer: timed out"
    assert (left, first) == (4, f"daemon       process {os.getpid()} runs, but cannot be asked: {why}")
    assert any(line.startswith("settings ") for line in rest)


def test_what_a_daemon_has_set_that_cannot_be_asked_is_undone_by_stopping_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "how_to_stop", lambda pid, _: f"kill {pid}")
    record = SettingsRecord(desk.directory / "state", IDENTITY, desk.tuner.ranges)
    with record.locked():
        record.record_found({"time": 7200}, {"time": 180})
        desk.tuner.values["time"] = 180
        _, out, _ = desk.types("status")
    assert f"settings     time    180; set by process {os.getpid()}; 7200 stood before" in out
    assert f"undo         kill {os.getpid()}" in out


def record_of_a_start(desk: Desk, meanwhile: ExitStack) -> None:
    """Do what a daemon does at its start: lock the record, write down what was found, and set its own value."""
    record = SettingsRecord(desk.directory / "state", IDENTITY, desk.tuner.ranges)
    meanwhile.enter_context(record.locked())
    record.record_found({"time": 7200}, {"time": 180})
    desk.tuner.values["time"] = 180


@pytest.mark.parametrize("answers", [False, True])
def test_what_a_daemon_sets_that_starts_meanwhile_is_not_said_to_be_left_behind(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    """Whether or not it can be asked by the time that this is seen."""
    with ExitStack() as meanwhile:
        before = desk.platform

        def start(**_: object) -> Platform:
            monkeypatch.setattr(without_daemon, "detect", before)
            record_of_a_start(desk, meanwhile)
            if answers:
                meanwhile.enter_context(desk.daemon())
            return before()

        monkeypatch.setattr(without_daemon, "detect", start)
        left, (first, *rest), err = desk.types("status")
    pid = 812 if answers else os.getpid()
    assert (left, err, f"process {pid}" in first) == (0, [], True)
    assert not [line for line in rest if "left behind" in line]


def test_what_a_daemon_restores_that_stops_meanwhile_is_not_said_to_be_set_by_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as until_its_stop:
        record_of_a_start(desk, until_its_stop)
        before = desk.platform

        def stop(**_: object) -> Platform:
            monkeypatch.setattr(without_daemon, "detect", before)
            desk.tuner.values["time"] = 7200
            until_its_stop.close()
            return before()

        monkeypatch.setattr(without_daemon, "detect", stop)
        left, (first, *_), _ = desk.types("status")
    assert (left, first) == (3, f"daemon       none runs here; start it with {how_to_start(Path('/'))}")


def test_where_daemons_come_and_go_the_status_is_shown_nevertheless(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = itertools.count(1000)
    monkeypatch.setattr(running, "running", lambda *_: next(pids))
    left, (first, *_), _ = desk.types("status")
    assert left == 0
    assert re.fullmatch("daemon       process 10[0-9]{2} runs, but cannot be asked: .*", first)


def test_an_error_in_the_configuration_hides_nothing_else(desk: Desk) -> None:
    (desk.directory / "config.toml").write_text("x = 1")
    left, out, _ = desk.types("status")
    assert left == 3
    assert out[-1].startswith(f"problem      {desk.directory}/config.toml:1: x")
    assert any(line.startswith("settings") for line in out)


def test_what_cannot_be_seen_of_ends_is_said() -> None:
    unseen = "only ends that this host gave up are seen: the drop-in bpf.conf helps"
    answer = interface.status(dataclasses.replace(SNAPSHOT, unseen=unseen))
    assert f"ends         {unseen}" in list(overview.overview(overview.of_daemon(answer, STOP)))


def test_before_its_first_scan_a_daemon_does_not_know_of_any_connection() -> None:
    """None is not the same as no connection."""
    answer = interface.status(dataclasses.replace(SNAPSHOT, engine="", scan=None, counts=Counts(0, 1, {}), at_risk=()))
    out = list(overview.overview(overview.of_daemon(answer, STOP)))
    assert "connections  not known before the first scan" in out
    assert not [line for line in out if line.startswith(("engine", "last scan", "at risk"))]


def test_where_a_stop_does_not_restore_the_undo_says_so() -> None:
    host = dataclasses.replace(overview.of_daemon(interface.status(SNAPSHOT), STOP), restores=False)
    out = list(overview.overview(host))
    undo = f"{STOP}; keepalivectl restore (keepalive.restore_on_stop = false)"
    assert f"undo         {undo}" in out


def test_a_daemon_is_asked_and_nothing_else_is_looked_at(desk: Desk) -> None:
    """Neither the configuration nor the sockets: the answer comes at once, also on a host with 10,000 connections."""
    (desk.directory / "config.toml").write_text("not TOML")
    script = (
        "import sys; from keepaliveD.cli.ctl import main\nassert main() == 0\n"
        "assert not sys.modules.keys() & {'numpy', 'pydantic', 'keepaliveD.cli.worker'}"
    )
    with desk.daemon():
        command = [sys.executable, "-c", script, "status", "--config", str(desk.directory / "config.toml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "(process 812)" in done.stdout


def test_a_daemon_of_an_earlier_version_is_asked_as_well() -> None:
    """Between the upgrade of the package and the restart."""
    answer = interface.status(SNAPSHOT)
    del answer["at_risk"], answer["restores"]
    assert not any("at risk" in line for line in overview.overview(overview.of_daemon(answer, STOP)))


def test_settings_that_are_left_alone_are_said_to_be() -> None:
    host = Host(None, "none runs", (Setting("time", 180, 7200),), False, "engine", [], {}, ALL_WATCHED._asdict())
    assert "settings     left alone (keepalive.apply = false)" in list(overview.overview(host))


def test_more_units_than_fit_are_counted() -> None:
    units = [AtRisk(f"{number}.service", 0, Verdict.BARE, 1, True, 5.0) for number in range(11)]
    host = Host(None, "none runs", (), False, "engine", units, {}, ALL_WATCHED._asdict())
    assert list(overview.overview(host))[-1].strip() == "and 3 others: keepalivectl sockets --at-risk"


def test_that_not_all_users_are_known_is_said() -> None:
    """There may be any number of users: a daemon answers with the first hundred units, users and verdicts."""
    sockets = (idle(float(number), cookie=number, uid=number) for number in range(1, 112))
    judgement = watch(table(1000.0, *sockets))
    bare = {"total": 111, "bare": 111}
    host = Host(None, "none runs", (), False, "engine", at_risk(judgement, {}), bare, ALL_WATCHED._asdict())
    assert list(overview.overview(host))[-1].strip() == "and at least 92 others: keepalivectl sockets --at-risk"


def test_monitor_prints_what_the_daemon_logs_until_the_daemon_ends(desk: Desk) -> None:
    with desk.daemon(Entry("bare", 4, "at risk\x1b", {}), Entry("safe", 6, "safe again", {})):
        left, (first, second), err = desk.types("monitor")
    assert (left, err) == (0, [])
    assert first[8:] == " warning: at risk\\x1b"
    assert second[8:] == " safe again"


def test_monitor_breaks_a_message_between_words_and_what_is_to_be_pasted_not_at_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "terminal_width", lambda: 40)
    with desk.daemon(Entry("died", 4, "ended: a firewall had forgotten it; configure:", {}, ("x" * 50,))):
        _, (first, second, third), _ = desk.types("monitor")
    assert first[8:] == " warning: ended: a firewall had"
    assert (second, third) == (" " * 9 + "forgotten it; configure:", " " * 9 + "x" * 50)


def test_monitor_without_a_daemon_is_one_line_and_status_66(desk: Desk) -> None:
    left, out, (line,) = desk.types("monitor")
    assert (left, out) == (66, [])
    assert line == (
        f"keepalivectl: {desk.directory}/control: no daemon can be asked there; start it with {how_to_start(Path('/'))}"
    )


def test_what_the_configuration_wants_is_what_that_of_the_daemon_wants(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "its.toml").write_text('[keepalive]\nidle = "99s"\n')
    monkeypatch.setattr(process, "configuration", lambda *_: tmp_path / "its.toml")
    with SettingsRecord(desk.directory / "state", IDENTITY, {}).locked():
        assert main(["status", "--state-dir", str(desk.directory / "state")]) == 0
    assert "the configuration wants 99" in desk.capsys.readouterr().out


def test_monitor_says_of_a_daemon_without_a_control_socket_that_it_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(desk.directory / "state"))
    with SettingsRecord(desk.directory / "state", IDENTITY, {}).locked():
        left, _, (line,) = desk.types("monitor")
    assert left == 66
    assert f"process {os.getpid()} runs, but cannot be asked: " in line
    assert "start tcp-keepalived" not in line


def test_no_other_daemon_is_shown_than_the_one_of_the_state_directory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = desk.directory / "other"
    monkeypatch.setattr(process, "directory_of", lambda *_: other)
    with desk.daemon():
        left, out, (line,) = desk.types("status")
        assert (left, out) == (64, [])
        assert line.endswith(f"uses another state directory: give --state-dir {other}")
        monkeypatch.setattr(running, "running", lambda *_: 31)
        left, out, _ = desk.types("status")
    assert "process 31 runs, but cannot be asked" in " ".join(out)
    assert not any("process 812" in line for line in out)
