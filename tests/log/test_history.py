"""The journal: an answer without entries is one only where the journal of the system was read."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Self

import pytest

from keepaliveD.log import history
from keepaliveD.log.ids import MESSAGE_IDS
from keepaliveD.model.errors import NotPermitted, Unsupported
from tests.support.unprivileged import as_a_stranger, reachable_directory


class EmptyReader:
    """systemd.journal.Reader of a journal without entries: what may not be read looks the same to it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[dict[str, object]]:
        return iter(())

    def add_match(self, **_: str) -> None:
        """Select some."""

    def add_disjunction(self) -> None:
        """Select others as well."""

    def seek_realtime(self, _: float) -> None:
        """Begin there."""


class LongReader(EmptyReader):
    """One of a journal with an entry a second, without end."""

    def __init__(self) -> None:
        self.selected: list[set[tuple[str, str]]] = []
        self.read = 0

    def add_disjunction(self) -> None:
        self.selected.append(set())

    def add_match(self, **fields: str) -> None:
        self.selected[-1].update(fields.items())

    def seek_tail(self) -> None:
        """Begin at the end."""

    def get_previous(self) -> dict[str, object]:
        self.read += 1
        return {"__REALTIME_TIMESTAMP": datetime.datetime.fromtimestamp(1000.0 - self.read, datetime.UTC)}


@pytest.fixture
def journals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the journals of a host."""
    module = ModuleType("systemd.journal")
    monkeypatch.setattr(module, "Reader", EmptyReader, raising=False)
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    with reachable_directory() as directory:
        monkeypatch.setattr(history, "JOURNALS", (directory, directory / "nothing"))
        yield directory


def system(directory: Path) -> Path:
    """The journal of the system, which is empty."""
    file = directory / "0123456789abcdef" / "system.journal"
    file.parent.mkdir()
    file.touch(0o640)
    return file


def test_where_no_journal_is_kept_nothing_is_known(journals: Path) -> None:
    with pytest.raises(Unsupported, match=f"this host keeps none, in {journals} or {journals}/nothing"):
        list(history.journal(0.0))


def test_a_journal_that_may_be_read_and_has_no_entry_says_that_there_was_none(journals: Path) -> None:
    system(journals)
    assert list(history.journal(0.0)) == []


def test_of_a_long_journal_only_the_newest_entries_about_what_is_wanted_are_read(
    journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand take a minute to read; and nobody else's entries take the place of the daemon's."""
    del journals
    reader = LongReader()
    monkeypatch.setattr(sys.modules["systemd.journal"], "Reader", lambda: reader)
    about = [{"KEEPALIVE_REMOTE_ADDRESS": ["10.0.0.1", "10.0.0.2"]}, {"KEEPALIVE_UNIT": ["a.service"]}]
    found = list(history.journal(0.0, causes=["middlebox-idle"], about=about, newest=3))
    assert [entry["__REALTIME_TIMESTAMP"].timestamp() for entry in found] == [999.0, 998.0, 997.0]
    assert reader.read == 3
    either, other = reader.selected
    both = either & other
    assert {("MESSAGE_ID", MESSAGE_IDS["died"]), ("KEEPALIVE_CAUSE", "middlebox-idle"), ("_UID", "0")} <= both
    assert {name for name, _ in both} == {"MESSAGE_ID", "KEEPALIVE_CAUSE", "_UID"}
    assert {value for _, value in either - both} == {"10.0.0.1", "10.0.0.2"}
    assert other - both == {("KEEPALIVE_UNIT", "a.service")}
    assert len(list(history.journal(994.5, newest=9))) == 2, "those that are older are of no interest"


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_journal_that_may_not_be_read_says_nothing(journals: Path, is_hidden: bool) -> None:
    """Also where not even its directory may be listed; the journal of the user alone has nothing of the daemon."""
    file = system(journals)
    file.with_name("user-1000.journal").touch(0o644)
    os.chmod(file.parent, 0o750 if is_hidden else 0o755)
    with as_a_stranger(), pytest.raises(NotPermitted, match="run as root, or in the group systemd-journal"):
        list(history.journal(0.0))
