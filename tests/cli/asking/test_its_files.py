"""A command goes by the configuration and the records of the daemon that runs."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest

from keepaliveD.cli import restore, undo
from keepaliveD.cli.arming import arm, disarm
from keepaliveD.cli.asking.its_files import elsewhere, its_file, state_directory
from keepaliveD.cli.asking.process import directory_of
from keepaliveD.cli.ctl import main
from keepaliveD.cli.starting import file_to_be_read
from keepaliveD.cli.why import own_scan
from keepaliveD.log import history
from keepaliveD.model.errors import Misuse, NotPermitted
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.records.arming import ArmingRecord
from tests.cli.arming.desk import SOCKETS, Owners
from tests.cli.asking.daemon import called
from tests.cli.why.test_why import no_journal
from tests.support.fakes import IDENTITY, OFF, FakeArmer, FakeAtConnect, FakeTuner, FakeWatcher, here

SHIPPED = Path(__file__).parents[3] / "etc/tcp-keepalived/config.toml"


def test_without_a_daemon_every_command_of_a_clone_reads_what_its_daemon_will_read(tmp_path: Path) -> None:
    options = Namespace(config=None, state_dir=tmp_path)
    assert its_file(options, tmp_path) == file_to_be_read(tmp_path)
    assert its_file(Namespace(config=SHIPPED, state_dir=tmp_path), tmp_path) == SHIPPED


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
    for module in (arm, disarm, undo, restore, own_scan):
        monkeypatch.setattr(module, "detect", lambda *_, **__: platform)
    for module in (arm, disarm, own_scan):
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
