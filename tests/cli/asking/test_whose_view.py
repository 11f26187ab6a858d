"""Beside a running daemon keepalivectl says whose view it prints."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from keepaliveD.cli import paths
from keepaliveD.cli.asking import daemons_view
from keepaliveD.cli.asking import process as its_process
from keepaliveD.cli.asking.whose_view import answer_or_why
from keepaliveD.cli.ctl import main
from keepaliveD.cli.status import status
from keepaliveD.model.errors import NoInput, NotPermitted
from keepaliveD.records.settings import SettingsRecord

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


@pytest.mark.parametrize("command", ["sockets", "paths", "status"])
def test_without_root_it_is_said_that_the_daemon_may_follow_another_configuration(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[str, object]:
        raise NotPermitted("/control: Permission denied; run as root")

    for module in (daemons_view, status):
        monkeypatch.setattr(module, "ask", refuse)
    monkeypatch.setattr(paths, "ask_daemon", refuse)
    monkeypatch.setattr(its_process, "configuration", lambda *_: None)
    with SettingsRecord(tmp_path, {}, {}).locked():
        main([command, "--state-dir", str(tmp_path)])
    said = " ".join("".join(capsys.readouterr()).split())
    assert f", but the daemon (process {os.getpid()}) may read another file; run as root to see which" in said


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
