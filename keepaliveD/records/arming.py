"""Which sockets were armed, and what stood there before: known to the next daemon and to keepalivectl.

A text file of one line a socket, to which is only appended, so that nothing is lost by kill -9:

    tcp-keepalived armed 1 BOOT
    COOKIE  ON IDLE INTERVAL PROBES  ON IDLE INTERVAL PROBES      before, after
    COOKIE -                                                      put back, or somebody's since

It ends with the boot, as the sockets do; so it is written, but not forced to the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from keepaliveD.errors import StateError
from keepaliveD.model import Armed, Keepalive, SocketKeepalive
from keepaliveD.sockets import Column

FILE = "armed"
WORDS = 8  # after the cookie of a socket that is armed
LEFT = "-"
SPARE = 1000  # lines about sockets that are gone, before they are cleared away


class ArmingRecord:
    """The record in `directory`; several processes may use it at once."""

    def __init__(self, directory: Path, boot: str) -> None:
        self._file = directory / FILE
        self._heading = f"tcp-keepalived armed 1 {boot}\n"
        self._armed: dict[int, Armed] = {}
        self._left: set[int] = set()
        self._mine: set[int] = set()  # those that were recorded through this object
        self._read_from = (0, 0)  # inode of the file, and how much of it is known

    def armed(self) -> dict[int, Armed]:
        """What is armed, by cookie, whoever did it. Raises StateError."""
        self._look()
        return dict(self._armed)

    def left(self) -> set[int]:
        """Cookies of those that were put back, or that somebody has set since. Raises StateError."""
        self._look()
        return set(self._left)

    def keep(self, armed: Mapping[int, Armed]) -> None:
        """Record these, by cookie, before they are set. Raises StateError.

        Of a socket that still stands as it was armed before, what stood there first is kept.
        """
        if armed:
            with self._locked() as file:
                again = {cookie: self._since_the_first(cookie, armed[cookie]) for cookie in armed.keys() & self._armed}
                records = {**armed, **again}
                self._append(file, _lines(records))
                self._armed.update(records)
                self._mine.update(records)
                self._left.difference_update(records)

    def leave(self, cookies: Iterable[int]) -> None:
        """Record that these were put back, or are somebody else's since. Raises StateError."""
        if gone := list(cookies):
            with self._locked() as file:
                self._append(file, _lines_left(gone))
                for cookie in gone:
                    self._armed.pop(cookie, None)
                self._left.update(gone)

    def forget_left(self) -> None:
        """Whoever comes next may arm them again. Raises StateError."""
        if self.left():
            with self._locked():
                self._left.clear()
                self._rewrite()

    def tidy(self, alive: Column) -> None:
        """Clear away what we recorded about none of these cookies (an array), once it is much. Raises StateError.

        What others recorded may be about sockets that we do not look at.
        """
        if len(self._mine) <= 2 * len(alive) + SPARE:
            return
        with self._locked():
            gone = self._mine.difference(alive.tolist())
            self._armed = {cookie: armed for cookie, armed in self._armed.items() if cookie not in gone}
            self._left -= gone
            self._mine -= gone
            self._rewrite()

    def _rewrite(self) -> None:
        new = self._file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(self._heading + _lines(self._armed) + _lines_left(self._left), encoding="ascii")
        new.replace(self._file)

    def _since_the_first(self, cookie: int, new: Armed) -> Armed:
        old = self._armed[cookie]
        return new._replace(before=old.before) if old.after == new.before else new

    def _append(self, file: int, text: str) -> None:
        """All of it or nothing, in place of what is no whole line, or of another boot; the caller learns it."""
        inode, known = self._read_from
        octets = (text if known else self._heading + text).encode("ascii")
        os.ftruncate(file, known)
        if os.write(file, octets) < len(octets):
            os.ftruncate(file, known)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._read_from = (inode, known + len(octets))

    def _look(self) -> None:
        with (
            self._reporting("read"),
            contextlib.suppress(FileNotFoundError),
            open(self._file, encoding="ascii") as file,
        ):
            self._catch_up(file.fileno())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, for us alone, and all that others wrote into it known."""
        with self._reporting("written"):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                file = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    if os.fstat(file).st_ino != os.stat(self._file).st_ino:
                        continue  # replaced while we waited
                    self._catch_up(file)
                    yield file
                    return
                finally:
                    os.close(file)

    def _catch_up(self, file: int) -> None:
        """Learn the lines that were added since the last time; all of them where it is another file."""
        inode, known = self._read_from
        status = os.fstat(file)
        if status.st_ino != inode or status.st_size < known:
            self._armed, self._left, known = {}, set(), 0
        text = os.pread(file, status.st_size - known, known).decode("ascii", "replace")
        whole = text[: text.rfind("\n") + 1]  # a line that is being written is read next time
        if known == 0 and not whole.startswith(self._heading):
            self._read_from = (status.st_ino, 0)
            return
        for line in whole.splitlines():
            self._learn(line)
        self._read_from = (status.st_ino, known + len(whole))

    def _learn(self, line: str) -> None:
        """What is neither kind of line says nothing."""
        with contextlib.suppress(ValueError):
            first, _, rest = line.partition(" ")
            cookie = int(first)
            if not 0 <= cookie < 1 << 64:
                return
            if rest == LEFT:
                self._armed.pop(cookie, None)
                self._left.add(cookie)
            else:
                self._armed[cookie] = _read(rest)
                self._left.discard(cookie)

    @contextlib.contextmanager
    def _reporting(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"{self._file}: cannot be {verb}: {error.strerror}; without a record no socket is touched"
            ) from error


def _lines(armed: Mapping[int, Armed]) -> str:
    return "".join([f"{cookie} {_words(each)}\n" for cookie, each in armed.items()])


def _lines_left(cookies: Iterable[int]) -> str:
    return "".join([f"{cookie} {LEFT}\n" for cookie in cookies])


@functools.lru_cache(maxsize=1024)  # most sockets stand as others do
def _words(armed: Armed) -> str:
    return " ".join(f"{on:d} {times.idle} {times.interval} {times.probes}" for on, times in armed)


@functools.lru_cache(maxsize=1024)
def _read(words: str) -> Armed:
    """Its twin; raises ValueError."""
    numbers = list(map(int, words.split()))
    if len(numbers) != WORDS:
        raise ValueError(words)
    return Armed(*(SocketKeepalive(bool(on), Keepalive(*times)) for on, *times in (numbers[:4], numbers[4:])))
