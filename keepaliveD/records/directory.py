"""The state directory: files that are whole or not there, whenever the power fails, and a lock.

Every OSError becomes a Refusal that names the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from keepaliveD.model.errors import Busy, NoInput, NotPermitted, Refusal, StateError, remedy
from keepaliveD.places import LOCK
from keepaliveD.records.files import open_new, open_own, why_strange

DAMAGED = ".damaged"  # the end of the name under which a damaged file is kept
LARGEST = 1 << 20  # octets that a record may have; what is larger was not written by this program

Stamp = tuple[int, ...]  # device, inode, names, owner, octets, nanoseconds of the last change


class StateDirectory:
    """One directory; `path` need not exist before something is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def exists(self) -> bool:
        """Whether it is there. Raises NotPermitted, StateError where that cannot be found out."""
        with reporting(self.path, "read"):
            return self._status("") is not None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and keep everybody else out. Raises Busy, NotPermitted, StateError."""
        self._take_lock()
        try:
            yield
        finally:
            lock, self._lock = self._lock, -1
            with contextlib.suppress(OSError):  # nothing was written through it
                os.close(lock)

    def keep_lock(self) -> None:
        """Make what is locked again, where somebody removed it or gave it a second name or another owner.

        Raises Busy, NotPermitted, StateError.
        """
        with reporting(self.path / LOCK, "read"):
            there = self._status(LOCK)
            lost = self._lock >= 0 and not _same(os.fstat(self._lock), there)
            if there and not lost and self._lock >= 0 and why_strange(there, self.path / LOCK):
                (self.path / LOCK).unlink()  # nothing is in it, and the next daemon would refuse it
                lost = True
        if lost:
            self._take_lock()

    def _take_lock(self) -> None:
        self._make()
        with reporting(self.path / LOCK, "locked"):
            lock = open_own(self.path / LOCK, os.O_RDONLY | os.O_CREAT)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                if isinstance(error, BlockingIOError):
                    raise Busy(f"{self.path}: another tcp-keepalived uses this directory; stop it first") from error
                raise
            before, self._lock = self._lock, lock
            if before >= 0:
                os.close(before)

    def _make(self) -> None:
        with reporting(self.path, "made"):
            try:
                self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            except FileExistsError:
                check_link(self.path)
                raise

    def stamp(self, name: str) -> Stamp | None:
        """What changes where somebody puts something else in the place of a file, or into it; None without a file.

        So it does where somebody gives the file a second name or another owner: then nobody else may read it.
        Raises NotPermitted, StateError.
        """
        with reporting(self.path / name, "read"):
            status = self._status(name)
        if status is None:
            return None
        return status.st_dev, status.st_ino, status.st_nlink, status.st_uid, status.st_size, status.st_mtime_ns

    def names(self) -> list[str]:
        """The files in it, none where there is no directory. Raises NotPermitted, StateError."""
        with reporting(self.path, "read"), contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.path))
        return []

    def kept_aside(self, name: str) -> list[str]:
        """The files that were kept because `name` was damaged. Raises NotPermitted, StateError."""
        return [each for each in self.names() if each.startswith(f"{name}{DAMAGED}")]

    def free_aside(self, name: str) -> str:
        """The first name for one more of them that nothing has. Raises NotPermitted, StateError."""
        taken, number, free = self.names(), 1, f"{name}{DAMAGED}"
        while free in taken:
            number += 1
            free = f"{name}{DAMAGED}.{number}"
        return free

    def read(self, name: str) -> bytes | None:
        """What is in the file, or None where there is none. Raises NotPermitted, StateError."""
        file = self.path / name
        with (
            reporting(file, "read"),
            contextlib.suppress(FileNotFoundError),
            open(open_own(file, os.O_RDONLY), "rb") as opened,
        ):
            return opened.read(LARGEST)
        return None

    def replace(self, name: str, octets: bytes) -> None:
        """Put this content in its place, durably, or leave all as it was. Raises NotPermitted, StateError."""
        new = self.path / f"{name}.new"
        with reporting(self.path / name, "written"):
            try:
                with open(open_new(new), "wb") as file:
                    file.write(octets)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(self.path / name)
            except OSError:
                with contextlib.suppress(OSError):  # half of it only takes room
                    new.unlink(missing_ok=True)
                raise
            self._sync()

    def drop_empty(self, name: str) -> None:
        """Remove an empty directory that somebody made in the place of a file."""
        with contextlib.suppress(OSError):
            (self.path / name).rmdir()

    def move(self, name: str, to: str) -> None:
        """Give a file another name, durably. Raises NotPermitted, StateError."""
        with reporting(self.path / name, "moved aside"):
            (self.path / name).rename(self.path / to)
            self._sync()

    def remove(self, name: str) -> None:
        """Remove a file, durably, if there is one. Raises NotPermitted, StateError."""
        with reporting(self.path / name, "removed"), contextlib.suppress(FileNotFoundError):
            (self.path / f"{name}.new").unlink(missing_ok=True)
            if self._status(name) is None:
                return
            (self.path / name).unlink()
            self._sync()

    def _status(self, name: str) -> os.stat_result | None:
        with contextlib.suppress(FileNotFoundError):
            return os.lstat(self.path / name)
        return None

    def _sync(self) -> None:
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextlib.contextmanager
def reporting(file: Path, verb: str) -> Iterator[None]:
    """Turn an OSError into a Refusal: the file "cannot be `verb`"."""
    try:
        yield
    except OSError as error:
        raise refusal(error, file, verb) from error


def check_link(path: Path) -> None:
    """Raise NoInput where the path is a symbolic link to nothing, StateError where it is a loop of links."""
    with reporting(path, "read"):
        try:
            path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                said = f"is a link to {os.readlink(path)}, which does not exist; make that, or remove the link"
                raise NoInput(f"{path}: {said}") from None


def refusal(error: OSError, file: Path, verb: str) -> Refusal:
    """One line that names the file and the reason, and the remedy where there is one."""
    problem = f"{file}: cannot be {verb}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(f"{problem}; {permitting(error, file, verb)}")
    return StateError(problem + remedy(error))


def permitting(error: OSError, file: Path, verb: str) -> str:
    """Return what to do where a file may not be used: what is immutable is so for root, too, and may be read."""
    if error.errno == errno.EPERM and verb != "read":
        return f"if it is immutable, run as root: chattr -i {file.parent} {file}"
    return "run as root, or choose another --state-dir"


def _same(one: os.stat_result, other: os.stat_result | None) -> bool:
    return other is not None and os.path.samestat(one, other)
