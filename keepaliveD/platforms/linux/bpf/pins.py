"""What outlives the daemon on the BPF file system: the program that arms at connect, and its records."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from keepaliveD.model.errors import Refusal
from keepaliveD.platforms.linux.bpf import libbpf

DIRECTORY = Path("sys/fs/bpf/tcp-keepalived")  # below root
Place = tuple[int, int]  # device and inode
PROGRAM, RECORDS = "connect", "armed"  # a struct armed of another layout takes another name


class Pins:
    """The directory of the pins. Only the daemon that has locked it may use it."""

    def __init__(self, directory: Path) -> None:
        self.program = directory / PROGRAM
        self.records = directory / RECORDS
        self._directory = directory
        self._lock = -1
        self._made = False
        self._placed: dict[Path, Place | None] = {}  # where we have locked the directory, and pinned

    def claim(self) -> None:
        """Make and lock the directory, again where somebody removed it.

        Raises OSError, with EBUSY if another daemon has locked it.
        """
        if self._lock >= 0:
            if self._is_in_place(self._directory):
                return
            os.close(self._lock)
            self._lock = -1
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._directory, 0o700)
            self._made = True
        self._lock = self._locked()
        self._placed[self._directory] = _place(self._directory)

    def are_in_place(self) -> bool:
        """Return whether all that we have pinned is still where we pinned it."""
        return all(map(self._is_in_place, self._placed))

    def _is_in_place(self, path: Path) -> bool:
        return _place(path) == self._placed[path]

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

    def pin_program(self, descriptor: int) -> None:
        """Pin the attached program, so that it outlives us, in place of an earlier one. Raises OSError."""
        self._replace(self.program, descriptor)

    def pin_records(self, descriptor: int) -> None:
        """Pin the records of the program, so that they outlive us. Raises OSError."""
        self._replace(self.records, descriptor)

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
        """Remove the pin of the program, and one that did not take its place. Raises OSError.

        It may be pinned elsewhere, too: where a file system was mounted over the pins, or they were moved.
        """
        self._placed.pop(self.program, None)
        for each in filter(_is_pin, (self.program, _new(self.program))):
            _unpin(each)

    def drop_records(self) -> None:
        """Remove the pins of the records, unless a program is pinned that goes on recording."""
        with contextlib.suppress(OSError):
            if not self.pinned():
                self._placed.pop(self.records, None)
                for each in filter(_is_pin, (self.records, _new(self.records))):
                    each.unlink(missing_ok=True)

    def _replace(self, path: Path, descriptor: int) -> None:
        """Replace a pin, without a moment in which neither pin exists. Who is killed meanwhile leaves the new one."""
        new = _new(path)
        new.unlink(missing_ok=True)
        libbpf.pin(descriptor, new)
        try:
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        self._placed[path] = _place(path)

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
        self._placed.clear()
        if self._made:
            self.remove_directory()
            self._made = False


def _unpin(pin: Path) -> None:
    """Remove the pin of a program, and detach the program, wherever else it is pinned. Raises OSError."""
    with contextlib.ExitStack() as opened:
        link = -1
        with contextlib.suppress(OSError, Refusal):
            link = libbpf.open_pinned(pin)
            opened.callback(os.close, link)
        pin.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            libbpf.detach(link)


def _place(path: Path) -> Place | None:
    """Return what no other file has as long as this one exists; None where there is none to be seen."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_dev, status.st_ino
    return None


def _is_pin(path: Path) -> bool:
    """Return whether something is pinned there, which a directory is not. Raises OSError."""
    return path.exists() and not path.is_dir()


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}_new")  # a name with a dot is not allowed there
