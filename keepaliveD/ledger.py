"""Which sockets were armed, and what stood there before: known to the next daemon and to keepalivectl.

A text file of one line a socket, to which is only appended, so that nothing is lost by kill -9:

    tcp-keepalived armed 1 BOOT
    COOKIE INODE  ON IDLE INTERVAL PROBES  ON IDLE INTERVAL PROBES      before, after
    COOKIE -                                                            put back

It ends with the boot, as the sockets do; so it is written, but not forced to the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from keepaliveD.errors import StateError
from keepaliveD.model import Armed, Column, Keepalive, SocketKeepalive

FILE = "armed"
WORDS = 10  # of a line about a socket
SPARE = 1000  # lines about sockets that are gone, before they are cleared away


class Ledger:
    """The record in `directory`; several processes may use it at once."""

    def __init__(self, directory: Path, boot: str) -> None:
        self._file = directory / FILE
        self._heading = f"tcp-keepalived armed 1 {boot}\n"
        self._armed: dict[int, Armed] = {}
        self._read_from = (0, 0)  # inode of the file, and how much of it is known

    def armed(self) -> dict[int, Armed]:
        """What is armed, by cookie, whoever did it. Raises StateError."""
        with (
            self._reporting("read"),
            contextlib.suppress(FileNotFoundError),
            open(self._file, encoding="ascii") as file,
        ):
            self._catch_up(file.fileno())
        return self._armed

    def keep(self, armed: Sequence[Armed]) -> None:
        """Record these, before they are set. Raises StateError."""
        self._append("".join(map(_line, armed)))
        self._armed.update({one.cookie: one for one in armed})

    def forget(self, cookies: Iterable[int]) -> None:
        """Record that these were put back, or are gone. Raises StateError."""
        gone = list(cookies)
        self._append("".join(f"{cookie} -\n" for cookie in gone))
        for cookie in gone:
            self._armed.pop(cookie, None)

    def tidy(self, alive: Column) -> None:
        """Clear away what is about none of these cookies (an array), once it is much. Raises StateError."""
        if len(self._armed) <= 2 * len(alive) + SPARE:
            return
        with self._locked():
            still = set(alive.tolist())
            self._armed = {cookie: armed for cookie, armed in self._armed.items() if cookie in still}
            new = self._file.with_suffix(".new")
            new.write_text(self._heading + "".join(map(_line, self._armed.values())), encoding="ascii")
            new.replace(self._file)

    def _append(self, text: str) -> None:
        """Write these lines, which the caller has learnt already."""
        if not text:
            return
        with self._locked() as file:
            known = self._read_from[1]
            if not known:  # new, or of another boot
                os.ftruncate(file, 0)
                text = self._heading + text
            elif known < os.fstat(file).st_size:  # somebody was killed in the middle of a line
                text = "\n" + text
            os.write(file, text.encode("ascii"))
            self._read_from = (os.fstat(file).st_ino, os.fstat(file).st_size)

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
            self._armed, known = {}, 0
        text = os.pread(file, status.st_size - known, known).decode("ascii", "replace")
        whole = text[: text.rfind("\n") + 1]  # a line that is being written is read next time
        if known == 0 and not whole.startswith(self._heading):
            self._read_from = (status.st_ino, 0)
            return
        for line in whole.splitlines():
            self._learn(line.split())
        self._read_from = (status.st_ino, known + len(whole))

    def _learn(self, words: list[str]) -> None:
        """Whatever else a line holds, such as one that was begun and never finished, says nothing."""
        with contextlib.suppress(ValueError):
            if len(words) == WORDS:
                cookie, inode, *numbers = map(int, words)
                self._armed[cookie] = Armed(cookie, inode, _keepalive(numbers[:4]), _keepalive(numbers[4:]))
            elif words[1:] == ["-"]:
                self._armed.pop(int(words[0]), None)

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
