"""keepalivectl why: who is meant, what is printed, and what --fix writes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keepaliveD.cli import dropin, starting
from keepaliveD.cli.asking import its_files, orders, process, running
from keepaliveD.cli.asking.asking import control_socket
from keepaliveD.cli.ctl import main
from keepaliveD.cli.targets import targets
from keepaliveD.cli.why import daemons_explanation, fix, for_people, own_scan
from keepaliveD.cli.why.host import Host
from keepaliveD.config import files, load
from keepaliveD.daemon.control.description import DESCRIPTION
from keepaliveD.log import history
from keepaliveD.log.entries import of
from keepaliveD.log.journal import as_object
from keepaliveD.model.actions import Outcome
from keepaliveD.model.arming import Access
from keepaliveD.model.connections import Owner, Verdict
from keepaliveD.model.errors import ConfigError, KernelError, NoAnswer, NoInput, NotPermitted, Refusal, Unsupported
from keepaliveD.model.explained import Explained, HelpfulRule
from keepaliveD.model.keepalive import ALL, Found, Keepalive, SocketKeepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportDeaths
from keepaliveD.model.results import Armed, ArmingResult, Mark
from keepaliveD.model.rules import ArmAction, ArmRule, Watching
from keepaliveD.model.sockets import Timer
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.history import History
from tests.support import samples
from tests.support.ends import FORGOTTEN_BY_REJECT, alike
from tests.support.fakes import OFF, FakeArmer, FakeAtConnect, FakeTuner, FakeWatcher, here
from tests.support.tables import Socket, address, idle
from tests.support.unwritable import GONE, LEAVES, UNWRITABLE, printing_in_vain

SCRIPT_RUN = Path(__file__).parents[3] / "script/run"

UNITS = {1: "amanda@backup.service", 2: "ssh.service", 3: ""}
SOCKETS: list[Socket] = [
    idle(10.0, cookie=1, inode=1, cgroup=1, local="10.0.0.1", local_port=40001, remote="10.20.0.9", remote_port=22),
    idle(
        20.0, cookie=0xBEEF, inode=2, cgroup=2, local="10.0.0.1", local_port=22, remote="10.20.0.9", remote_port=40002
    ),
    idle(30.0, cookie=77, inode=3, cgroup=3, local="fd00::1", local_port=40003, remote="fd00::9", remote_port=22),
]
CONFIGURED = '[[path]]\nname = "office"\nnetworks = ["10.0.0.0/8", "fd00::/8"]\ntimeout = "4min"\n'
RULE = {"unit": "amanda@backup.service", "action": "enable", "idle": "auto"}


class Owners:
    """Units by cgroup, processes by inode, which is the same; process 70 holds the first."""

    def __init__(self, looked_for: list[int]) -> None:
        self._looked_for = looked_for  # sockets whose processes were

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        self._looked_for += filter(None, inodes)
        return [
            Owner(69 + inode if inode else 0, f"program{inode}" if inode else "", UNITS[cgroup])
            for inode, cgroup in zip(inodes, cgroups, strict=True)
        ]

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        return {pid: frozenset({1}) if pid == 70 else NoInput(f"process {pid}: does not exist") for pid in pids}


@dataclasses.dataclass
class Desk:
    """Where a person sits: files, a platform, and what comes back."""

    directory: Path
    capsys: pytest.CaptureFixture[str]
    armer: FakeArmer = dataclasses.field(default_factory=FakeArmer)
    at_connect: FakeAtConnect = dataclasses.field(default_factory=FakeAtConnect)
    sockets: list[Socket] = dataclasses.field(default_factory=lambda: SOCKETS)
    complete: bool = True
    daemon: int = 0
    reloaded: list[int] = dataclasses.field(default_factory=list)
    looked_for: list[int] = dataclasses.field(default_factory=list)
    opened: list[Watching] = dataclasses.field(default_factory=list)
    to_reload: Callable[[], object] | None = None

    @property
    def config(self) -> Path:
        return self.directory / "config.toml"

    @property
    def written(self) -> Path:
        return self.directory / "config.d/00-why-amanda@backup.service.toml"

    def platform(self, **_: object) -> Platform:
        def open_session(watching: Watching) -> Session:
            self.opened.append(watching)
            watcher = FakeWatcher(lambda _: self.sockets, complete=self.complete)
            return Session(watcher, Owners(self.looked_for), self.armer)

        return Platform("fake", FakeTuner(), self.at_connect, open_session)

    def reload(self, pid: int, by: int) -> None:
        """In place of a daemon: what it would do."""
        assert by == signal.SIGHUP
        self.reloaded.append(pid)
        if self.to_reload:
            self.to_reload()
            return
        self.sockets = [{**SOCKETS[0], "timer": Timer.KEEPALIVE, "expires": 170.0}, *SOCKETS[1:]]
        self.armer.stands[1] = SocketKeepalive(True, Keepalive(180, 20, 31))

    def types(self, *words: str) -> tuple[int, str, list[str]]:
        """Status, standard output, lines on standard error."""
        status = main(["why", *words, "--config", str(self.config), "--state-dir", str(self.directory / "state")])
        out, err = self.capsys.readouterr()
        return status, out, err.splitlines()


def no_journal(_: float, **__: object) -> Iterator[Mapping[str, Any]]:
    raise Unsupported("no journal of this machine is read")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path, capsys)
    desk.config.write_text(CONFIGURED)
    monkeypatch.setattr(history, "journal", no_journal)
    monkeypatch.setattr(own_scan, "detect", desk.platform)
    monkeypatch.setattr(own_scan, "in_worker", here)
    monkeypatch.setattr(running, "running", lambda *_: desk.daemon)
    monkeypatch.setattr(process, "configuration", lambda *_: desk.config)
    monkeypatch.setattr(os, "kill", desk.reload)
    monkeypatch.setattr(files, "DEFAULT_FILE", tmp_path / "nothing-installed/config.toml")
    monkeypatch.setattr(targets, "PROC", tmp_path / "no-process-of-this-machine")
    return desk


@pytest.mark.parametrize("namespaces", ["own", "all"])
def test_it_looks_into_the_namespaces_that_a_daemon_watches(desk: Desk, namespaces: str) -> None:
    """What the daemon does not see, no rule arms."""
    desk.config.write_text(f'[watch]\nnamespaces = "{namespaces}"\n')
    assert desk.types("amanda*")[0] == 0
    assert {each.all_namespaces for each in desk.opened} == {namespaces == "all"}


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("amanda@backup", "10.0.0.1:40001"),
        ("amanda*", "10.0.0.1:40001"),
        ("program2", "10.0.0.1:22"),
        ("70", "10.0.0.1:40001"),
        ("10.20.0.9:40002", "10.0.0.1:22"),
        ("[fd00::9]:22", "[fd00::1]:40003"),
        ("fd00::9", "[fd00::1]:40003"),
        ("[fd00::1]", "[fd00::1]:40003"),
        ("sk:beef", "10.0.0.1:22"),
        ("48879", "10.0.0.1:22"),
        ("77", "[fd00::1]:40003"),
    ],
)
def test_a_target_is_a_unit_a_process_an_end_or_a_cookie(desk: Desk, target: str, local: str) -> None:
    status, out, err = desk.types(target)
    assert (status, err) == (0, [])
    assert [line.split(" -> ")[0] for line in out.splitlines() if " -> " in line] == [local]


ENDED = "; keepalivectl deaths lists those that ended"


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("nobody", 66, f"nobody has no connection; keepalivectl sockets --all lists connections{ENDED}"),
        ("71", 66, "process 71: does not exist"),
        ("amanda", 66, f"amanda has no connection{ENDED}; did you mean amanda@backup.service?"),
        ("sshd", 66, f"sshd has no connection{ENDED}; did you mean ssh.service?"),
        ("progam2", 66, f"progam2 has no connection{ENDED}; did you mean program2"),
        ("sk:1234", 66, "sk:1234 has no connection"),
        ("\x1b[2J", 66, "\\x1b[2J has no connection"),
        ("", 64, "TARGET is empty; name a unit, a process, a process id, HOST, HOST:PORT or a cookie"),
        ("10.20.0.8", 66, f"10.20.0.8 has no connection; keepalivectl sockets --all lists connections{ENDED}"),
        ("10.0.0.1:99999", 64, "10.0.0.1:99999: 99999 is not a port"),
        ("9" * 5000, 66, "process 99999999999"),
    ],
)
def test_who_is_not_there_is_one_line(desk: Desk, target: str, status: int, said: str) -> None:
    left, out, (line,) = desk.types(target)
    assert (left, out) == (status, "")
    assert line.startswith(f"keepalivectl: {said}")


@pytest.mark.parametrize("target", ["amanda", "sk:1234", "10.20.0.8"])
def test_who_is_not_seen_where_not_all_is_seen_may_be_there(desk: Desk, target: str) -> None:
    desk.complete = False
    status, out, (line,) = desk.types(target)
    assert (status, out) == (75, "")
    assert "has no connection" in line
    assert line.endswith("; or the scan missed it: it did not see all sockets")


def test_a_host_is_all_its_connections(desk: Desk) -> None:
    status, out, err = desk.types("10.20.0.9")
    assert (status, err) == (0, [])
    assert out.startswith("10.20.0.9: 2 connections: ")
    assert ("10.0.0.1:40001 -> " in out, "10.0.0.1:22 -> " in out, "fd00::1" in out) == (True, True, False)


def test_of_a_unit_only_its_own_sockets_are_looked_for_in_processes(desk: Desk) -> None:
    """To look into every process takes longer than all else, and is not needed to tell units apart."""
    assert desk.types("ssh")[0] == 0
    assert desk.looked_for == [2]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("amandad[70]", True),
        ('"a \\"b\\" c"[69]', True),
        ('a "b" c[69]', True),
        ("amandad[71]", False),  # another process has this id by now
        ("amandad[4194305]", False),
        ("p[qr]ogram2", True),
        ("program[2]", True),  # patterns, as before
    ],
)
def test_a_process_is_named_as_the_journal_prints_it(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, found: bool
) -> None:
    for pid, name in ((70, "amandad"), (69, 'a "b" c'), (71, "other")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(f"{name}\n")
    monkeypatch.setattr(targets, "PROC", tmp_path)
    monkeypatch.setattr(Owners, "held_by", lambda _, pids: {pid: frozenset({pid - 68}) for pid in pids})
    status, out, err = desk.types(target)
    assert (status == 0) == found, err
    assert (" -> " in out) == found


def test_of_a_process_only_its_own_sockets_are_read(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc names it, escapes included; the owner of every other socket is not looked for."""
    for pid, name in ((70, b"a\x1bb"), (69, b"a\x1bb"), (71, b"other")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_bytes(name + b"\n")
    monkeypatch.setattr(targets, "PROC", tmp_path)
    status, out, _ = desk.types("a\\x1bb")
    assert (status, desk.looked_for) == (0, [1])
    assert "10.0.0.1:40001" in out


def test_the_lines_that_would_help_are_ready_to_paste(desk: Desk) -> None:
    desk.config.write_text("")
    _, out, _ = desk.types("amanda@backup")
    pasted = out.partition(f"write this into {desk.written}:")[2].partition("Then:")[0]
    assert tomllib.loads(pasted) == {"arm": [RULE]}
    assert "The timeout is a guess." in out


def test_without_privilege_the_page_says_what_is_not_known(desk: Desk) -> None:
    desk.armer.refusal = NotPermitted("no")
    status, out, err = desk.types("amanda@backup")
    assert (status, err) == (0, [])
    assert "who set it is not known: requires root" in out
    assert "[[arm]]" not in out


def test_where_the_record_may_not_be_read_it_is_not_known_who_switched_keepalive_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon has, but only root sees that."""
    switch_on(desk)
    _, out, _ = desk.types("amanda@backup")
    assert "on, switched on by its program" in out
    monkeypatch.setattr(ArmingRecord, "entries", lambda _: (_ for _ in ()).throw(NotPermitted("no")))
    _, out, _ = desk.types("amanda@backup")
    assert "who set it is not known: requires root" in " ".join(out.split())
    assert "its program's" not in out
    assert "switched on by its program" not in out


def test_fix_writes_the_rule_reloads_the_daemon_and_shows_what_came_of_it(desk: Desk) -> None:
    desk.daemon = 4242
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, err) == (0, [])
    assert tomllib.loads(desk.written.read_text()) == {"arm": [RULE]}
    assert desk.written.stat().st_mode & 0o777 == 0o644
    assert desk.reloaded == [4242]
    before, after = out.split("Reloaded the daemon.")
    assert "keepalive    off" in before
    assert "idle 3min, interval 20s, probes 31" in after


@pytest.mark.parametrize("fails", ["to arm", "to answer", "to read it"])
def test_fix_that_fails_after_it_has_written_says_which_file_stays_and_how_to_take_it_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Whoever reads only the refusal must not believe that nothing was changed."""

    def time_out(_: int, __: Path) -> bool:
        raise KernelError("/run/control: the daemon does not answer: timed out")

    def end(*_: object) -> None:
        raise ProcessLookupError

    desk.daemon, desk.to_reload = 4242, lambda: None
    monkeypatch.setattr(fix, "PATIENCE", -1.0)
    if fails == "to answer":
        monkeypatch.setattr(orders, "have_reloaded", time_out)
    if fails == "to read it":
        monkeypatch.setattr(os, "kill", end)
    status, _, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    assert status == {"to arm": 75, "to answer": 71, "to read it": 66}[fails]
    assert desk.written.exists()
    assert line.endswith(
        f"; {desk.written} was written and stays: to take that back, type rm {desk.written} && "
        "systemctl reload tcp-keepalived"
    )


@UNWRITABLE
def test_fix_is_carried_out_whatever_becomes_of_what_is_printed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, unwritable: str
) -> None:
    """Such as `keepalivectl why UNIT --fix --yes | head -5`."""
    desk.daemon = 4242
    with printing_in_vain(monkeypatch, unwritable):
        status, _, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, err) == LEAVES[unwritable]
    assert tomllib.loads(desk.written.read_text()) == {"arm": [RULE]}
    assert desk.reloaded == [4242]


def test_fix_takes_no_answer_to_a_question_that_nobody_reads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever types y into a terminal does not know what would be written."""
    terminal = io.StringIO("y\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    with printing_in_vain(monkeypatch, GONE):
        status, _, err = desk.types("amanda@backup", "--fix")
    said = "keepalivectl: --fix asks before it writes, and standard output cannot be written; add --yes"
    assert (status, err) == (64, [said])
    assert not desk.written.exists()


MUST_CONNECT = "whose program will get an error and must connect again."
NEXT = "The rule arms the next connection, at connect or at the next scan."


@pytest.mark.parametrize(
    ("quiet", "said"),
    [(300.0, "The path had already forgotten 1 connection, which ended."), (10.0, "1 connection ended meanwhile.")],
)
def test_fix_of_a_connection_that_ends_is_done_nevertheless(desk: Desk, quiet: float, said: str) -> None:
    """To arm what the path has forgotten lets the program know, and its next connection is armed."""
    desk.daemon = 4242
    desk.sockets = [{**SOCKETS[0], **idle(quiet)}, *SOCKETS[1:]]
    desk.to_reload = lambda: setattr(desk, "sockets", SOCKETS[1:])
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, err, desk.reloaded) == (0, [], [4242])
    assert f"Wrote {desk.written}." in out
    assert out.endswith(f"Reloaded the daemon.\n\n{said} {NEXT}\n")


def test_fix_counts_every_connection_that_the_path_had_forgotten(desk: Desk) -> None:
    """No rule helps one whose data is being sent again, but the path had forgotten that one as well."""
    desk.daemon = 4242
    forgotten: Socket = {**SOCKETS[0], **idle(300.0)}
    again: Socket = {**forgotten, "timer": Timer.RETRANSMIT, "expires": 9.0, "retransmits": 3}
    desk.sockets = [forgotten, {**again, "cookie": 8, "local_port": 8}, {**again, "cookie": 9, "local_port": 9}]
    after = SocketKeepalive(True, Keepalive(180, 20, 31))

    def arm() -> None:
        desk.at_connect.records[1] = Armed(OFF, after)
        desk.armer.stands[1] = after

    desk.to_reload = arm
    status, out, _ = desk.types("amanda@backup", "--fix", "--yes")
    assert status == 0
    assert "3 connections: 3 cut" in out
    said = " ".join(out.split())
    assert said.endswith(f"The path had already forgotten 3 connections, {MUST_CONNECT} {NEXT}")


def test_fix_of_a_forgotten_connection_takes_the_daemon_for_no_program(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon arms it between the moment when its socket is read and the moment when the record is."""
    desk.daemon = 4242
    desk.sockets = [{**SOCKETS[0], **idle(300.0)}, *SOCKETS[1:]]
    after = SocketKeepalive(True, Keepalive(30, 14, 44))

    def arm_once_read() -> None:
        desk.at_connect.records[1] = Armed(OFF, after)
        desk.armer.stands[1] = after

    monkeypatch.setattr(fix, "PATIENCE", -1.0)  # this look is the last one
    desk.to_reload = lambda: setattr(desk.armer, "looked_into", arm_once_read)
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, err) == (0, [])
    assert "armed by keepaliveD: idle 30s, interval 14s, probes 44" in out
    assert "its program has changed that since" not in out
    said = f"The path had already forgotten 1 connection, {MUST_CONNECT}"
    assert out.endswith(f"\n\n{said} {NEXT}\n")


def test_fix_does_not_say_that_a_connection_is_not_armed_which_it_shows_as_armed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon arms it at the last moment, after the scan by which it is shown: another scan shows it."""
    desk.daemon = 4242
    armed: Socket = {**SOCKETS[0], "timer": Timer.KEEPALIVE, "expires": 170.0}
    scans = iter([SOCKETS, SOCKETS])  # that before the question, and that after the reload
    monkeypatch.setattr(Desk, "sockets", property(lambda _: next(scans, [armed, *SOCKETS[1:]])), raising=False)
    monkeypatch.setattr(fix, "PATIENCE", -1.0)  # no other look than this one, if it is not armed
    desk.to_reload = lambda: desk.armer.stands.update({1: SocketKeepalive(True, Keepalive(180, 20, 31))})
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, err) == (0, [])
    assert "1 connection: 1 safe" in out.partition("Reloaded the daemon.")[2]


def test_fix_of_a_connection_that_no_rule_helps_any_more_says_so_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path had forgotten it before; its data is being sent again, and to wait or to repeat --fix is in vain."""
    desk.config.write_text("")
    desk.daemon, desk.to_reload = 4242, lambda: None
    ended(desk, 100.0)
    desk.sockets = [{**SOCKETS[0], **idle(300.0), "timer": Timer.RETRANSMIT, "expires": 9.0, "retransmits": 3}]
    monkeypatch.setattr(fix, "PATIENCE", -1.0)
    file = desk.directory / "config.d/00-why-to_10.20.0.9.toml"
    said = " ".join(desk.types("amanda@backup")[1].split())
    assert f"To keep the next connections alive, write this into {file}:" in said
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, [line for line in err if "warning" not in line], desk.reloaded) == (0, [], [4242])
    said = " ".join(out.split())
    assert f"Wrote {file}. Reloaded the daemon." in said
    assert "would not arm it: to arm it while a packet is unanswered could end it" in said
    assert said.endswith(f"The path had already forgotten 1 connection, {MUST_CONNECT} {NEXT}")
    status, _, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    said = "no rule helps connections that the path has forgotten: their program must connect again"
    assert (status, line) == (69, f"keepalivectl: {said}")


def test_what_is_safe_by_a_guess_says_so_wherever_it_is_said(desk: Desk) -> None:
    """In the verdict, in the first line, and at the end of --fix, whose exit status promises nothing."""
    desk.config.write_text("")
    desk.daemon = 4242
    status, out, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    after = " ".join(out.partition("Reloaded the daemon.")[2].split())
    assert "1 connection: 1 safe by a guess" in after
    assert "SAFE if the path's timeout is 4min, which is a guess: the next packet leaves in " in after
    assert (status, line) == (
        75,
        "keepalivectl: nothing more to fix, but SAFE holds only if the path's timeout is 4min, which is a guess: find "
        "it with keepalivectl measure HOST:PORT, and write it into a [[path]]",
    )
    status, out, (again,) = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, again, "Nothing to fix" in out) == (75, line, False)
    said = " ".join(desk.types("amanda@backup")[1].split())
    assert "measure it with keepalivectl measure HOST:PORT; if you know the firewall, write its timeout down" in said


def ended(desk: Desk, *silences: float, remote: str = "10.20.0.9") -> None:
    """Let the history have connections of the unit that this path forgot."""
    kept = History(desk.directory / "state")
    (desk.directory / "state").mkdir(exist_ok=True)
    peer = {"remote_high": address(remote) >> 64, "remote_low": address(remote) & (2**64 - 1)}
    for silence in silences:
        facts = {**FORGOTTEN_BY_REJECT, **peer, "silence": silence, "netns": 0, "uid": 1000}
        report = alike(facts, owner=Owner(70, "amandad", "amanda@backup.service"))
        (entry,) = of(Outcome(ReportDeaths((report,))))
        kept.add(as_object(entry, time.time()))


def switch_on(desk: Desk) -> None:
    """Let the program have keepalive on, as the guess requires it."""
    desk.sockets = [{**SOCKETS[0], "timer": Timer.KEEPALIVE, "expires": 170.0}, *SOCKETS[1:]]
    desk.armer.stands[1] = SocketKeepalive(True, Keepalive(180, 20, 31))


def test_deaths_at_the_same_peer_contradict_a_guess(desk: Desk) -> None:
    """They are named with their silence, and what they support is offered; it is not in force by itself."""
    desk.config.write_text("")
    switch_on(desk)
    ended(desk, 100.0, 110.0)
    ended(desk, 50.0, remote="10.99.0.1")
    status, out, err = desk.types("amanda@backup")
    said = " ".join(out.split())
    assert (status, err) == (0, [])
    assert (
        "SAFE only if the path's timeout is 4min, which is contradicted (2 connections to 10.20.0.9 died after "
        "1min 40s to 1min 50s without a packet): the next packet leaves in "
    ) in said
    assert "see keepalivectl deaths 10.20.0.9" in said
    assert "also 1 other of amanda@backup.service after 50s without a packet; see keepalivectl deaths amanda@b" in said
    file = desk.directory / "config.d/00-why-to_10.20.0.9.toml"
    pasted = tomllib.loads(out.partition(f"write this into {file}:")[2].partition("Then:")[0])
    assert pasted == {
        "path": [{"name": "to 10.20.0.9", "networks": ["10.20.0.9/32"], "timeout": "50s"}],
        "arm": [{**RULE, "path": "to 10.20.0.9"}],
    }
    assert "find it with keepalivectl measure" not in said


def test_fix_writes_the_timeout_that_deaths_support_before_the_rule(desk: Desk) -> None:
    """Whatever the guess makes of the connection; then it is no guess any more."""
    desk.config.write_text("")
    desk.daemon = 4242
    ended(desk, 100.0)
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    file = desk.directory / "config.d/00-why-to_10.20.0.9.toml"
    assert list(tomllib.loads(file.read_text())) == ["path", "arm"]
    assert (status, [line for line in err if "guess" in line]) == (75, [])  # the daemon of this test arms by the guess
    assert (
        "BARE: 1 connection to 10.20.0.9 died after 1min 40s without a packet, sooner than the timeout of 4min says. "
        "By that timeout the path forgets this connection in 3min 50s, and no packet is due"
    ) in (before := " ".join(out.split()))
    assert f'"to 10.20.0.9", forgets after 50s without a packet (configured in {file})' in before
    assert [path.timeout for path in load(desk.config).paths] == [240.0, 50.0]


def check(desk: Desk) -> list[str]:
    """What `keepalivectl check` says of the configuration on standard error."""
    assert main(["check", str(desk.config)]) == 0
    return desk.capsys.readouterr().err.splitlines()


def test_after_fix_check_has_nothing_to_say(desk: Desk) -> None:
    """A path that forgets soon wants its sockets scanned as often, and the lines that are offered say so."""
    desk.config.write_text("")
    desk.daemon = 4242
    ended(desk, 21.0)
    lines = ["[watch]", 'interval = "5s"  # at most half of the idle timeout', ""]
    assert "".join(f"    {line}\n" for line in lines) in desk.types("amanda@backup")[1]
    assert json.loads(desk.types("amanda@backup", "--json")[1])["remedy"]["lines"][:3] == lines
    desk.types("amanda@backup", "--fix", "--yes")
    assert [path.timeout for path in load(desk.config).paths] == [240.0, 10.0]
    assert load(desk.config).interval == 5.0
    assert check(desk) == []


def test_what_check_would_warn_of_is_said_before_fix_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written in a later file counts, and --fix changes no line of that."""
    later = desk.directory / "config.d/50-mine.toml"
    later.parent.mkdir()
    later.write_text('[watch]\ninterval = "14s"\nwarn_before = "2min"\n')
    desk.config.write_text("")
    desk.daemon = 4242
    ended(desk, 21.0)
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    status, _, err = desk.types("amanda@backup", "--fix")
    assert status == 64
    *warned, refused = err
    assert refused == "keepalivectl: nothing was written"
    assert [line for line in warned if "14s" in line]
    assert [line for line in warned if "watch.warn_before: 2min is too long for 1 path" in line]
    desk.types("amanda@backup", "--fix", "--yes")
    assert check(desk) == warned


def test_json_has_all_that_the_page_says(desk: Desk) -> None:
    """Every key is in the manual."""
    desk.config.write_text("")
    switch_on(desk)
    ended(desk, 100.0)
    ended(desk, 90.0, remote="10.20.0.10")  # of the same unit, and newer
    status, out, err = desk.types("amanda@backup", "--json")
    assert (status, err) == (0, [])
    told = json.loads(out)
    (its,) = told["connections"]
    assert (told["version"], told["target"], told["daemon"], told["more"]) == (1, "amanda@backup", None, 0)
    assert told["age"] is None  # nobody else has scanned
    assert (its["connection"]["verdict"], its["safe_by_guess"], its["contradicted_by"]) == ("safe", True, 1)
    assert its["stands"] == {"on": True, "idle": 180, "interval": 20, "probes": 31}
    newest, death = told["deaths"]
    assert newest["peer"] == "10.20.0.10"
    assert (death["peer"], death["silence"], death["timeout"]) == ("10.20.0.9", 100.0, 240.0)
    assert told["remedy"]["file"] == str(desk.directory / "config.d/00-why-to_10.20.0.9.toml")
    assert list(tomllib.loads("\n".join(told["remedy"]["lines"]))) == ["path", "arm"]
    manual = (SCRIPT_RUN.parents[1] / "packaging/manual/keepalivectl.1.in").read_text(encoding="utf-8")
    besides = its.keys() - set(re.findall(r"^  ([a-z_]+): ", DESCRIPTION.partition("type Explanation (")[2], re.M))
    for key in (*told, *told["remedy"], *death, *besides):
        assert re.search(rf"\b{key}\b", manual), key


def test_json_writes_nothing(desk: Desk) -> None:
    with pytest.raises(SystemExit) as ends:
        desk.types("amanda@backup", "--json", "--fix")
    assert ends.value.code == 64
    assert "not allowed with argument" in desk.capsys.readouterr().err


def test_deaths_do_not_contradict_what_was_written_since(desk: Desk) -> None:
    """Only what ended under the very timeout that is configured does."""
    switch_on(desk)
    desk.config.write_text(CONFIGURED.replace("4min", "5min"))
    ended(desk, 100.0)
    status, out, _ = desk.types("amanda@backup")
    assert (status, "SAFE: " in out, "contradicted" in out) == (0, True, False)
    assert "1 connection to 10.20.0.9 died after 1min 40s without a packet" in " ".join(out.split())
    desk.config.write_text(CONFIGURED)
    assert "4min, which is contradicted" in " ".join(desk.types("amanda@backup")[1].split())
    status, out, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, line) == (
        69,
        "keepalivectl: deaths contradict the timeout of the [[path]] office, and --fix changes no line of yours; "
        'write timeout = "50s" there',
    )


@pytest.mark.parametrize(
    ("remedy", "silence"),
    [
        *((damaged, "100.0") for damaged in ("timeout = " + "[" * 9000, 'timeout = "0', "timeout = 5", "", "x = 1")),
        *(('timeout = "5s"', damaged) for damaged in ("nan", "9" * 5000, "-1", "x", "")),
    ],
)
def test_a_damaged_history_offers_nothing_and_harms_nothing(desk: Desk, remedy: str, silence: str) -> None:
    desk.config.write_text("")
    ended(desk, 100.0)
    kept = History(desk.directory / "state")
    (fields,) = kept.since(0.0)
    (desk.directory / "state/deaths").unlink()
    kept.add({**fields, "KEEPALIVE_REMEDY": remedy, "KEEPALIVE_SILENCE_SEC": silence, "KEEPALIVE_TIMEOUT_SEC": "x"})
    status, out, err = desk.types("amanda@backup")
    assert (status, err) == (0, [])
    assert "1 connection to 10.20.0.9 died" in " ".join(out.split())
    assert desk.types("amanda@backup", "--fix", "--yes")[0] == 0
    assert "[[path]]" not in desk.written.read_text()


def test_where_the_history_may_not_be_read_the_page_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_: float, **__: object) -> Iterator[Mapping[str, Any]]:
        raise NotPermitted("the history is in the journal: not permitted: run as root")

    monkeypatch.setattr(history, "journal", hidden)
    desk.config.write_text("")
    assert "died not known: the history is in the journal: not permitted" in " ".join(desk.types("ssh")[1].split())


def test_where_fix_could_not_write_it_says_so_before_it_scans(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the daemon reads another file than the one that is given."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for user, remedy in ((1000, "run as root"), (0, "it may be on a file system that is read-only")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        status, out, (line,) = desk.types("amanda@backup", "--fix", "--yes")
        assert (status, out) == (77, "")
        assert line == f"keepalivectl: {desk.directory}/config.d: --fix cannot write there; {remedy}"
    desk.daemon = 4242
    monkeypatch.setattr(process, "configuration", lambda *_: Path("/etc/other.toml"))
    assert desk.types("amanda@backup", "--fix", "--yes")[:2] == (64, "")


def test_fix_without_a_daemon_says_how_to_start_it(desk: Desk) -> None:
    status, out, _ = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, desk.reloaded) == (0, [])
    (start,) = re.findall(r"\nNo daemon runs that would read it; start it with (.*)\n$", out)
    assert start == f"{SCRIPT_RUN} --config {desk.config}"


@pytest.fixture
def clone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone on a host where nothing is installed."""
    (desk.directory / "clone/script").mkdir(parents=True)
    (desk.directory / "clone/script/run").touch()
    (desk.directory / "clone/etc/tcp-keepalived").mkdir(parents=True)
    (desk.directory / "clone/etc/tcp-keepalived/config.toml").write_text(CONFIGURED)
    monkeypatch.setattr(starting, "CLONE", desk.directory / "clone/script/run")
    monkeypatch.setattr(starting, "UNITS", ())
    monkeypatch.setattr(starting, "DEFAULT_FILE", Path("/nothing-installed/config.toml"))
    return desk.directory / "clone"


def test_without_a_daemon_fix_writes_where_the_daemon_of_a_clone_reads(desk: Desk, clone: Path) -> None:
    config = clone / "etc/tcp-keepalived/config.toml"
    written = config.parent / "config.d/00-why-amanda@backup.service.toml"
    words = ["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]
    assert main(words) == 0
    out, _ = desk.capsys.readouterr()
    assert f"write this into {written}:" in out
    assert f"Then: keepalivectl check {config} && {clone}/script/run. The same with --fix writes it.\n" in out
    assert "office, forgets after 4min" in " ".join(out.split())
    assert main([*words, "--fix", "--yes"]) == 0
    assert tomllib.loads(written.read_text()) == {"arm": [RULE]}
    assert desk.capsys.readouterr().out.endswith(
        f"Wrote {written}.\nNo daemon runs that would read it; start it with {clone}/script/run\n"
    )


def test_a_daemon_that_starts_while_fix_scans_has_its_file_written(
    desk: Desk, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may read another file than the daemon that would have been started."""
    pids = iter([0, 0])
    monkeypatch.setattr(its_files, "followed", lambda *_: desk.config)
    monkeypatch.setattr(running, "running", lambda *_: next(pids, 4242))
    status = main(["why", "amanda@backup", "--fix", "--yes", "--state-dir", str(desk.directory / "state")])
    assert (status, desk.written.exists()) == (0, True)
    assert not (clone / "etc/tcp-keepalived/config.d").exists()
    assert desk.reloaded == [4242]


def test_beside_a_daemon_that_cannot_be_asked_it_says_whose_configuration_it_follows(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.daemon = 812
    monkeypatch.setattr(process, "configuration", lambda *_: None)
    assert main(["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]) == 0
    err = " ".join(desk.capsys.readouterr().err.split())
    assert "this is a single scan by keepalivectl; this follows " in err
    assert err.endswith("but the daemon (process 812) may read another file; run as root to see which")


def test_fix_reads_the_sockets_that_a_daemon_without_privileges_may_not_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root would be told that this requires root."""
    rule = ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)
    unread = Explained(samples.BARE, True, None, ArmingResult.OWNER_NOT_VISIBLE, None, rule)
    known = daemons_explanation.Answered([unread], 0, 812, Host(True), [], 15.0)
    monkeypatch.setattr(daemons_explanation, "ask_for", lambda *_: known)
    monkeypatch.setattr(its_files, "followed", lambda *_: desk.config)
    desk.daemon = 812
    words = ["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]
    assert main(words) == 0
    assert "who set it is not known: requires root" in " ".join(desk.capsys.readouterr().out.split())
    assert main([*words, "--fix", "--yes"]) == 0
    assert (desk.written.exists(), desk.reloaded) == (True, [812])


def test_a_connection_that_the_daemon_ignores_is_not_one_that_it_will_see(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = daemons_explanation.Answered([], 0, 812, Host(True), [], 15.0)
    monkeypatch.setattr(daemons_explanation, "ask_for", lambda *_: known)
    desk.daemon = 812
    desk.config.write_text('[watch]\nignore = ["10.0.0.0/8"]\n')
    assert main(["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]) == 0
    out, err = desk.capsys.readouterr()
    assert "Not watched: " in out
    said = "note: the daemon does not watch these connections: this is a single scan by keepalivectl"
    assert " ".join(err.split()) == said


def test_a_connection_that_the_daemon_may_have_missed_is_not_one_that_it_will_surely_see(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_path: Path, method: str, *_: object) -> dict[str, object]:
        if method == "Explain":
            raise KernelError("/control: internal.tcp-keepalived.NoSuchConnection: {'cookie': 0}")
        return {"pid": 812, "scan": {"ago": 7.0, "interval": 15.0}, "settings": [], "unwatched": {"crowded": [1]}}

    monkeypatch.setattr(daemons_explanation, "ask", ask)
    monkeypatch.setattr(daemons_explanation, "listens", lambda _: 812)
    monkeypatch.setattr(orders, "show_it", lambda *_: None)
    desk.daemon = 812
    assert main(["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]) == 0
    _, err = desk.capsys.readouterr()
    said = "note: the daemon has not seen these connections, because it does not see all sockets, or not yet: "
    assert " ".join(err.split()).startswith(said)


@pytest.mark.parametrize("target", ["amanda@backup", "10.20.0.9"])
@pytest.mark.parametrize("is_root", [True, False])
def test_a_connection_that_the_daemon_has_not_seen_yet_is_no_daemon_that_cannot_be_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, target: str, *, is_root: bool
) -> None:
    """Whoever may order a scan has it scan, and asks again."""
    asked: list[str] = []
    rule = ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)
    seen = Explained(samples.BARE, True, None, None, None, rule)
    known = daemons_explanation.Answered([seen], 0, 812, Host(True), [], 15.0)

    def ask(_path: Path, method: str, *_: object) -> dict[str, object]:
        asked.append(method)
        if method == "Explain":
            raise KernelError("/control: internal.tcp-keepalived.NoSuchConnection: {'cookie': 0}")
        return {"pid": 812, "scan": {"ago": 7.0, "interval": 15.0}, "settings": []}

    def scan(*_: object) -> None:
        if is_root:
            monkeypatch.setattr(daemons_explanation, "ask_for", lambda *_: known)

    monkeypatch.setattr(daemons_explanation, "ask", ask)
    monkeypatch.setattr(daemons_explanation, "every", lambda *_: iter([{"connections": []}]))
    monkeypatch.setattr(daemons_explanation, "listens", lambda _: 812)
    monkeypatch.setattr(orders, "show_it", scan)
    assert main(["why", target, "--state-dir", str(desk.directory / "state")]) == 0
    out, err = desk.capsys.readouterr()
    said = "note: the daemon has not seen these connections yet (it scans every 15s): this is a single scan by "
    assert " ".join(err.split()).startswith("" if is_root else said)
    assert (err == "", asked[:2]) == (is_root, ["Status", "Explain"])
    assert ("amandad" in out) == is_root  # as the daemon knows it


@pytest.mark.parametrize("target", ["10.20.0.9", "31", "program2"])
def test_of_more_sockets_than_the_daemon_explains_that_is_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """It can be asked, and no other scan of it would help."""
    many = [{"cookie": number} for number in range(daemons_explanation.MOST_INODES + 1)]

    def ask(_path: Path, method: str, *_: object) -> dict[str, object]:
        if method == "Explain":
            raise KernelError(f"/control: {daemons_explanation.UNKNOWN}: {{'cookie': 0}}")
        return {"pid": 812, "scan": {"ago": 7.0, "interval": 15.0}, "settings": []}

    monkeypatch.setattr(daemons_explanation, "ask", ask)
    monkeypatch.setattr(daemons_explanation, "every", lambda *_: iter([{"connections": many}]))
    monkeypatch.setattr(daemons_explanation, "_processes", lambda *_: ["31"])
    monkeypatch.setattr(daemons_explanation, "_held", lambda *_: range(len(many)))
    monkeypatch.setattr(daemons_explanation, "listens", lambda _: 812)
    monkeypatch.setattr(orders, "show_it", lambda *_: pytest.fail("it scans in vain"))
    monkeypatch.setattr(Owners, "held_by", lambda _, pids: dict.fromkeys(pids, frozenset({2})))
    assert main(["why", target, "--state-dir", str(desk.directory / "state")]) == 0
    assert " ".join(desk.capsys.readouterr().err.split()) == (
        "note: the daemon explains 1024 sockets at most at once, and these are 1025: "
        "this is a single scan by keepalivectl"
    )


@pytest.mark.parametrize("target", ["31", "31 of which the sockets cannot be read", "amanda@backup"])
def test_a_daemon_that_is_too_slow_is_not_said_to_know_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The other meanings of the word, which are asked about next, would say so of it."""

    def ask(_path: Path, method: str, wanted: dict[str, object] | None = None, *_: object) -> dict[str, object]:
        if method == "Explain":
            slow = target == "amanda@backup" or "inodes" in (wanted or {})
            why = "the daemon does not answer: timed out" if slow else f"{daemons_explanation.UNKNOWN}: {{'cookie': 0}}"
            raise KernelError(f"/control: {why}")
        return {"pid": 812, "scan": {"ago": 7.0, "interval": 15.0}, "settings": []}

    def held(*_: object) -> list[int]:
        if "cannot" in target:
            raise PermissionError
        return [7]

    monkeypatch.setattr(daemons_explanation, "ask", ask)
    monkeypatch.setattr(daemons_explanation, "_held", held)
    monkeypatch.setattr(daemons_explanation, "listens", lambda _: 812)
    options = argparse.Namespace(target=target.partition(" of ")[0], state_dir=desk.directory / "state")
    assert daemons_explanation.ask_for(options, Path("/")) is None


def test_a_daemon_is_not_asked_about_a_process_whose_sockets_are_not_read_in_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of its connections would pass for all."""
    status = {"pid": 812, "scan": {"ago": 7.0, "interval": 15.0}, "settings": []}
    questions: list[dict[str, object]] = []

    def ask(_path: Path, method: str, wanted: dict[str, object] | None = None, *_: object) -> dict[str, object]:
        questions.append(wanted or {})
        return status if method == "Status" else {"explained": [], "more": 0}

    monkeypatch.setattr(daemons_explanation, "ask", ask)
    monkeypatch.setattr(daemons_explanation, "listens", lambda _: 812)
    options = argparse.Namespace(target=str(os.getpid()), state_dir=desk.directory / "state")
    with socket.create_server(("127.0.0.1", 0)):
        assert daemons_explanation.ask_for(options, Path("/"))
        monkeypatch.setattr(daemons_explanation, "MOMENT", -1.0)
        assert daemons_explanation.ask_for(options, Path("/")) is None
    assert [list(question) for question in questions] == [[], ["inodes"], []]


def test_the_descriptors_of_a_process_are_not_all_listed_where_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may have half a million; the clock was looked at only once all were listed."""
    clock, listed = [0.0], list[Any]()
    (tmp_path / "proc/31/fd").mkdir(parents=True)
    for number in range(9):
        (tmp_path / f"proc/31/fd/{number}").symlink_to("/dev/null")

    def slowly(entries: Iterable[Any]) -> Iterator[Any]:
        for entry in entries:
            clock[0] += 1.0
            listed.append(entry)
            yield entry

    listdir, scandir = os.listdir, os.scandir
    monkeypatch.setattr(os, "listdir", lambda path: list(slowly(listdir(path))))
    monkeypatch.setattr(os, "scandir", lambda path: contextlib.nullcontext(slowly(scandir(path))))
    monkeypatch.setattr(daemons_explanation, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert daemons_explanation._held(tmp_path, 31, until=3.5) is None
    assert len(listed) == 4


def test_one_process_that_does_not_answer_is_not_called_several(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (69, 70):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text("amandad\n")
    monkeypatch.setattr(targets, "PROC", tmp_path)
    monkeypatch.setattr(Owners, "held_by", lambda *_: {69: NoAnswer("hangs"), 70: frozenset({1})})
    status, out, err = desk.types("amandad")
    assert status == 0
    assert out.startswith("process amandad (uid 1000): 1 connection: ")
    assert " ".join(err).startswith("note: 1 process called amandad does not answer: its connections are not counted; ")


@pytest.mark.parametrize("more", [0, 5])
@pytest.mark.parametrize("is_written", [True, False])
def test_a_connection_that_its_file_has_armed_is_told_to_write_no_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, more: int, *, is_written: bool
) -> None:
    """It has survived longer silences since, and the daemon takes the longest for its timeout.

    The rule that armed it names its process, not the path. Nothing is said of connections that are not explained.
    """
    ended(desk, 100.0)
    survived = Origin(Source.EVIDENCE, "longest silence it survived")
    armed = Armed(OFF, SocketKeepalive(True, Keepalive(20, 20, 31)))
    one = dataclasses.replace(samples.BARE, verdict=Verdict.SAFE, origin=survived, netns=0, uid=1000)
    rule = ArmRule("arm[1]", ArmAction.ENABLE, None, 20, 31)
    found = Found(armed.after, ALL, None)
    answer = [Explained(one, True, found, None, armed, rule)]
    known = daemons_explanation.Answered(answer, more, 812, Host(True), [], 15.0)
    monkeypatch.setattr(daemons_explanation, "ask_for", lambda *_: known)
    monkeypatch.setattr(its_files, "followed", lambda *_: desk.config)
    file = desk.directory / f"config.d/00-why-to_{one.remote.address}.toml"
    if is_written:
        file.parent.mkdir()
        file.write_text(
            f'[[path]]\nname = "to {one.remote.address}"\nnetworks = ["{one.remote.address}/32"]\ntimeout = "50s"\n'
            '[[arm]]\nprocess = "amandad"\naction = "enable"\nidle = "auto"\n'
        )
    assert main(["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]) == 0
    out = " ".join(desk.capsys.readouterr().out.split())
    assert "1 connection to 10.20.0.9 died" in out
    assert "[[arm]]" not in out
    assert (f"write this into {file}" in out) != is_written
    assert (f"Nothing to fix: {file} keeps these connections alive." in out) == (is_written and not more)
    assert (f"{file} keeps the connections alive that are explained here." in out) == (is_written and bool(more))


def test_in_a_narrow_terminal_the_command_to_type_has_a_line_of_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(for_people, "terminal_width", lambda: 80)
    _, out, _ = desk.types("amanda@backup")
    then, same = (line for line in out.splitlines() if line.startswith(("Then: ", "The same with --fix")))
    assert then.startswith(f"Then: keepalivectl check {desk.config} && ")
    assert not then.endswith(".")
    assert same.startswith("The same with --fix")


def test_fix_names_the_directory_that_is_missing_before_it_scans(desk: Desk) -> None:
    nowhere = desk.directory / "no where/config.toml"
    status = main(["why", "amanda@backup", "--fix", "--yes", "--config", str(nowhere)])
    out, err = desk.capsys.readouterr()
    there = f"'{nowhere.parent}'"
    said = f"keepalivectl: {there}: does not exist; --fix writes there once you have typed mkdir -p {there}\n"
    assert (status, out, err) == (66, "", said)


@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_fix_asks_before_it_writes(desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, *, written: bool) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    status, out, _ = desk.types("amanda@backup", "--fix")
    assert "Write it and reload the daemon? [y/N]" in out
    assert (status == 0, desk.written.exists()) == (written, written)


@pytest.mark.parametrize(
    ("words", "configuration", "status", "said"),
    [
        (["amanda@backup", "--yes"], "", 64, "--yes only makes sense with --fix"),
        (["amanda@backup", "--fix"], "", 64, "--fix asks before it writes, and standard input is no terminal; add --y"),
        (
            ["amanda@backup", "--fix", "--yes"],
            '[[arm]]\naction = "observe"\n',
            64,
            "a rule matches before a new one would: arm[1] in {config}:1; change it there",
        ),
        (["amanda@backup", "--fix", "--yes"], "x = 1", 78, "{config}:1: x"),
    ],
)
def test_where_fix_cannot_help_it_writes_nothing(
    desk: Desk, words: list[str], configuration: str, status: int, said: str
) -> None:
    desk.config.write_text(configuration)
    left, _, (line,) = desk.types(*words)
    assert left == status
    assert line.startswith(f"keepalivectl: {said.format(config=desk.config)}")
    assert not desk.written.exists()


def test_fix_does_not_write_for_a_daemon_with_another_configuration(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.daemon = 4242
    monkeypatch.setattr(process, "configuration", lambda *_: Path("/etc/other.toml"))
    status, _, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, desk.written.exists()) == (64, False)
    assert line.endswith("the daemon (process 4242) reads /etc/other.toml; give it as --config")


@pytest.mark.parametrize("shared", [False, True])
def test_fix_does_not_write_for_a_daemon_in_a_container_that_has_its_own_files(desk: Desk, *, shared: bool) -> None:
    """Of the same name. The container may share the directory of its configuration with the host."""
    desk.daemon = 4242
    its = desk.directory / "proc/4242/root" / desk.directory.relative_to("/")
    its.parent.mkdir(parents=True)
    its.symlink_to(desk.directory if shared else "/etc")
    words = ("--config", str(desk.config), "--state-dir", str(desk.directory / "state"))
    status = main(["why", "amanda@backup", "--fix", "--yes", *words], desk.directory)
    assert (status, desk.written.exists(), desk.reloaded) == ((0, True, [4242]) if shared else (64, False, []))
    said = f"the daemon (process 4242) has another {desk.directory}, as in a container; type this there\n"
    assert desk.capsys.readouterr().err == ("" if shared else f"keepalivectl: {said}")


@pytest.mark.parametrize("words", [(), ("--fix", "--yes")])
def test_beside_a_daemon_with_another_configuration_that_one_is_meant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Unless one is given: what the page says, what it advises, and what --fix writes."""
    monkeypatch.setattr(running, "running", lambda *_: 4242)
    monkeypatch.setattr(process, "how_to_reload", lambda pid, _: f"kill -HUP {pid}")
    desk.config.write_text('[[path]]\nname = "its own"\nnetworks = ["10.0.0.0/8"]\ntimeout = "5min"\n')
    status = main(["why", "amanda@backup", *words, "--state-dir", str(desk.directory / "state")])
    out, err = desk.capsys.readouterr()
    control = control_socket(Path("/"))
    why = f"{control}: it does not listen there; start it with RUNTIME_DIRECTORY={control.parent}"
    note = f"note: process 4242 runs, but cannot be asked: {why}: this is a single scan by keepalivectl\n"
    assert (status, err) == (0, "" if words else note)
    assert '"its own"' in out
    if words:
        assert tomllib.loads(desk.written.read_text()) == {"arm": [RULE]}
        assert desk.reloaded == [4242]
        return
    assert f"write this into {desk.written}:" in out
    assert f"Then: keepalivectl check {desk.config} && kill -HUP 4242. " in out


def test_where_no_rule_helps_fix_says_so(desk: Desk) -> None:
    desk.armer.user_timeouts = {1: 1000}
    status, out, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, line) == (69, "keepalivectl: no rule would help the connections at risk; see above")
    assert "TCP_USER_TIMEOUT is 1s, set by its program" in out


def test_fix_names_the_command_that_arms_again_what_somebody_has_undone(desk: Desk) -> None:
    """Its rule is there, and arms what connects later."""
    desk.daemon = 4242
    desk.config.write_text(CONFIGURED + '[[arm]]\nunit = "amanda*"\naction = "enable"\nidle = "auto"\n')
    (desk.directory / "state").mkdir()
    record = ArmingRecord(desk.directory / "state", FakeTuner().identity["boot"])
    record.write({1: Mark.LEFT_ALONE})
    status, out, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, desk.reloaded) == (64, [])
    assert line.endswith("and no rule arms it again; type keepalivectl arm 10.0.0.1:40001")
    assert "but this does: keepalivectl arm 10.0.0.1:40001" in " ".join(out.split())


@pytest.mark.parametrize("hindrance", ["who may arm", "who owns it"])
def test_fix_without_privilege_says_that_it_requires_root(desk: Desk, hindrance: str) -> None:
    """Not that no rule would help: that is not known."""
    if hindrance == "who may arm":
        desk.armer.refusal = NotPermitted("no")
    else:
        desk.armer.looks = Access.OWNER_NOT_VISIBLE
    status, _, (line,) = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, line) == (
        77,
        "keepalivectl: what would help is not known, because a socket cannot be read: run as root, or with "
        "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    )
    assert not desk.written.exists()


def test_fix_has_a_daemon_read_a_rule_that_it_may_not_have_read(desk: Desk) -> None:
    """An earlier --fix was killed between writing and reloading."""
    assert desk.types("amanda@backup", "--fix", "--yes")[0] == 0
    desk.daemon = 4242
    status, out, _ = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, desk.reloaded) == (0, [4242])
    assert "A rule arms them. Reloaded the daemon." in out


@pytest.mark.parametrize("is_written", [False, True], ids=["write", "only reload"])
def test_fix_says_before_it_asks_that_a_reload_sets_again_what_was_undone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    if is_written:
        assert desk.types("amanda@backup", "--fix", "--yes")[0] == 0
    desk.daemon = 4242
    setting = {"name": "net.ipv4.tcp_keepalive_time", "wanted": 180, "stands": 7200, "before": None}
    as_wanted = {"name": "net.ipv4.tcp_keepalive_intvl", "wanted": 20, "stands": 20, "before": 75}
    monkeypatch.setattr(orders, "control_of", lambda *_: Path("/control"))

    def answer(_: Path, method: str, **__: object) -> dict[str, object]:
        if method == "Reload":
            desk.reload(4242, signal.SIGHUP)
        return {"applied": True, "settings": [setting, as_wanted]}

    monkeypatch.setattr(orders, "ask", answer)
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    status, out, err = desk.types("amanda@backup", "--fix")
    assert (status, desk.reloaded) == (64, [])
    assert err[0] == (
        "note: the daemon leaves settings as somebody restored or changed them; a reload sets "
        "net.ipv4.tcp_keepalive_time 180 (now 7200)"
    )
    assert out.endswith("Reload the daemon? [y/N] " if is_written else "Write it and reload the daemon? [y/N] ")
    status, _, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, desk.reloaded, len(err)) == (0, [4242], 1)


MANY: list[Socket] = [
    {**SOCKETS[0], **idle(200.0), "cookie": 1000 + number, "inode": 9, "cgroup": 3, "uid": 40020, "local_port": number}
    for number in range(1, 8)
]
LEFT_OUT = (
    "keepalivectl: {} not explained above, and may be at risk: list all connections at risk with keepalivectl sockets "
    "--at-risk; then give --fix a narrower TARGET: a unit, a process id or HOST:PORT"
)


@pytest.fixture
def crowd(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Somebody else has more connections with the same peer than are explained, all more urgent."""
    monkeypatch.setattr(own_scan, "EXPLAINED", 4)
    desk.sockets = [*MANY, {**SOCKETS[0], "uid": 0}]
    return desk


def test_a_scan_explains_connections_of_each_user(crowd: Desk) -> None:
    status, out, _ = crowd.types("10.20.0.9")
    assert status == 0
    assert "8 connections: 4 bare; 4 are explained here, the most urgent of each user first\n" in out
    assert "program1[70] (amanda@backup.service)" in out


def test_fix_arms_roots_connection_too_and_does_not_say_that_nothing_is_left(crowd: Desk) -> None:
    def arm() -> None:
        after = SocketKeepalive(True, Keepalive(180, 20, 31))
        crowd.sockets = [{**one, "timer": Timer.KEEPALIVE, "expires": 5.0} for one in crowd.sockets]
        crowd.armer.stands |= {one["cookie"]: after for one in crowd.sockets}

    crowd.daemon, crowd.to_reload = 4242, arm
    status, out, err = crowd.types("10.20.0.9", "--fix", "--yes")
    assert 'unit = "amanda@backup.service"' in out
    assert "8 connections: 4 safe; " in out.partition("Reloaded the daemon.")[2]
    assert (status, err) == (75, [LEFT_OUT.format("4 connections are")])


def test_fix_does_not_say_that_no_rule_would_help_what_it_has_not_explained(crowd: Desk) -> None:
    """Its first connections have settings with which no rule helps them."""
    crowd.sockets = MANY[:5]
    crowd.armer.user_timeouts = {one["cookie"]: 1000 for one in MANY}
    status, _, err = crowd.types("10.20.0.9", "--fix", "--yes")
    assert (status, err) == (75, [LEFT_OUT.format("1 connection is")])


def test_fix_does_not_say_that_there_is_nothing_to_fix_where_it_has_not_explained_all(crowd: Desk) -> None:
    crowd.config.write_text('[watch]\ndefault_timeout = "infinity"\n')
    status, out, err = crowd.types("10.20.0.9", "--fix", "--yes")
    assert (status, err, "Nothing to fix" in out) == (75, [LEFT_OUT.format("4 connections are")], False)


def test_fix_that_no_daemon_reads_says_what_it_has_left_out(crowd: Desk) -> None:
    status, out, err = crowd.types("10.20.0.9", "--fix", "--yes")
    assert "No daemon runs that would read it" in out
    assert (status, err) == (75, [LEFT_OUT.format("4 connections are")])


def test_fix_says_that_a_rule_would_help_a_connection_that_it_has_not_helped(desk: Desk) -> None:
    """It came while --fix was at work, or was left out before."""

    def arm() -> None:
        desk.armer.stands[1] = SocketKeepalive(True, Keepalive(180, 20, 31))
        safe: Socket = {**SOCKETS[0], "timer": Timer.KEEPALIVE, "expires": 170.0}
        desk.sockets = [safe, *MANY[:2]]

    desk.daemon, desk.to_reload = 4242, arm
    desk.config.write_text("")
    status, out, err = desk.types("10.20.0.9", "--fix", "--yes")
    assert "2 bare" in out.partition("Reloaded the daemon.")[2]
    assert (status, err) == (
        75,
        ["keepalivectl: a rule would help 2 connections that are still at risk, see above: type the same again"],
    )


def test_what_is_well_needs_no_fix(desk: Desk) -> None:
    desk.config.write_text('[watch]\ndefault_timeout = "infinity"\n')
    status, out, err = desk.types("amanda@backup", "--fix", "--yes")
    assert (status, err) == (0, [])
    assert out.endswith("Nothing to fix.\n")


def test_a_rule_in_a_later_file_does_not_hinder_a_new_one(desk: Desk) -> None:
    """The new file is read before it."""
    desk.written.parent.mkdir()
    (desk.written.parent / "50-mine.toml").write_text('[[arm]]\naction = "observe"\n')
    assert desk.types("amanda@backup", "--fix", "--yes")[0] == 0
    assert desk.written.exists()


def test_fix_twice_is_fix_once(desk: Desk) -> None:
    assert desk.types("amanda@backup", "--fix", "--yes")[0] == 0
    assert "Nothing to fix." in desk.types("amanda@backup", "--fix", "--yes")[1]


def rules(desk: Desk) -> list[tuple[str, dict[str, object]]]:
    """Each [[arm]] in config.d, with its file."""
    files = sorted((desk.directory / "config.d").glob("*.toml"))
    return [(file.name, rule) for file in files for rule in tomllib.loads(file.read_text()).get("arm", [])]


@pytest.mark.parametrize("unit", ["amanda@backup.service", "zabbix.service"], ids=["before", "after"])
def test_fix_after_a_fix_adds_the_path_that_deaths_support_but_no_second_rule(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    """Whether its file would sort before that of the first rule, and take its place, or after it."""
    monkeypatch.setitem(UNITS, 1, unit)
    monkeypatch.setattr(fix, "PATIENCE", -1.0)  # the daemon of this test arms by the guess, whatever is written
    desk.config.write_text("")
    desk.daemon = 4242
    assert desk.types(unit, "--fix", "--yes")[0] == 75  # SAFE by a guess
    before = rules(desk)
    assert before == [(f"00-why-{unit}.toml", {**RULE, "unit": unit})]
    ended(desk, 100.0)
    offered = desk.types(unit)[1]
    assert ("[[path]]" in offered, "[[arm]]" in offered) == (True, False)
    status, out, _ = desk.types(unit, "--fix", "--yes")
    assert "Wrote " in out, status
    assert rules(desk) == before
    assert [path.timeout for path in load(desk.config).paths] == [240.0, 50.0]


def test_fix_finds_its_own_rule_where_the_daemon_has_not_read_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier --fix was about more than this, and the daemon did not answer in time."""
    desk.written.parent.mkdir()
    before_this = desk.written.parent / "00-why-amanda@backup.service-ssh.service.toml"
    before_this.write_text(
        "".join(
            f'[[arm]]\nunit = "{unit}"\naction = "enable"\nidle = "auto"\n'
            for unit in ("amanda@backup.service", "ssh.service")
        )
    )
    rule = ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)
    remedy = HelpfulRule(tuple(RULE.items()), Armed(OFF, SocketKeepalive(True, Keepalive(180, 20, 31))))
    one = dataclasses.replace(samples.BARE, cookie=1, origin=Origin(Source.CONFIGURED, str(desk.config)))
    stale = Explained(one, True, Found(OFF, ALL, None), None, None, rule, ArmingResult.LEFT_BY_RULE, remedy)
    known = daemons_explanation.Answered([stale], 0, 812, Host(True), [{}], 15.0)
    monkeypatch.setattr(daemons_explanation, "ask_for", lambda *_: None if desk.reloaded else known)
    monkeypatch.setattr(its_files, "followed", lambda *_: desk.config)
    desk.daemon = 812
    before = rules(desk)
    words = ["why", "amanda@backup", "--state-dir", str(desk.directory / "state")]
    assert main(words) == 0
    said = " ".join(desk.capsys.readouterr().out.split())
    reload = "systemctl reload tcp-keepalived"
    assert said.endswith(f"A rule in {before_this} keeps these connections alive, once it is read: {reload}")
    assert main([*words, "--json"]) == 0
    assert json.loads(desk.capsys.readouterr().out)["remedy"]["file"] == str(before_this)
    status = main([*words, "--fix", "--yes"])
    out, err = desk.capsys.readouterr()
    assert (status, err, desk.reloaded) == (0, "", [812])
    assert f"A rule in {before_this} arms them. Reloaded the daemon." in " ".join(out.split())
    assert rules(desk) == before


def test_fix_that_timed_out_and_is_repeated_writes_nothing_new(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a control socket it cannot be seen whether the daemon has read it."""
    monkeypatch.setattr(fix, "PATIENCE", -1.0)
    desk.daemon, desk.to_reload = 4242, lambda: None
    for _ in range(2):
        assert desk.types("amanda@backup", "--fix", "--yes")[0] == 75
    assert rules(desk) == [(desk.written.name, RULE)]


def test_where_the_configuration_would_be_wrong_nothing_is_asked_or_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood there before stays."""
    desk.written.parent.mkdir()
    desk.written.write_text("# mine\n")

    def wrong_with_it(_: Path, *new: str) -> list[str]:
        if new:
            raise ConfigError("wrong")
        return []

    monkeypatch.setattr(dropin, "check", wrong_with_it)
    status, out, err = desk.types("amanda@backup", "--fix")
    assert (status, err) == (78, ["keepalivectl: wrong"])
    assert "[y/N]" not in out
    assert desk.written.read_text() == "# mine\n"


def test_what_is_written_can_be_read_by_the_daemons_user_whatever_the_umask(desk: Desk) -> None:
    before = os.umask(0o077)
    try:
        assert desk.types("amanda@backup", "--fix", "--yes")[0] == 0
    finally:
        os.umask(before)
    assert desk.written.stat().st_mode & 0o777 == 0o644
    assert desk.written.parent.stat().st_mode & 0o777 == 0o755


def test_fix_overwrites_nothing_that_somebody_writes_while_it_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def written_meanwhile() -> str:
        desk.written.parent.mkdir()
        desk.written.write_text("# a colleague's\n")
        return "y\n"

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(terminal, "readline", written_meanwhile)
    monkeypatch.setattr(sys, "stdin", terminal)
    desk.daemon = 31
    left, _, said = desk.types("amanda@backup", "--fix")
    assert (left, desk.reloaded) == (64, [])
    assert said[-1] == f"keepalivectl: {desk.written}: somebody has changed it meanwhile, and nothing was written"
    assert desk.written.read_text() == "# a colleague's\n"


def test_fix_leaves_a_file_that_is_about_others(desk: Desk) -> None:
    """Names are joined in the name of a file, so two of them may be the same."""
    desk.written.parent.mkdir()
    others = '[[arm]]\nprocess = "alpha"\naction = "observe"\n'
    desk.written.write_text(others)
    left, out, _ = desk.types("amanda@backup", "--fix", "--yes")
    mine = desk.written.with_name("00-why-amanda@backup.service-2.toml")
    assert (left, f"Wrote {mine}." in out) == (0, True)
    assert desk.written.read_text() == others
    assert tomllib.loads(mine.read_text())["arm"] == [RULE]


def test_fix_has_the_daemon_scan_before_it_says_that_there_is_nothing_more_to_fix(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[int] = []
    monkeypatch.setattr(orders, "show_it", lambda pid, _: scans.append(pid))
    desk.daemon = 31
    desk.types("amanda@backup", "--fix", "--yes")
    assert scans == [31]


def test_where_a_socket_was_not_read_fix_does_not_say_that_no_rule_would_help(desk: Desk) -> None:
    desk.armer.looks = Access.CLOSED
    left, _, said = desk.types("amanda@backup", "--fix", "--yes")
    assert left != 0
    assert "what would help is not known, because the socket of a connection was not read: the connection" in said[-1]
