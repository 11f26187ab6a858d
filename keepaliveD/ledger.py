"""Which sockets were armed, and what stood there before: known to the next daemon and to keepalivectl.

A text file of one line a socket, to which is only appended, so that nothing is lost by kill -9:

    tcp-keepalived armed 1 BOOT
    COOKIE INODE  ON IDLE INTERVAL PROBES  ON IDLE INTERVAL PROBES      before, after
    COOKIE -                                                            put back, or somebody's since

It ends with the boot, as the sockets do; so it is written, but not forced to the disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from keepaliveD.errors import StateError
from keepaliveD.model import Armed, Keepalive, SocketKeepalive
from keepaliveD.sockets import Column

FILE = "armed"
WORDS = 10  # of a line about a socket that is armed
LEFT = "-"
SPARE = 1000  # lines about sockets that are gone, before they are cleared away


class Ledger:
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

    def keep(self, armed: Sequence[Armed]) -> None:
        """Record these, before they are set. Raises StateError.

        Of a socket that still stands as it was armed before, what stood there first is kept.
        """
        if armed:
            with self._locked() as file:
                records = [self._since_the_first(each) for each in armed]
                self._append(file, "".join(map(_line, records)))
                self._armed.update({each.cookie: each for each in records})
                self._mine.update(each.cookie for each in records)
                self._left.difference_update(each.cookie for each in records)

    def leave(self, cookies: Iterable[int]) -> None:
        """Record that these were put back, or are somebody else's since. Raises StateError."""
        if gone := list(cookies):
            with self._locked() as file:
                self._append(file, "".join(f"{cookie} {LEFT}\n" for cookie in gone))
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
        lines = [*map(_line, self._armed.values()), *(f"{cookie} {LEFT}\n" for cookie in self._left)]
        new = self._file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(self._heading + "".join(lines), encoding="ascii")
        new.replace(self._file)

    def _since_the_first(self, new: Armed) -> Armed:
        old = self._armed.get(new.cookie)
        return dataclasses.replace(new, before=old.before) if old and old.after == new.before else new

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
            self._learn(line.split())
        self._read_from = (status.st_ino, known + len(whole))

    def _learn(self, words: list[str]) -> None:
        """What is neither kind of line says nothing."""
        with contextlib.suppress(ValueError, IndexError):
            cookie = int(words[0])
            if not 0 <= cookie < 1 << 64:
                return
            if len(words) == WORDS:
                inode, *numbers = map(int, words[1:])
                self._armed[cookie] = Armed(cookie, inode, _keepalive(numbers[:4]), _keepalive(numbers[4:]))
                self._left.discard(cookie)
            elif words[1:] == [LEFT]:
                self._armed.pop(cookie, None)
                self._left.add(cookie)

    @contextlib.contextmanager
    def _reporting(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"{self._file}: cannot be {verb}: {error.strerror}; without a record no socket is touched"
            ) from error


def _line(armed: Armed) -> str:
    return f"{armed.cookie} {armed.inode} {_words(armed.before)} {_words(armed.after)}\n"


def _words(keepalive: SocketKeepalive) -> str:
    times = keepalive.times
    return f"{int(keepalive.on)} {times.idle} {times.interval} {times.probes}"


def _keepalive(numbers: list[int]) -> SocketKeepalive:
    on, idle, interval, probes = numbers
    return SocketKeepalive(bool(on), Keepalive(idle, interval, probes))
