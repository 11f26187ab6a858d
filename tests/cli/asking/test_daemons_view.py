"""Beside a daemon keepalivectl sockets says what the daemon says; without one, or where it may not ask, it looks."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.cli import sockets as command
from keepaliveD.cli.asking import daemons_view
from keepaliveD.cli.ctl import main
from keepaliveD.daemon.control import interface
from keepaliveD.model.errors import ConfigError
from keepaliveD.model.plain import plain, restored
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.sockets import TcpState, Timer, Unwatched
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.policy.verdicts.connections import by_urgency
from keepaliveD.records.settings import SettingsRecord
from tests.cli.test_sockets import Owners
from tests.daemon.control.test_control import SNAPSHOT
from tests.support.fakes import FakeArmer, FakeAtConnect, FakeTuner, FakeWatcher, here
from tests.support.host import FakeHost, serving
from tests.support.tables import CONFIGURED, FOREVER, PROXY, idle, table, watch

SEEN = (
    idle(10.0, cookie=1, inode=1, cgroup=7, remote="10.20.0.9", remote_port=10080),
    idle(200.0, cookie=2, inode=2, cgroup=7, remote="10.20.0.9", remote_port=10080, uid=0),
    idle(1.0, cookie=3, inode=3, remote="fd00::9", remote_port=22, timer=Timer.KEEPALIVE, expires=100.0),
    idle(500.0, cookie=4, inode=4, remote="192.0.2.77", local_port=22),
)
OWN_INODE = 4026532000
NOW_HERE = [*SEEN, idle(1.0, cookie=9, inode=3, remote="fd00::9")]


class Desk:
    """What comes of a command line."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self._capsys = capsys
        self._directory = directory

    def types(self, *words: str) -> tuple[list[int], str]:
        """Cookies that are listed, and the notes."""
        assert main(["sockets", "--json", "--state-dir", str(self._directory), *words]) == 0
        out, err = self._capsys.readouterr()
        return [one["cookie"] for one in json.loads(out)["connections"]], err

    def checks(self, *words: str) -> tuple[int, str]:
        """Status, and the line."""
        status = main(["sockets", "--check", "--state-dir", str(self._directory), *words])
        return status, self._capsys.readouterr().out


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    watcher = FakeWatcher(lambda _: list(NOW_HERE))
    platform = Platform("fake", FakeTuner(), FakeAtConnect(), lambda _: Session(watcher, Owners(), FakeArmer()))
    monkeypatch.setattr(command, "detect", lambda *_: platform)
    monkeypatch.setattr(command, "in_worker", here)
    monkeypatch.setattr(daemons_view, "in_worker", here)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return Desk(capsys, tmp_path / "state")


@pytest.mark.parametrize(
    ("words", "cookies"),
    [
        ([], [4, 2, 1, 3]),
        (["--at-risk"], [4, 2, 1]),
        (["--unit", "amanda"], [2, 1]),
        (["--process", "program[34]"], [4, 3]),
        (["--user", "0"], [2]),
        (["--peer", "10.20.0.0/16", "--verdict", "bare"], [2, 1]),
        (["--port", "22"], [4, 3]),
        (["--path", "nowhere"], []),
        (["--namespace", "7"], []),
    ],
)
def test_beside_a_daemon_the_list_is_the_daemons(
    desk: Desk, tmp_path: Path, words: list[str], cookies: list[int]
) -> None:
    """The most urgent first, with the processes that are found here."""
    with serving(tmp_path, FakeHost(SNAPSHOT, *SEEN)):
        found, notes = desk.types(*words)
    assert found == cookies
    assert (
        "note: these are the connections as of the last scan by tcp-keepalived (process 812), 0s ago; "
        "packets since then are not counted"
    ) in notes


def test_before_its_first_scan_a_daemon_knows_nothing_and_the_command_scans(desk: Desk, tmp_path: Path) -> None:
    """An empty list would say that all is well, to a monitoring system as well."""
    with serving(tmp_path, FakeHost(dataclasses.replace(SNAPSHOT, engine="", scan=None), *SEEN)):
        found, notes = desk.types()
    assert 9 in found
    assert "the daemon has not scanned yet; this list is a single scan by keepalivectl" in notes


@pytest.mark.parametrize(
    ("words", "missing", "expected"),
    [
        (
            [],
            {"silent": (OWN_INODE, 9)},
            (3, "UNKNOWN: this network namespace is not watched: no answer; "),
        ),
        ([], {"incomplete": (0,)}, (3, "UNKNOWN: this network namespace is not watched completely: ")),
        ([], {"crowded": (OWN_INODE,)}, (3, "UNKNOWN: this network namespace is not watched completely: ")),
        (
            ["--namespace", "9"],
            {"silent": (OWN_INODE, 9)},
            (3, "UNKNOWN: network namespace 9 is not watched: no answer"),
        ),
        (
            ["--namespace", "8"],
            {"silent": (OWN_INODE, 9)},
            (0, "OK: 0 cut, 0 bare, 0 late of 0 connections; not watch"),
        ),
        (
            ["--namespace", "8"],
            {"incomplete": (8,)},
            (3, "UNKNOWN: network namespace 8 is not watched completely: "),
        ),
        (
            [],
            {"silent": (9,), "forbidden": 2},
            (0, "OK: 0 cut, 0 bare, 0 late of 1 connections; not watched: 3 "),
        ),
        (
            [],
            {"crowded": (8,)},
            (0, "OK: 0 cut, 0 bare, 0 late of 1 connections; not watched: some sockets "),
        ),
    ],
)
def test_a_monitoring_system_learns_that_connections_are_not_seen(
    desk: Desk, tmp_path: Path, words: list[str], missing: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Nothing at risk is no good news where nobody looks."""
    blind = dataclasses.replace(SNAPSHOT, netns=OWN_INODE, unwatched=Unwatched(**missing))
    with serving(tmp_path, FakeHost(blind, SEEN[2])):
        status, out = desk.checks(*words)
    assert (status, out.removeprefix("KEEPALIVE ")[: len(expected[1])]) == expected


@pytest.mark.parametrize(
    "missing",
    [
        {"silent": (*range(1, 500), OWN_INODE)},
        {"crowded": (*range(1, 500), OWN_INODE)},
        {"incomplete": (*range(1, 500), 0)},
    ],
)
def test_nobody_can_hide_that_this_namespace_is_not_watched_behind_hundreds_of_his_own(
    desk: Desk, tmp_path: Path, missing: dict[str, Any]
) -> None:
    blind = dataclasses.replace(SNAPSHOT, netns=OWN_INODE, unwatched=Unwatched(**missing))
    with serving(tmp_path, FakeHost(blind, SEEN[2])):
        status, out = desk.checks()
    assert (status, out[:40]) == (3, "KEEPALIVE UNKNOWN: this network namespac")


def test_what_is_known_to_be_critical_stays_so_where_others_are_not_seen(desk: Desk, tmp_path: Path) -> None:
    blind = dataclasses.replace(SNAPSHOT, netns=OWN_INODE, unwatched=Unwatched(silent=(OWN_INODE,)))
    with serving(tmp_path, FakeHost(blind, *SEEN)):
        status, out = desk.checks()
        _, notes = desk.types()
    assert (status, out.partition(": no answer")[0]) == (2, "KEEPALIVE CRITICAL: this network namespace is not watched")
    assert "warning: this network namespace is not watched: no answer; " in notes


def test_whoever_wants_a_scan_gets_one(desk: Desk, tmp_path: Path) -> None:
    with serving(tmp_path, FakeHost(SNAPSHOT, *SEEN)):
        assert 9 in desk.types("--scan")[0]
        assert 9 in desk.types("--all")[0]
        (tmp_path / "config.toml").touch()
        assert 9 in desk.types("--config", str(tmp_path / "config.toml"))[0]


def test_without_a_daemon_it_says_that_it_looks_itself(desk: Desk) -> None:
    found, notes = desk.types()
    assert 9 in found
    assert notes == "note: no tcp-keepalived runs here; this list is a single scan by keepalivectl (fake engine)\n"


def test_beside_a_daemon_that_cannot_be_asked_nothing_says_that_none_runs(desk: Desk, tmp_path: Path) -> None:
    with SettingsRecord(tmp_path / "state", {}, {}).locked():
        _, notes = desk.types()
    assert f"process {os.getpid()} runs, but cannot be asked: {tmp_path}/control: it does not listen there" in notes
    assert "no tcp-keepalived runs" not in notes


def test_a_daemon_that_answers_something_else_is_not_believed(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of another version, while a package is upgraded."""
    monkeypatch.setattr(interface, "plain", lambda _: {"cookie": 1})
    with serving(tmp_path, FakeHost(SNAPSHOT, *SEEN)):
        found, notes = desk.types()
    assert 9 in found
    assert "the daemon is of another version" in notes


@pytest.mark.parametrize("path", [PROXY, NetworkPath("endless", FOREVER, CONFIGURED)])
def test_a_connection_is_the_same_after_the_wire(path: NetworkPath) -> None:
    sockets = (*SEEN, idle(5.0, cookie=5, state=TcpState.CLOSE_WAIT), idle(float("nan"), cookie=6))
    for one in by_urgency(watch(table(1000.0, *sockets), path=path), at_risk_only=False):
        made = json.loads(json.dumps(plain(one)))
        assert repr(restored(made)) == repr(restored(json.loads(json.dumps(plain(restored(made))))))
        assert plain(restored(made)) == plain(one)
        assert restored(made).timeout == pytest.approx(one.timeout, nan_ok=True)
        assert restored(made).left == pytest.approx(one.left, nan_ok=True, abs=1e-3)


def test_an_error_in_a_file_hides_no_connection_that_is_gone(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon goes on with what it has read before; only what is at risk and not gone is judged by the file."""

    def broken(_: object) -> None:
        raise ConfigError("config.toml:3: not TOML")

    monkeypatch.setattr(command, "load", broken)
    with serving(tmp_path, FakeHost(SNAPSHOT, *SEEN)):
        status, out = desk.checks()
    assert (status, out.partition(":")[0]) == (2, "KEEPALIVE CRITICAL")
