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
    """The directory of the pins. Only the daemon that has locked it may use it."""

    def __init__(self, directory: Path) -> None:
        self.program = directory / PROGRAM
        self.records = directory / RECORDS
        self._directory = directory
        self._lock = -1
        self._made = False

    def claim(self) -> None:
        """Make and lock the directory. Raises OSError, with EBUSY if another daemon has locked it."""
        if self._lock >= 0:
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._directory, 0o700)
            self._made = True
        self._lock = self._locked()

    def _locked(self) -> int:
        """Return a descriptor of the directory that holds its lock. Raises OSError, with EBUSY as claim() does."""
        lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise OSError(errno.EBUSY, "in use by another tcp-keepalived") from error
        return lock

    def claimed_by_another(self) -> bool:
        """Return whether another daemon uses the directory."""
        if self._lock >= 0:
            return False
        try:
            os.close(self._locked())
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    def pin_program(self, programs: libbpf.Object, link: int) -> None:
        """Pin the attached program, so that it outlives us, in place of an earlier one. Raises OSError."""
        self._replace(self.program, lambda new: programs.pin(link, new))

    def pin_records(self, descriptor: int) -> None:
        """Pin the records of the program, so that they outlive us. Raises OSError."""
        self._replace(self.records, lambda new: libbpf.pin_map(descriptor, new))

    def pinned(self) -> Path | None:
        """Return where a program is pinned, if any is. Raises OSError."""
        return next((each for each in (self.program, _new(self.program)) if _is_pin(each)), None)

    def are_records_seen(self) -> bool:
        """Return whether records are pinned, as far as this process may look."""
        try:
            return _is_pin(self.records)
        except OSError:
            return False

    def are_records_left(self) -> bool:
        """Return whether records are pinned that have not taken their place, as far as this process may look."""
        try:
            return _is_pin(_new(self.records))
        except OSError:
            return False

    def drop_program(self) -> None:
        """Remove the pin of the program, and one that did not take its place. Raises OSError."""
        for each in filter(_is_pin, (self.program, _new(self.program))):
            each.unlink(missing_ok=True)

    def drop_records(self) -> None:
        """Remove the pins of the records, unless a program is pinned that goes on recording."""
        with contextlib.suppress(OSError):
            if not self.pinned():
                for each in filter(_is_pin, (self.records, _new(self.records))):
                    each.unlink(missing_ok=True)

    def _replace(self, path: Path, pin: Callable[[Path], None]) -> None:
        """Replace a pin, without a moment in which neither pin exists. Who is killed meanwhile leaves the new one."""
        new = _new(path)
        new.unlink(missing_ok=True)
        pin(new)
        try:
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def remove_directory(self) -> None:
        """Remove the directory if nothing is pinned in it.

        Call it only while no daemon runs: if the directory is a mount point in the daemon's mount namespace,
        the mount would be detached.
        """
        with contextlib.suppress(OSError):
            self._directory.rmdir()

    def release(self) -> None:
        """Unlock the directory for other daemons; remove it if we made it and nothing is pinned in it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._made:
            self.remove_directory()
            self._made = False


def _is_pin(path: Path) -> bool:
    """Return whether something is pinned there, which a directory is not. Raises OSError."""
    return path.exists() and not path.is_dir()


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}_new")  # a name with a dot is not allowed there
