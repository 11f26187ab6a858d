"""The journal: an answer without entries is one only where the journal of the system was read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Self

import pytest

from keepaliveD.log import history
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

    def seek_realtime(self, _: float) -> None:
        """Begin there."""


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


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_journal_that_may_not_be_read_says_nothing(journals: Path, is_hidden: bool) -> None:
    """Also where not even its directory may be listed; the journal of the user alone has nothing of the daemon."""
    file = system(journals)
    file.with_name("user-1000.journal").touch(0o644)
    os.chmod(file.parent, 0o750 if is_hidden else 0o755)
    with as_a_stranger(), pytest.raises(NotPermitted, match="run as root, or in the group systemd-journal"):
        list(history.journal(0.0))
