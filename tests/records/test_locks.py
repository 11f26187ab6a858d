"""A file that another process has locked is waited for, and the process is named."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from keepaliveD.records import locks
from keepaliveD.records.locks import lock


@pytest.mark.parametrize(("patience", "holder"), [(60.0, "process {} "), (0.0, "another process ")])
def test_who_has_a_file_locked_is_sought_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float, holder: str
) -> None:
    """Anybody may hold so many locks of fcntl(2) that the kernel takes minutes to list them."""
    with (tmp_path / "file").open("wb") as ours, (tmp_path / "file").open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        status = os.fstat(theirs.fileno())
        name = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        others = "1: POSIX  ADVISORY  WRITE 812 00:01:4 0 1\n" * 10_000
        (tmp_path / "locks").write_text(f"{others}2: FLOCK  ADVISORY  WRITE {os.getpid()} {name} 0 EOF\n")
        monkeypatch.setattr(locks, "LOCKS", tmp_path / "locks")
        monkeypatch.setattr(locks, "PATIENCE", patience)
        with pytest.raises(BlockingIOError, match=f"{holder.format(os.getpid())}.*has it locked"):
            lock(ours.fileno(), patience=0.0)


def test_a_list_that_is_not_long_is_read_whatever_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stop us for longer than we would wait for a long one."""
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    (tmp_path / "locks").write_text("1: POSIX  ADVISORY  WRITE 812 00:01:4 0 1\n" * 1000)
    assert len(list(locks.listed(tmp_path / "locks"))) == 1000
