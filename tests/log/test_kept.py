"""Where no journal keeps the history of ended connections, a file of our own does."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.log.entries import Entry
from keepaliveD.log.kept import KeepingLog
from keepaliveD.records.history import FILE, History

DIED = Entry("died", 4, "ended: user timeout", {"KEEPALIVE_CAUSE": "user-timeout"})
STARTED = Entry("started", 6, "watching")


class Passed(list[Entry]):
    """What was passed on."""

    def __call__(self, entry: Entry) -> None:
        self.append(entry)


def test_ends_are_kept_and_everything_is_passed_on(tmp_path: Path) -> None:
    passed = Passed()
    log = KeepingLog(passed, History(tmp_path), lambda: 1000.0)
    for entry in (STARTED, DIED):
        log(entry)
    assert passed == [STARTED, DIED]
    (kept,) = History(tmp_path).since(0)
    assert (kept["timestamp"], kept["MESSAGE"]) == (1000.0, DIED.message)
    assert kept["KEEPALIVE_CAUSE"] == "user-timeout"


def test_a_history_without_entries_is_one(tmp_path: Path) -> None:
    KeepingLog(Passed(), History(tmp_path), lambda: 1000.0)(STARTED)
    assert History(tmp_path).exists()


def test_what_cannot_be_kept_is_reported_once_until_it_can_be_again(tmp_path: Path) -> None:
    passed = Passed()
    log = KeepingLog(passed, History(tmp_path), lambda: 1000.0)
    (tmp_path / FILE).mkdir()
    for _ in range(3):
        log(DIED)
    assert [entry.event for entry in passed].count("doubtful") == 1
    (tmp_path / FILE).rmdir()
    log(DIED)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    log(DIED)
    assert [entry.event for entry in passed].count("doubtful") == 2
    assert str(tmp_path / FILE) in next(entry.message for entry in passed if entry.event == "doubtful")
