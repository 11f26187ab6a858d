"""keepalivectl sockets: which connections are listed, as what, and what a monitoring system learns."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from keepaliveD.cli import sockets as command
from keepaliveD.cli.ctl import main
from keepaliveD.cli.targets import units
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import KernelError, Refusal
from keepaliveD.model.sockets import TcpState, Timer
from keepaliveD.platforms.base import Platform, Session
from tests.support.fakes import FakeArmer, FakeAtConnect, FakeTuner, FakeWatcher, here
from tests.support.patience import SOON
from tests.support.tables import Socket, idle

UNITS = {1: "amanda.service", 2: "amanda.service", 3: "ssh.service", 4: ""}
SOCKETS: list[Socket] = [
    idle(10.0, cookie=1, inode=1, remote="10.20.0.9", remote_port=10080),
    idle(200.0, cookie=2, inode=2, remote="10.20.0.9", remote_port=10080, uid=0),
    idle(1.0, cookie=3, inode=3, remote="fd00::9", remote_port=22, timer=Timer.KEEPALIVE, expires=100.0),
    idle(250.0, cookie=4, inode=4, remote="192.0.2.77", local_port=22),
    idle(5.0, cookie=5, inode=4, remote="192.0.2.77", local_port=22, state=TcpState.CLOSE_WAIT),
    idle(5.0, cookie=6, inode=4, remote="127.0.0.1"),
]
CONFIGURATION = '[[path]]\nname = "office"\nnetworks = ["10.20.0.0/16"]\ntimeout = "300s"\n'


class Owners:
    """By inode."""

    def find(self, inodes: Sequence[int], _cgroups: Sequence[int]) -> list[Owner]:
        return [Owner(70 + inode, f"program{inode}", UNITS[inode]) for inode in inodes]

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        return dict.fromkeys(pids, frozenset())


class Desk:
    """What comes of a command line; `watcher` shows the sockets."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = directory / "config.toml"
        self.file.write_text(CONFIGURATION)
        self.capsys = capsys
        self.watcher = FakeWatcher(lambda _: SOCKETS)

    def platform(self, *_: object) -> Platform:
        return Platform("fake", FakeTuner(), FakeAtConnect(), lambda _: Session(self.watcher, Owners(), FakeArmer()))

    def types(self, *words: str) -> tuple[int, str]:
        """Status and standard output."""
        status = main(["sockets", *words, "--config", str(self.file), "--state-dir", str(self.file.parent / "state")])
        return status, self.capsys.readouterr().out

    def listed(self, *words: str) -> list[int]:
        """Cookies of those that are listed."""
        status, out = self.types("--json", *words)
        assert status == 0
        made = json.loads(out)
        assert made["version"] == 1
        return [one["cookie"] for one in made["connections"]]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path, capsys)

    monkeypatch.setattr(command, "detect", desk.platform)
    monkeypatch.setattr(command, "in_worker", here)
    return desk


@pytest.mark.parametrize(
    ("words", "cookies"),
    [
        ([], [4, 2, 1, 3, 5]),
        (["--all"], [4, 2, 6, 1, 3, 5]),
        (["--at-risk"], [4, 2, 1]),
        (["--unit", "amanda"], [2, 1]),
        (["--unit", "amanda", "--unit", "s*"], [2, 1, 3]),
        (["--unit", "amanda", "--user", "root"], [2]),
        (["--process", "program[34]"], [4, 3, 5]),
        (["--user", "0"], [2]),
        (["--peer", "10.20.0.9"], [2, 1]),
        (["--peer", "fd00::/8"], [3]),
        (["--peer", "10.20.1.2/16"], [2, 1]),
        (["--port", "22"], [4, 3, 5]),
        (["--path", "off*"], [2, 1]),
        (["--path", "default", "--verdict", "cut"], [4]),
        (["--verdict", "safe", "--verdict", "unknown"], [3, 5]),
        (["--namespace", "0"], [4, 2, 1, 3, 5]),
        (["--namespace", "net:[7]"], []),
    ],
)
def test_connections_are_selected_as_rules_select_them(desk: Desk, words: list[str], cookies: list[int]) -> None:
    """The most urgent first."""
    assert desk.listed(*words) == cookies


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer", "10.20.0"], "argument --peer: '10.20.0' is not an address or a network; write one such as"),
        (["--port", "0"], "argument --port: '0' is not a port; write 1 to 65535"),
        (["--port", "9" * 5000], "is not a port; write 1 to 65535"),
        (["--user", "nobody-here"], "argument --user: 'nobody-here' is not a user of this system"),
        (["--namespace", "eth0"], "argument --namespace: 'eth0' is not a namespace; write its inode"),
        (["--verdict", "dead"], "argument --verdict: invalid choice: 'dead'"),
        (["-o", "verdict,nothing"], "argument -o/--columns: 'nothing' is not a column; choose from verdict, left, "),
        (["--json", "--check"], "argument --check: not allowed with argument --json"),
    ],
)
def test_a_selector_that_is_wrong_is_one_line_and_status_64(desk: Desk, words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["sockets", *words])
    assert left.value.code == 64
    (line,) = desk.capsys.readouterr().err.splitlines()
    assert said in line


def test_by_default_each_unit_and_verdict_is_one_line(desk: Desk) -> None:
    """401 lines for 41 units are too many."""
    _, out = desk.types()
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["VERDICT", "COUNT"],
        ["cut?", "1"],
        ["bare?", "2"],
        ["safe?", "1"],
        ["unknown", "1"],
    ]
    assert len(desk.types("--each")[1].splitlines()) == 6


def test_columns_are_shown_in_the_order_in_which_they_are_asked_for(desk: Desk) -> None:
    _, out = desk.types("-o", "cookie,remote,verdict", "--verdict", "cut")
    assert [line.split() for line in out.splitlines()] == [
        ["COOKIE", "REMOTE", "VERDICT"],
        ["sk:4", "192.0.2.77:22", "cut?"],
    ]


def test_wide_shows_every_column_and_cuts_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, out = desk.types("--each", "--wide")
    assert out.splitlines()[0].endswith("COOKIE")
    assert ">" not in out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            [],
            2,
            "CRITICAL: 1 cut, 2 bare, 0 late of 5 connections, 1 safe by a guess | unknown=1 safe=1 late=0 bare=2 ",
        ),
        (["--unit", "amanda"], 1, "WARNING: 0 cut, 2 bare, 0 late of 2 connections | "),
        (["--unit", "ssh"], 0, "OK: 0 cut, 0 bare, 0 late of 1 connections, 1 safe by a guess | "),
        (["--unit", "nobody"], 0, "OK: 0 cut, 0 bare, 0 late of 0 connections | "),
    ],
)
def test_a_monitoring_system_learns_how_bad_it_is(desk: Desk, words: list[str], status: int, said: str) -> None:
    """By the rules of monitoring-plugins.org."""
    left, out = desk.types("--check", *words)
    assert left == status
    assert out.startswith(f"KEEPALIVE {said}")
    assert out.count("\n") == 1


def test_a_connection_that_is_lost_within_the_warning_time_is_critical(desk: Desk) -> None:
    desk.file.write_text(f'[watch]\nwarn_before = "110s"\n{CONFIGURATION}')
    assert desk.types("--check", "--unit", "amanda")[0] == 2


def test_what_cannot_be_found_out_is_status_3(desk: Desk) -> None:
    """And a line on standard output, where such a system reads."""
    desk.watcher.refusal = KernelError("no memory")
    assert desk.types("--check") == (3, "KEEPALIVE UNKNOWN: no memory\n")


def test_it_works_for_anybody_on_the_real_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever there is."""
    (tmp_path / "config.toml").touch()
    if not os.path.exists("/proc/self/net/tcp"):
        pytest.skip("no /proc")
    assert main(["sockets", "--check", "--config", str(tmp_path / "config.toml")]) in (0, 1, 2)
    assert capsys.readouterr().out.startswith("KEEPALIVE ")


SYSTEMCTL = """#!/bin/sh
for word; do last=$word; done
case "$1 $last" in
show*ssh.service | show*idle.service) echo loaded ;;
show*) echo not-found ;;
list-units*idle*) echo "idle.service loaded inactive dead Idle" ;;
esac
"""


@pytest.mark.parametrize(
    ("unit", "status"), [("idle", 0), ("idle*", 0), ("sshd", 3), ("ssshd*", 3), ("ssh", 0)], ids=str
)
def test_a_mistyped_unit_is_not_ok_for_a_monitoring_system(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unit: str, status: int
) -> None:
    """A unit without a connection is: a backup runs at night."""
    (tmp_path / "systemctl").write_text(SYSTEMCTL, encoding="utf-8")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setattr(units, "PATIENCE", SOON)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found, out = desk.types("--check", "--unit", unit)
    assert found == status
    if status:
        name = unit if unit.endswith("*") else f"{unit}.service"
        assert out.startswith(f"KEEPALIVE UNKNOWN: {name}: this host has no such unit; ")
        assert ("did you mean ssh.service?" in out) == (unit == "sshd")
        assert len(out.splitlines()) == 1


def test_half_a_name_that_selects_nothing_offers_the_whole(desk: Desk) -> None:
    """On standard error: a list for people is only its headings then."""
    for words, meant in ((["--unit", "amand"], "amanda.service"), (["--process", "prog"], "program")):
        assert main(["sockets", *words, "--config", str(desk.file), "--state-dir", str(desk.file.parent)]) == 0
        said = desk.capsys.readouterr()
        assert len(said.out.splitlines()) == 1
        assert said.err.startswith(f"note: no connection is selected; did you mean {meant}")


def test_where_no_systemd_runs_a_unit_is_not_said_to_be_missing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert desk.types("--check", "--unit", "sshd")[0] == 0
