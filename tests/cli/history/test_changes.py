"""keepalivectl log: what was changed, in its order, and not what anybody writes into the journal."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from keepaliveD.cli.history import changes
from keepaliveD.cli.printing import fitting
from keepaliveD.log import history
from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.model.errors import Unsupported
from tests.cli.asking.daemon import in_locks

EPOCH = datetime.datetime(2026, 11, 28, 7, 0, tzinfo=datetime.UTC)
APPLIED: dict[str, Any] = {"MESSAGE": "net.ipv4.tcp_keepalive_time: found 7200, set to 180"}
ARMED: dict[str, Any] = {
    "MESSAGE": "armed by hand\x1b[2J\nforged",
    "KEEPALIVE_UNIT": "amanda.service",
    "KEEPALIVE_BY_UID": 1000,
}


class EmptyJournal:
    """systemd-python's reader where no journal is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close nothing."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(())

    def add_disjunction(self) -> None:
        """Select nothing."""

    def add_match(self, **_: str) -> None:
        """Select nothing."""

    def seek_realtime(self, _: float) -> None:
        """Go nowhere."""


def printed(capsys: pytest.CaptureFixture[str], *words: str, uid: int = 0) -> str:
    def read(since: float) -> Iterator[Mapping[str, Any]]:
        del since
        for number, one in enumerate((APPLIED, ARMED)):
            yield {"_UID": uid, "__REALTIME_TIMESTAMP": EPOCH + datetime.timedelta(seconds=number), **one}

    parser = argparse.ArgumentParser()
    changes.add_log(parser)
    changes.print_log(parser.parse_args(words), Path("/"), read)
    return capsys.readouterr().out


def test_what_was_changed_is_printed_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, harmless for a terminal; and who did it by hand."""
    first, second = printed(capsys).splitlines()
    assert first.endswith(" net.ipv4.tcp_keepalive_time: found 7200, set to 180")
    assert second.endswith(" armed by hand\\x1b[2J forged (by uid 1000)")
    assert len(first.split()[0]) == len("2026-11-28")


def test_in_a_narrow_terminal_an_entry_is_broken_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "terminal_width", lambda _: 50)
    first, below, *_ = printed(capsys).splitlines()
    assert first.endswith(" net.ipv4.tcp_keepalive_time:")
    assert below == "    found 7200, set to 180"


def test_nothing_in_the_journal_is_not_said_of_other_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon that a person runs logs to his terminal, and what it changes is not in the journal."""
    said = printed(capsys, uid=1000)
    assert said.startswith("no entries about changes in the journal; ")
    assert "see keepalivectl status" in said


@pytest.mark.parametrize(
    ("words", "leads_to", "said"),
    [
        (
            "--log-format=text",
            "/var/log/keepalive",
            "the daemon (process 812) writes its own log to /var/log/keepalive",
        ),
        ("--log-format=syslog", "/dev/null", "the daemon (process 812) writes its own log to syslog"),
        ("--log-format\0syslog", "/dev/null", "the daemon (process 812) writes its own log to syslog"),
        ("", "pipe:[123]", "the daemon (process 812) writes its own log to a pipe of the program that started it"),
        ("", "", "root sees where the daemon (process 812) writes its own log"),
        (None, "", "no daemon runs now whose own log could be read"),
    ],
)
def test_without_a_journal_the_log_of_the_daemon_is_named(
    words: str | None, leads_to: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: float) -> Iterator[Mapping[str, Any]]:
        raise Unsupported("the history is in the journal, and this host keeps none")

    (tmp_path / "lock").touch()
    for name in ("fd", "fdinfo"):
        (tmp_path / "proc/812" / name).mkdir(parents=True)
    (tmp_path / "proc/812/fd/9").symlink_to(tmp_path / "lock")
    (tmp_path / "proc/812/fdinfo/9").write_text("lock:\t1: FLOCK")
    holder = f"7: FLOCK  ADVISORY  WRITE 812 {in_locks(tmp_path / 'lock')} 0 EOF\n"
    (tmp_path / "proc/locks").write_text(holder if words is not None else "")
    (tmp_path / "proc/812/cmdline").write_text(f"tcp-keepalived\0{words}\0")
    if leads_to:
        (tmp_path / "proc/812/fd/2").symlink_to(leads_to)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    parser = argparse.ArgumentParser()
    changes.add_log(parser)
    required = "log requires the systemd journal: this host keeps none; "
    with pytest.raises(Unsupported, match=f"^{re.escape(required + said)}$"):
        changes.print_log(parser.parse_args([]), tmp_path, none)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("module", "the Python module systemd (systemd-python) is missing"),
        ("journal", "this host keeps none, in {0} or {0}/nothing"),
    ],
)
def test_without_what_reads_the_journal_or_without_one_the_command_says_that_it_requires_it(
    missing: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "JOURNALS", (tmp_path, tmp_path / "nothing"))
    module = None if missing == "module" else SimpleNamespace(Reader=EmptyJournal)
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    parser = argparse.ArgumentParser()
    changes.add_log(parser)
    required = f"log requires the systemd journal: {said.format(tmp_path)}; "
    with pytest.raises(Unsupported, match=f"^{re.escape(required)}"):
        changes.print_log(parser.parse_args([]), tmp_path)


def test_a_unit_may_be_selected(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = printed(capsys, "--unit", "amanda").splitlines()
    assert "armed by hand" in line
    assert printed(capsys, "--unit", "ssh").startswith("no entries about changes of ssh.service in the journal; ")
    assert printed(capsys, "--unit", "amand").endswith("; did you mean amanda.service?\n")


def test_what_others_write_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, uid=1000).startswith("no entries")


def test_json_has_the_fields_of_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = json.loads(printed(capsys, "--json"))
    assert (first["when"], first["message"]) == (EPOCH.timestamp(), APPLIED["MESSAGE"])
    assert second["unit"] == "amanda.service"


def test_every_change_is_an_event_of_the_log() -> None:
    assert set(history.CHANGES) <= set(MESSAGE_IDS)
