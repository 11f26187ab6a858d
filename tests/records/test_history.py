"""The history of ended connections in a file of our own: bounded, and whole after whatever happens to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keepaliveD.model.errors import StateError
from keepaliveD.records import history
from keepaliveD.records.history import BEFORE, FILE, History

ENTRY = {"timestamp": 1000.0, "MESSAGE": "ended: user timeout", "KEEPALIVE_CAUSE": "user-timeout"}


def messages(directory: Path, since: float = 0.0) -> list[str]:
    return [fields["MESSAGE"] for fields in History(directory).since(since)]


def add(directory: Path, *times: float) -> None:
    for time in times:
        History(directory).add({**ENTRY, "timestamp": time, "MESSAGE": f"at {time:g}"})


def test_what_was_added_is_read_in_its_order(tmp_path: Path) -> None:
    add(tmp_path, 1, 2, 3)
    assert messages(tmp_path) == ["at 1", "at 2", "at 3"]
    assert messages(tmp_path, since=2) == ["at 2", "at 3"]


def test_there_may_be_none(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        assert not History(directory).exists()
        assert messages(directory) == []
    History(tmp_path).begin()
    assert History(tmp_path).exists()


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 1000)
    add(tmp_path, *range(1, 101))
    assert (tmp_path / FILE).stat().st_size <= 1000
    assert (tmp_path / BEFORE).stat().st_size <= 1000
    kept = messages(tmp_path)
    assert 10 <= len(kept) < 50
    assert kept == [f"at {number}" for number in range(101 - len(kept), 101)]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"timestamp": 2, "MESS',
        b"\x00" * 512,
        b"[" * 100_000,
        b'{"timestamp": "now"}',
        b'{"timestamp": NaN}',
        b'{"timestamp": 1e300}',
        b'{"timestamp": ' + b"9" * 10_000 + b"}",
        b"[]",
        b"\n\n",
        b"\xff\xfe",
        b'{"timestamp": ' + b"9" * 400 + b"}\n",
    ],
)
def test_what_is_damaged_is_left_out_and_harms_nothing_else(damage: bytes, tmp_path: Path) -> None:
    """Half a line is what a kill leaves, zeros are what a power failure does."""
    add(tmp_path, 1)
    with (tmp_path / FILE).open("ab") as file:
        file.write(damage)
    add(tmp_path, 3)
    assert messages(tmp_path) == ["at 1", "at 3"]


def test_a_file_that_is_far_too_large_is_not_read_whole_and_makes_room(tmp_path: Path) -> None:
    add(tmp_path, 1)
    os.truncate(tmp_path / FILE, 1 << 40)
    assert messages(tmp_path) == ["at 1"]
    add(tmp_path, 2)
    assert messages(tmp_path) == ["at 1", "at 2"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / FILE).symlink_to(target)
    with pytest.raises(StateError, match=FILE):
        add(tmp_path, 1)
    assert target.read_text() == "precious"


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    add(tmp_path, 1)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_each_line_is_an_object(tmp_path: Path) -> None:
    History(tmp_path).add({**ENTRY, "MESSAGE": "two\nlines"})
    (line,) = (tmp_path / FILE).read_text().splitlines()
    assert json.loads(line)["MESSAGE"] == "two\nlines"
