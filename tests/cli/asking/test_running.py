"""The daemon that runs is who has locked its state directory, and nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keepaliveD.cli.asking import running as commands
from keepaliveD.cli.asking.its_files import elsewhere
from keepaliveD.cli.asking.running import running
from keepaliveD.model.errors import KernelError, NotPermitted
from keepaliveD.records.settings import SettingsRecord
from tests.cli.asking.daemon import has_locked, in_locks

SOMEBODY = 4711  # a user


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
