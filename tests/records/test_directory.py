"""The state directory: whatever the system answers, one line and no traceback."""

from __future__ import annotations

import builtins
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD.model.errors import NotPermitted, Refusal, StateError
from keepaliveD.records.settings import SettingsRecord
from tests.records.test_settings import FOUND, HERE, NAME, OURS, RANGES, fail_with

CALLS: list[tuple[object, str]] = [
    (builtins, "open"),
    (os, "open"),
    (os, "close"),
    (os, "fsync"),
    (os, "fstat"),
    (os, "lstat"),
    (os, "listdir"),
    (fcntl, "flock"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "rename"),
    (Path, "unlink"),
]


def closing(number: int) -> Callable[..., None]:
    """The same for a call that takes a descriptor: that is closed even so, as close(2) says, or it would leak here."""
    close, fail = os.close, fail_with(number)

    def close_and_fail(descriptor: int, *_: object, **__: object) -> None:
        close(descriptor)
        fail()

    return close_and_fail


def whole_life(directory: Path) -> None:
    """All that a record can go through; each step alone, as the one before may have failed."""
    steps: list[Callable[[SettingsRecord], object]] = [
        SettingsRecord.can_exist,
        SettingsRecord.damaged,
        SettingsRecord.set_aside,
        lambda record: record.record_found(FOUND, OURS),
        lambda record: record.confirm_set(OURS),
        SettingsRecord.tend,
        lambda record: record.withdraw(FOUND),
        lambda record: record.due_back(OURS),
        SettingsRecord.close,
    ]
    record = SettingsRecord(directory, HERE, RANGES)
    with contextlib.suppress(Refusal), record.locked():
        for step in steps:
            with contextlib.suppress(Refusal):
                step(record)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[1])
def test_whatever_fails_with_whatever_error_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[object, str]
) -> None:
    """Each call that it makes, with each error that there is."""
    for number in sorted(errno.errorcode):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / NAME).write_bytes(b"damaged")
        with monkeypatch.context() as patch:
            if call == (builtins, "open"):
                patch.setattr("keepaliveD.records.directory.open", closing(number), raising=False)
            else:
                patch.setattr(*call, closing(number) if call == (os, "close") else fail_with(number))
            whole_life(directory)


@pytest.mark.parametrize(("code", "kind"), [(errno.EACCES, NotPermitted), (errno.EPERM, NotPermitted)])
def test_a_want_of_privilege_is_told_from_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Refusal]
) -> None:
    """The remedy is another one."""
    monkeypatch.setattr(os, "listdir", fail_with(code))
    with pytest.raises(kind, match="--state-dir"):
        SettingsRecord(tmp_path, HERE, RANGES).damaged()


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Nobody can make such a directory."""
    record = SettingsRecord(tmp_path / ("x" * 300), HERE, RANGES)
    with pytest.raises(StateError, match="File name too long"):
        record.can_exist()
    with pytest.raises(StateError, match="File name too long"), record.locked():
        pytest.fail("locked nothing")
