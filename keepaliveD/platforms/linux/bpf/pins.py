"""What outlives the daemon on the BPF file system: the program that arms at connect, and its records."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from keepaliveD.platforms.linux.bpf import libbpf

DIRECTORY = Path("sys/fs/bpf/tcp-keepalived")  # below root
PROGRAM, RECORDS = "connect", "armed"  # a struct armed of another layout takes another name


class Pins:
    """The directory, which one daemon at a time may use: the one that has locked it."""

    def __init__(self, directory: Path) -> None:
        self.program = directory / PROGRAM
        self.records = directory / RECORDS
        self._directory = directory
        self._lock = -1
        self._made = False

    def claim(self) -> None:
        """Make and lock the directory. Raises OSError; with EBUSY where another daemon has it."""
        if self._lock >= 0:
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._directory, 0o700)
            self._made = True
        lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise OSError(errno.EBUSY, "in use by another tcp-keepalived") from error
        self._lock = lock

    def claimed_by_another(self) -> bool:
        """Whether another daemon uses the directory."""
        if self._lock >= 0:
            return False
        try:
            self.claim()
        except OSError as error:
            return error.errno == errno.EBUSY
        self.release()
        return False

    def pin_program(self, programs: libbpf.Object, link: int) -> None:
        """Have the attached program outlive us, in place of an earlier one. Raises OSError."""
        self._replace(self.program, lambda new: programs.pin(link, new))

    def pin_records(self, descriptor: int) -> None:
        """Have its records outlive us. Raises OSError."""
        self._replace(self.records, lambda new: libbpf.pin_map(descriptor, new))

    def drop_records(self) -> None:
        """Let them end with us, unless a program is pinned that goes on recording."""
        with contextlib.suppress(OSError):
            if not self.program.exists():
                self.records.unlink(missing_ok=True)

    def _replace(self, path: Path, pin: Callable[[Path], None]) -> None:
        """Without a moment in which neither is there."""
        new = path.with_name(f"{path.name}_new")  # a name with a dot is not allowed there
        new.unlink(missing_ok=True)
        pin(new)
        new.replace(path)

    def remove_directory(self) -> None:
        """Remove it where nothing is pinned in it.

        Not while a daemon runs: where the directory is a mount point in the daemon's mount namespace, that
        would be detached.
        """
        with contextlib.suppress(OSError):
            self._directory.rmdir()

    def release(self) -> None:
        """Let another daemon use the directory; where we made it, it goes if nothing is pinned in it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._made:
            self.remove_directory()
            self._made = False
