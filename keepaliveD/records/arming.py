"""Which sockets were armed, and what stood there before: known to the next daemon and to keepalivectl.

A text file of one line a socket, to which is only appended, so that nothing is lost by kill -9:

    tcp-keepalived armed 2 BOOT
    COOKIE  ON IDLE INTERVAL PROBES  ON IDLE INTERVAL PROBES  INHERITED  CHECK      before, after
    COOKIE -  CHECK                                                                 put back, or somebody's since
    COOKIE 0  CHECK                                                                 not set after all

INHERITED is a sum: of the three before, the socket took 1 its idle time, 2 its interval, 4 its number of
probes from its network namespace. CHECK is a checksum of the boot and the line (CRC-32, hexadecimal): a line
that was damaged says nothing, and a damaged heading spoils no line. Format 1, of earlier versions, has
neither; it is read, and rewritten before anything is added. A damaged file is copied aside before that.
The record ends with the boot, as the sockets do; so it is written, but not forced to the disk.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import functools
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from keepaliveD.model.errors import NotPermitted, Refusal, StateError
from keepaliveD.model.keepalive import Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, Mark
from keepaliveD.model.sockets import Column
from keepaliveD.records.directory import StateDirectory
from keepaliveD.records.files import open_new, open_own

FILE = "armed"
TIMES = 8  # words of what stood there and what was set
SAMPLE = 8  # lines of which one is good enough to tell that a strange heading is a damaged one
SPREAD = 0x9E3779B1  # odd, of about as many ones as zeros
LARGEST = 1 << 27  # octets, of some two million sockets
SPARE = 1000  # lines about sockets that are gone, before they are cleared away
START = "tcp-keepalived armed "  # of the heading, in every format
ANY_HEADING = re.compile(START + r"[0-9]+ ([0-9A-Za-z-]+)\n")
CUT_HEADING = re.compile(START + r"[0-9]+( [0-9A-Za-z-]*)?")


Entry = Armed | Mark
MARKS = {mark.value: mark for mark in Mark}


class Whose(enum.Enum):
    """Who armed the sockets that are recorded."""

    OURS = "this process"
    EARLIER = "a program of ours, at connect"
    OTHERS = "whoever had recorded it before: it is put back"


class ArmingRecord:
    """The record in `directory`; several processes may use it at once."""

    def __init__(self, directory: Path, boot: str) -> None:
        self._directory = StateDirectory(directory)
        self._file = directory / FILE
        self._boot = boot
        self._heading = f"tcp-keepalived armed 2 {boot}\n"
        self._earlier_heading = f"tcp-keepalived armed 1 {boot}\n"
        self._checks = _Checks(boot)
        self._outdated = False  # whether the file has another heading, and is to be rewritten
        self._is_no_record = False  # whether it has neither heading nor lines
        self._damaged_lines = 0
        self._entries: dict[int, Entry] = {}
        self._ours: dict[int, bool] = {}  # what this object recorded as armed: whether nobody had armed it before
        self._read_from = (0, 0)  # inode of the file, and how much of it is known

    def entries(self) -> dict[int, Entry]:
        """What is recorded, by cookie, whoever did it. Raises StateError."""
        self._look()
        return dict(self._entries)

    def armed(self) -> dict[int, Armed]:
        """Those that are armed. Raises StateError."""
        return {cookie: entry for cookie, entry in self.entries().items() if isinstance(entry, Armed)}

    def left_alone(self) -> set[int]:
        """Cookies of those that were put back, or that somebody has set since. Raises StateError."""
        return {cookie for cookie, entry in self.entries().items() if entry is Mark.LEFT_ALONE}

    def armed_here(self) -> Mapping[int, bool]:
        """What was armed through this object, by cookie: whether nobody had armed it before."""
        return self._ours

    def replaced(self, written: Mapping[int, Entry]) -> dict[int, Entry]:
        """What others have recorded in place of what was written, by cookie. Raises StateError."""
        self._look()
        stands = self._entries.get
        return {
            cookie: stands(cookie, Mark.NOT_ARMED) for cookie, entry in written.items() if stands(cookie) is not entry
        }

    def write(
        self, new: Mapping[int, Entry], expected: Mapping[int, Entry] | None = None, whose: Whose = Whose.OURS
    ) -> set[int]:
        """Record these, by cookie, and return those that were left out: they are not as `expected` any more.

        What is expected are the very objects that entries() returned or that were written: an equal entry of
        another process is another one. Without it nothing is left out. Raises StateError, NotPermitted.
        """
        if not new:
            return set()
        with self._locked() as file:
            moved = self._moved(new, expected) if expected is not None else set()
            if moved:
                new = {cookie: entry for cookie, entry in new.items() if cookie not in moved}
            self._append(file, self._lines(new))
            self._remember(new, whose)
        return moved

    def damaged(self) -> tuple[str, ...]:
        """A line for each damaged file: what it is, and what to do. Raises NotPermitted, StateError."""
        self._look()
        kept = [self._advice(name, "kept aside") for name in self._directory.kept_aside(FILE)]
        return (self._advice(FILE, self._reason), *kept) if self._reason else tuple(kept)

    def set_aside(self) -> tuple[str, ...]:
        """Keep a damaged file aside, and go on with what it says for certain. Return what damaged() does.

        Raises NotPermitted, StateError.
        """
        self._look()
        if self._reason:
            with contextlib.suppress(Refusal), self._locked():  # else it stays where it is, and is reported there
                pass
        return self.damaged()

    def forget_left_alone(self) -> None:
        """Whoever comes next may arm them again. Raises StateError."""
        if self.left_alone():
            with self._locked():
                self._entries = {cookie: each for cookie, each in self._entries.items() if each is not Mark.LEFT_ALONE}
                self._rewrite()

    def tidy(self, alive: Column) -> None:
        """Clear away what we recorded about none of these cookies (an array), once it is much. Raises StateError.

        What others recorded may be about sockets that we do not look at.
        """
        if len(self._ours) <= 2 * len(alive) + SPARE:
            return
        with self._locked():
            for cookie in self._ours.keys() - set(alive.tolist()):
                del self._ours[cookie]
                self._entries.pop(cookie, None)
            self._rewrite()

    @property
    def _reason(self) -> str:
        """Why the file is damaged, or nothing."""
        if self._is_no_record:
            return "it has no heading of this version"
        are = "is" if self._damaged_lines == 1 else "are"
        return f"{self._damaged_lines} of its lines {are} damaged" if self._damaged_lines else ""

    def _advice(self, name: str, reason: str) -> str:
        return (
            f"{self._directory.path / name}: damaged arming record ({reason}): sockets that only it names stay armed "
            "until they are closed; after that, or after a reboot, remove the file"
        )

    def _copy_aside(self) -> None:
        """Keep what is there now. A copy, so that the record is there at every moment."""
        copy = self._directory.path / self._directory.free_aside(FILE)
        try:
            with open(open_own(self._file, os.O_RDONLY), "rb") as file, open(open_new(copy), "wb") as kept:
                shutil.copyfileobj(file, kept)
        except OSError:
            with contextlib.suppress(OSError):  # half of it only takes room
                copy.unlink(missing_ok=True)
            raise

    def _rewrite(self) -> None:
        if self._reason:
            self._copy_aside()
        new = self._file.with_suffix(".new")
        with open(open_new(new), "w", encoding="ascii") as file:
            file.write(self._heading + self._lines(self._entries))
        new.replace(self._file)

    def _moved(self, new: Iterable[int], expected: Mapping[int, Entry]) -> set[int]:
        """Those of which something else is recorded than expected; no word is the same as NOT_ARMED."""
        stands, before = self._entries.get, expected.get
        return {cookie for cookie in new if stands(cookie, Mark.NOT_ARMED) is not before(cookie, Mark.NOT_ARMED)}

    def _remember(self, new: Mapping[int, Entry], whose: Whose) -> None:
        if whose is Whose.OTHERS:
            for cookie in new:
                self._ours.pop(cookie, None)
        else:
            before, ours, first = self._entries.get, self._ours.get, whose is Whose.OURS
            self._ours.update(
                {
                    cookie: ours(cookie, False) or (first and not isinstance(before(cookie), Armed))
                    for cookie, entry in new.items()
                    if isinstance(entry, Armed)
                }
            )
        self._entries.update(new)
        for cookie in [cookie for cookie, entry in new.items() if entry is Mark.NOT_ARMED]:
            self._entries.pop(cookie)
            self._ours.pop(cookie, None)

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
            open(open_own(self._file, os.O_RDONLY), "rb") as file,
        ):
            self._catch_up(file.fileno())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, for us alone, and all that others wrote into it known."""
        with self._reporting("written"):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                file = open_own(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    if os.fstat(file).st_ino != os.lstat(self._file).st_ino:
                        continue  # replaced while we waited
                    self._catch_up(file)
                    if self._outdated or self._reason:
                        self._rewrite()
                        continue
                    yield file
                    return
                finally:
                    os.close(file)

    def _catch_up(self, file: int) -> None:
        """Learn the lines that were added since the last time; all of them where it is another file."""
        inode, known = self._read_from
        status = os.fstat(file)
        if status.st_size > LARGEST:
            raise OSError(errno.EFBIG, f"it has {status.st_size} octets, more than this program writes; remove it")
        if status.st_ino != inode or status.st_size < known:
            self._entries, self._outdated, self._damaged_lines, known = {}, False, 0, 0
        text = os.pread(file, status.st_size - known, known).decode("ascii", "replace")  # a letter for each octet
        whole = text[: text.rfind("\n") + 1]  # the rest is read once it is a line
        lines = whole.split("\n")[:-1]
        heading = f"{lines.pop(0)}\n" if lines and not known else self._heading
        earlier = heading == self._earlier_heading
        strange = heading != self._heading and not earlier and not any(map(self._checks.hold, lines[:SAMPLE]))
        if not known:
            self._is_no_record = not (self._is_of_another_boot(heading) if strange else whole or _is_begun(text))
        if strange:
            lines, whole = [], ""
        for line in lines:
            try:
                cookie, words = _earlier_words(line) if earlier else self._checks.words(line)
                self._learn(cookie, MARKS.get(words) or _read(words))
            except ValueError:
                self._damaged_lines += 1
        self._outdated = self._outdated or (heading != self._heading and bool(whole))
        self._read_from = (status.st_ino, known + len(whole))

    def _is_of_another_boot(self, heading: str) -> bool:
        """Whether all that this heading stands above is of sockets that are gone, whatever its format."""
        found = ANY_HEADING.fullmatch(heading)
        return found is not None and found[1] != self._boot

    def _learn(self, cookie: int, entry: Entry) -> None:
        """No word of a socket is the same as NOT_ARMED."""
        if entry is Mark.NOT_ARMED:
            self._entries.pop(cookie, None)
        else:
            self._entries[cookie] = entry

    def _lines(self, entries: Mapping[int, Entry]) -> str:
        """A line each. Most sockets share one object: to compare what these hold would take longer."""
        shared = {id(each): each for each in entries.values()}
        alike: dict[int, list[int]] = {one: [] for one in shared}
        for cookie, each in entries.items():
            alike[id(each)].append(cookie)
        return "".join([self._lines_of(cookies, _words(shared[one])) for one, cookies in alike.items()])

    def _lines_of(self, cookies: Iterable[int], words: str) -> str:
        return "".join(_lines(cookies, words, self._checks.of(words)))

    @contextlib.contextmanager
    def _reporting(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error, verb) from error

    def _refusal(self, error: OSError, verb: str) -> Refusal:
        problem = f"{self._file}: cannot be {verb}: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return NotPermitted(f"{problem}; run as root, or choose another --state-dir")
        return StateError(f"{problem}; no socket is touched without the arming record")


class _Checks:
    """Checksums of lines: of the boot, the words, and the cookie."""

    def __init__(self, boot: str) -> None:
        self._boot = zlib.crc32(boot.encode())

    def of(self, words: str) -> int:
        """That of the boot and the words, which many lines share."""
        return zlib.crc32(words.encode("ascii", "replace"), self._boot)

    def hold(self, line: str) -> bool:
        """Whether this is an undamaged line of this boot."""
        with contextlib.suppress(ValueError):
            return bool(self.words(line))
        return False

    def words(self, line: str) -> tuple[int, str]:
        """The cookie and the words of a line. Raises ValueError where its checksum is another."""
        first, _, rest = line.partition(" ")
        words = rest.rpartition(" ")[0]
        cookie = int(first)
        if [f"{line}\n"] != _lines([cookie], words, self.of(words)):
            raise ValueError(line)
        return cookie, words


def _lines(cookies: Iterable[int], words: str, check: int) -> list[str]:
    """A line each, with a checksum that also any change of the cookie's digits changes."""
    return [f"{cookie} {words} {(cookie * SPREAD ^ check) & 0xFFFFFFFF:08x}\n" for cookie in cookies]


def _is_begun(text: str) -> bool:
    """Whether it is nothing yet, or a heading that was cut, as by kill -9 in the first write."""
    return START.startswith(text) or CUT_HEADING.fullmatch(text) is not None


def _earlier_words(line: str) -> tuple[int, str]:
    """The same of format 1, which did not tell what was inherited. Raises ValueError."""
    first, _, words = line.partition(" ")
    cookie = int(first)
    if not 0 <= cookie < 1 << 64:
        raise ValueError(line)
    return cookie, words if words == Mark.LEFT_ALONE.value else f"{words} {Own.UNTOLD:d}"


def _words(entry: Entry) -> str:
    if isinstance(entry, Mark):
        return entry.value
    stood, ours = (f"{on:d} {times.idle} {times.interval} {times.probes}" for on, times in entry[:2])
    return f"{stood} {ours} {entry.inherited:d}"


@functools.lru_cache(maxsize=1024)  # most sockets stand as others do
def _read(words: str) -> Armed:
    """Its twin; raises ValueError."""
    *numbers, inherited = map(int, words.split())
    if len(numbers) != TIMES:
        raise ValueError(words)
    before, after = (SocketKeepalive(bool(on), Keepalive(*times)) for on, *times in (numbers[:4], numbers[4:]))
    return Armed(before, after, Own(inherited))
