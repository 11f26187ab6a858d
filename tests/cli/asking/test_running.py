"""Beside a running daemon keepalivectl says whose view it prints."""

from __future__ import annotations

import os
import re
import socket
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.cli import arming, paths, restore, undo
from keepaliveD.cli.asking import daemons_view
from keepaliveD.cli.asking import running as commands
from keepaliveD.cli.asking.running import (
    answer_or_why,
    configuration,
    directory_of,
    elsewhere,
    how_to_reload,
    how_to_stop,
    its_file,
    running,
    state_directory,
)
from keepaliveD.cli.ctl import main
from keepaliveD.cli.starting import UNITS, file_to_be_read, how_to_start
from keepaliveD.cli.status import status
from keepaliveD.cli.why import own_scan
from keepaliveD.log import history
from keepaliveD.model.errors import KernelError, Misuse, NoInput, NotPermitted
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.records import locks as listing
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.settings import SettingsRecord
from tests.cli.test_arming import SOCKETS, Owners
from tests.cli.why.test_why import no_journal
from tests.support.fakes import IDENTITY, OFF, FakeArmer, FakeAtConnect, FakeTuner, FakeWatcher, here

SOMEBODY = 4711  # a user
SHIPPED = Path(__file__).parents[3] / "etc/tcp-keepalived/config.toml"
LOOKING = pytest.mark.parametrize("words", [["sockets"], ["sockets", "--json"], ["engine"]])


def notes(words: list[str], directory: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is said on standard error; the same is printed in any case."""
    assert main([*words, "--config", str(SHIPPED), "--state-dir", str(directory)]) == 0
    out, err = capsys.readouterr()
    assert out
    return [line for line in err.splitlines() if line.startswith("note: ")]


@LOOKING
def test_beside_a_daemon_it_is_said_whose_view_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """The daemon may read by another engine, and has watched for longer."""
    with SettingsRecord(tmp_path, {}, {}).locked():
        (line,) = notes(words, tmp_path, capsys)
    assert f"tcp-keepalived is running (process {os.getpid()}) and may know more: this " in line
    assert ("; keepalivectl status shows what the daemon uses" in line) == (words == ["engine"])
    assert line.endswith("; for the daemon's view leave --config out") == (words != ["engine"])
    assert notes(words, tmp_path, capsys) == []


@pytest.mark.parametrize("command", ["sockets", "paths"])
def test_beside_a_daemon_that_may_not_be_asked_the_cure_is_named_once(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[str, object]:
        raise NotPermitted("/control: Permission denied; run as root")

    monkeypatch.setattr(daemons_view, "ask", refuse)
    monkeypatch.setattr(paths, "ask_daemon", refuse)
    with SettingsRecord(tmp_path, {}, {}).locked():
        assert main([command, "--state-dir", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("note: "))
    assert re.fullmatch(
        rf"note: process {os.getpid()} runs, but cannot be asked: /control: Permission denied; run as root; "
        r"this list is a single scan by keepalivectl \(\w+ engine\)",
        line,
    )


@LOOKING
def test_without_a_daemon_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """There is one view only. The directory is not made for that."""
    assert notes(words, tmp_path / "never-used", capsys) == []
    assert not (tmp_path / "never-used").exists()


def in_locks(file: Path) -> str:
    """The file as /proc/locks names it."""
    status = file.stat()
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def has_locked(root: Path, pid: int, file: Path, about: str = "lock:\t1: FLOCK  ADVISORY  WRITE") -> None:
    """Have a process below this root hold the file open, and its descriptor be described so."""
    process = root / f"proc/{pid}"
    for name in ("fd", "fdinfo"):
        (process / name).mkdir(parents=True)
    (process / "fd/7").symlink_to(file)
    (process / "fdinfo/7").write_text(about)


def test_a_lock_of_another_kind_is_no_daemon(tmp_path: Path) -> None:
    """Nor is one who only waits for it, nor a file of other numbers, nor of another file system."""
    (tmp_path / "lock").touch()
    has_locked(tmp_path, 812, tmp_path / "lock")
    name = in_locks(tmp_path / "lock")
    locks = tmp_path / "proc/locks"
    for line in (
        f"POSIX  ADVISORY  WRITE 812 {name}",
        f"FLOCK  ADVISORY  READ  812 {name}",
        f"FLOCK  ADVISORY  WRITE 812 {name}1",
        f"FLOCK  ADVISORY  WRITE 812 ff:ff:{name.rpartition(':')[2]}",
    ):
        locks.write_text(f"1: {line} 0 EOF\n1: -> {line} 0 EOF\n")
        assert running(tmp_path, tmp_path) == 0
    locks.write_text(f"7: FLOCK  ADVISORY  WRITE 812 {name} 0 EOF\n")
    assert running(tmp_path, tmp_path) == 812


@pytest.mark.parametrize(
    ("opened", "about", "holder"),
    [
        ("lock", "lock:\t1: FLOCK  ADVISORY  WRITE", 812),
        ("other", "lock:\t1: FLOCK", 0),
        ("lock", "flags:\t010000000", 0),
    ],
    ids=["the daemon", "it locks another file of that name", "it only holds a path to the lock"],
)
def test_root_believes_only_who_has_the_lock_itself(tmp_path: Path, opened: str, about: str, holder: int) -> None:
    """/proc/locks names files of other subvolumes and layers alike, and anybody may lock one and become su(1)."""
    for name in ("lock", "other"):
        (tmp_path / name).touch()
    has_locked(tmp_path, 812, tmp_path / opened, about)
    locks = f"7: FLOCK  ADVISORY  WRITE 812 {in_locks(tmp_path / 'lock')} 0 EOF\n"
    (tmp_path / "proc/locks").write_text(locks)
    assert running(tmp_path, tmp_path) == holder


def test_a_process_that_has_just_ended_is_no_daemon(tmp_path: Path) -> None:
    """What it had open can no longer be read, by root either."""
    (tmp_path / "lock").touch()
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/locks").write_text(f"7: FLOCK  ADVISORY  WRITE 812 {in_locks(tmp_path / 'lock')} 0 EOF\n")
    assert running(tmp_path, tmp_path) == 0


def test_a_mount_with_a_strange_name_is_no_other_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may name one with fusermount3: carriage returns and the blanks of Unicode are not escaped there."""
    (tmp_path / "lock").touch()
    (tmp_path / "fdinfo").mkdir()
    for number in range(256):
        (tmp_path / f"fdinfo/{number}").write_text("mnt_id:\t325\n")
    forged = "40 1 0:40 / /mnt rw - fuse f\r325\u20031\u20030:96\u2003/\u2003/ rw\n"
    (tmp_path / "mountinfo").write_bytes(forged.encode())
    monkeypatch.setattr(commands, "ITSELF", tmp_path)
    _, names = commands._named_in_locks(tmp_path / "lock")
    assert names == {in_locks(tmp_path / "lock")}


def test_a_process_of_somebody_else_is_no_daemon(tmp_path: Path) -> None:
    """It has the process id of a daemon that has ended since."""
    (tmp_path / "lock").touch()
    has_locked(tmp_path, 812, tmp_path / "lock")
    os.chown(tmp_path / "proc/812", SOMEBODY, -1)
    (tmp_path / "proc/locks").write_text(f"7: FLOCK  ADVISORY  WRITE 812 {in_locks(tmp_path / 'lock')} 0 EOF\n")
    assert running(tmp_path, tmp_path) == 0


@pytest.mark.parametrize(
    ("command", "cgroup", "stop"),
    [
        ("python3\0-m\0keepaliveD\0", "0::/user.slice/session-1.scope\n", "kill 812"),
        ("/usr/bin/tcp-keepalived\0", "0::/system.slice/tcp-keepalived.service\n", "systemctl stop tcp-keepalived"),
        ("/sbin/init\0", "0::/init.scope\n", "systemctl stop tcp-keepalived"),  # the daemon is in a container
    ],
)
def test_a_daemon_outside_of_its_unit_is_stopped_by_a_signal(
    tmp_path: Path, command: str, cgroup: str, stop: str
) -> None:
    assert how_to_stop(812, tmp_path) == "systemctl stop tcp-keepalived"
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/812/cmdline").write_text(command)
    (tmp_path / "proc/812/cgroup").write_text(cgroup)
    assert how_to_stop(812, tmp_path) == stop
    assert how_to_reload(812, tmp_path) == ("kill -HUP 812" if "kill" in stop else "systemctl reload tcp-keepalived")


@pytest.mark.parametrize("directory", UNITS)
def test_where_a_unit_is_installed_it_is_started_and_else_the_clone(tmp_path: Path, directory: str) -> None:
    """There is no unit of a program that runs from a clone: systemctl would only say so."""
    run = str(Path(__file__).parents[3] / "script/run")
    assert how_to_start(tmp_path) == run
    assert how_to_start(tmp_path, Path("/srv/my own.toml")) == f"{run} --config '/srv/my own.toml'"
    (tmp_path / directory).mkdir(parents=True)
    (tmp_path / directory / "tcp-keepalived.service").touch()
    assert how_to_start(tmp_path) == "systemctl start tcp-keepalived"
    assert file_to_be_read(tmp_path) is None


def test_the_daemon_of_a_clone_reads_the_clones_configuration_unless_etc_has_one(tmp_path: Path) -> None:
    """Which one is said by what script/run passes."""
    clone = Path(__file__).parents[3]
    its = file_to_be_read(tmp_path)
    assert its
    assert its.exists()
    run = clone / "script/run"
    assert f" --config {its.relative_to(clone)} " in run.read_text(encoding="utf-8")
    assert how_to_start(tmp_path, its) == str(run)
    (tmp_path / "etc/tcp-keepalived").mkdir(parents=True)
    (tmp_path / "etc/tcp-keepalived/config.toml").touch()
    assert file_to_be_read(tmp_path) is None
    assert how_to_start(tmp_path) == f"{run} --config /etc/tcp-keepalived/config.toml"


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["--config", "/srv/its.toml"], Path("/srv/its.toml")),
        (["--config=/srv/its.toml"], Path("/srv/its.toml")),
        ([], Path("/etc/tcp-keepalived/config.toml")),
        (["--config", "its.toml"], None),
    ],
)
def test_only_a_relative_name_hides_the_configuration_of_a_daemon(
    tmp_path: Path, words: list[str], file: Path | None
) -> None:
    """Where a process works, only root sees; what it was called with, everybody."""
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/812/cmdline").write_bytes(b"".join(f"{word}\0".encode() for word in ["tcp-keepalived", *words]))
    assert configuration(812, tmp_path) == file


def test_without_a_daemon_every_command_of_a_clone_reads_what_its_daemon_will_read(tmp_path: Path) -> None:
    options = Namespace(config=None, state_dir=tmp_path)
    assert its_file(options, tmp_path) == file_to_be_read(tmp_path)
    assert its_file(Namespace(config=SHIPPED, state_dir=tmp_path), tmp_path) == SHIPPED


@pytest.mark.parametrize("command", ["sockets", "paths", "status"])
def test_without_root_it_is_said_that_the_daemon_may_follow_another_configuration(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[str, object]:
        raise NotPermitted("/control: Permission denied; run as root")

    for module in (daemons_view, status):
        monkeypatch.setattr(module, "ask", refuse)
    monkeypatch.setattr(paths, "ask_daemon", refuse)
    monkeypatch.setattr(commands, "configuration", lambda *_: None)
    with SettingsRecord(tmp_path, {}, {}).locked():
        main([command, "--state-dir", str(tmp_path)])
    said = " ".join("".join(capsys.readouterr()).split())
    assert f", but the daemon (process {os.getpid()}) may read another file; run as root to see which" in said


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A daemon that answers below a root, with the process of the test; its command line is yet to be written there."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    (tmp_path / "run/tcp-keepalived").mkdir(parents=True)
    (tmp_path / f"proc/{os.getpid()}").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "run/tcp-keepalived/control"))
        daemon.listen()
        yield tmp_path


@pytest.fixture
def very_many_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory; the time is over before all that /proc/locks says below the root is read."""
    monkeypatch.setattr(listing, "PATIENCE", 0.0)
    (tmp_path / "proc").mkdir(exist_ok=True)
    (tmp_path / "proc/locks").write_text("1: POSIX  ADVISORY  WRITE 812 00:01:4 0 1\n" * 10_000)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/lock").touch()
    return tmp_path / "state"


def locked_last(directory: Path, root: Path, pid: int) -> None:
    """Have a process have this directory locked; /proc/locks says so at its end."""
    has_locked(root, pid, directory / "lock")
    with (root / "proc/locks").open("a", encoding="ascii") as listed:
        listed.write(f"7: FLOCK  ADVISORY  WRITE {pid} {in_locks(directory / 'lock')} 0 EOF\n")


def test_beside_very_many_locks_the_daemon_is_who_listens_and_has_the_lock(
    answering: Path, very_many_locks: Path
) -> None:
    with SettingsRecord(very_many_locks, {}, {}).locked():
        locked_last(very_many_locks, answering, os.getpid())
        assert running(very_many_locks, answering) == os.getpid()


def test_beside_very_many_locks_a_daemon_that_listens_for_another_directory_is_not_this_ones(
    answering: Path, very_many_locks: Path
) -> None:
    has_locked(answering, os.getpid(), answering / "other")
    (answering / "other").touch()
    assert running(very_many_locks, answering) == 0


def test_beside_very_many_locks_no_daemon_runs_where_the_lock_is_free(tmp_path: Path, very_many_locks: Path) -> None:
    """It is tried for an instant, and is free again."""
    assert running(very_many_locks, tmp_path) == 0
    with SettingsRecord(very_many_locks, {}, {}).locked():
        pass


def test_beside_very_many_locks_nobody_says_that_no_daemon_runs_where_somebody_has_the_lock(
    tmp_path: Path, very_many_locks: Path
) -> None:
    with SettingsRecord(very_many_locks, {}, {}).locked():
        with pytest.raises(
            KernelError, match="lock is locked by a process that cannot be found: /proc/locks is too long"
        ):
            running(very_many_locks, tmp_path)
        with pytest.raises(KernelError, match="is too long"):
            elsewhere(very_many_locks, tmp_path)


def test_beside_very_many_locks_who_may_not_try_the_lock_is_told_to_be_root(
    tmp_path: Path, very_many_locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(commands, "open_own", refuse)
    with pytest.raises(NotPermitted, match=r"cannot be told whether .* runs: .* run as root"):
        running(very_many_locks, tmp_path)


def test_very_many_locks_are_waited_for_once_by_a_command(tmp_path: Path, very_many_locks: Path) -> None:
    assert running(very_many_locks, tmp_path) == 0
    (tmp_path / "proc/locks").unlink()
    os.mkfifo(tmp_path / "proc/locks")  # of which nothing ever comes
    assert running(very_many_locks, tmp_path) == 0


def test_why_a_daemon_is_not_asked_is_said_where_it_cannot_be_told_whether_one_runs(
    tmp_path: Path, very_many_locks: Path
) -> None:
    """`watch` goes on."""

    def ask() -> None:
        raise NoInput("no such file")

    with SettingsRecord(very_many_locks, {}, {}).locked():
        answer, why = answer_or_why(ask, very_many_locks, tmp_path)
    assert answer is None
    assert "is too long" in why


def called(root: Path, *words: str, environment: str | None = "") -> None:
    """Have the daemon be called with these words; its environment cannot be read where it is None."""
    process = root / f"proc/{os.getpid()}"
    (process / "cmdline").write_bytes(b"".join(f"{word}\0".encode() for word in ["tcp-keepalived", *words]))
    if environment is not None:
        (process / "environ").write_text(environment)


@pytest.mark.parametrize(
    ("words", "environment", "directory"),
    [
        (["--state-dir", "/srv/its"], None, "/srv/its"),
        (["--state-dir=/srv/its"], None, "/srv/its"),
        (["--state=/srv/other", "--state-d", "/srv/its"], None, "/srv/its"),
        ([], "", "/var/lib/tcp-keepalived"),
        ([], "A=b\0STATE_DIRECTORY=/srv/its:/srv/other\0", "/srv/its"),
        ([], None, None),
        (["--state-dir", "its"], "", None),  # only root sees where the process works
    ],
)
def test_the_state_directory_of_a_daemon_is_seen_in_its_process(
    answering: Path, words: list[str], environment: str | None, directory: str | None
) -> None:
    called(answering, *words, environment=environment)
    found = Path(directory) if directory else None
    assert directory_of(os.getpid(), answering) == found
    assert state_directory(answering) == (found or Path("/var/lib/tcp-keepalived"))


def test_the_state_directory_of_the_environment_goes_before_that_of_the_daemon(
    answering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(answering, "--state-dir", "/srv/its")
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/given")
    assert state_directory(answering) == Path("/srv/given")


def test_without_a_daemon_the_usual_state_directory_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert state_directory(tmp_path) == Path("/var/lib/tcp-keepalived")
    assert elsewhere(Path("/var/lib/tcp-keepalived"), tmp_path) is None


def test_a_daemon_with_another_state_directory_is_refused_by_its_name(answering: Path) -> None:
    called(answering, "--state-dir", "/srv/its")
    assert elsewhere(Path("/srv/its"), answering) is None
    refusal = elsewhere(Path("/srv/given"), answering)
    assert isinstance(refusal, Misuse)
    said = f"the daemon (process {os.getpid()}) uses another state directory: give --state-dir /srv/its"
    assert str(refusal) == said


def test_a_daemon_whose_state_directory_cannot_be_told_is_refused(answering: Path) -> None:
    called(answering, environment=None)
    refusal = elsewhere(Path("/srv/given"), answering)
    assert isinstance(refusal, NotPermitted)
    assert "cannot be told here, and it may not be /srv/given: run as root" in str(refusal)


def on_a_host(monkeypatch: pytest.MonkeyPatch) -> FakeArmer:
    """Have the commands find the connections of a host that keeps no journal; return who reads their sockets."""
    armer = FakeArmer()
    monkeypatch.setattr(history, "journal", no_journal)
    platform = Platform(
        "fake", FakeTuner(), FakeAtConnect(), lambda _: Session(FakeWatcher(lambda _: SOCKETS), Owners(), armer)
    )
    for module in (arming, undo, restore, own_scan):
        monkeypatch.setattr(module, "detect", lambda *_, **__: platform)
    for module in (arming, own_scan):
        monkeypatch.setattr(module, "in_worker", here)
    return armer


IN_DIRECTORY = ["undo 10.20.0.9", "undo all", "disarm", "restore", "deaths", "why 10.20.0.9 --fix --yes"]


@pytest.mark.parametrize("command", IN_DIRECTORY)
def test_no_command_says_that_there_is_nothing_where_the_daemon_keeps_its_records_elsewhere(
    answering: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    on_a_host(monkeypatch)
    called(answering, "--state-dir", "/srv/its")
    (answering / "given").mkdir()
    left = main([*command.split(), "--state-dir", str(answering / "given")], answering)
    out, err = capsys.readouterr()
    assert (left, out) == (64, "")
    assert err.endswith(f"(process {os.getpid()}) uses another state directory: give --state-dir /srv/its\n")
    monkeypatch.setenv("STATE_DIRECTORY", str(answering / "given"))
    assert main(command.split(), answering) == 64


@pytest.mark.parametrize("command", ["undo 10.20.0.9", "disarm"])
def test_what_a_daemon_with_another_state_directory_has_armed_is_disarmed(
    answering: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Nobody need know where it keeps its records."""
    armer = on_a_host(monkeypatch)
    called(answering, "--state-dir", str(answering / "its"))
    record = ArmingRecord(answering / "its", IDENTITY["boot"])
    armer.stands[1] = SocketKeepalive(True, Keepalive(180, 20, 31))
    record.write({1: Armed(OFF, armer.stands[1])})
    assert main(command.split(), answering) == 0
    assert "nothing to" not in capsys.readouterr().out
    assert record.armed() == {}
