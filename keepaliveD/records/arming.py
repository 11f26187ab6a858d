"""Which sockets were armed, and what stood there before: known to the next daemon and to keepalivectl.

A text file of one line a socket (records/lines.py), to which is only appended, so that nothing is lost by kill -9.
One of an earlier version is read, and rewritten before anything is added. A damaged file is copied aside before that.
The record ends with the boot, as the sockets do; so it is written, but not forced to the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import TextIO

import numpy as np

from keepaliveD.model.errors import Busy, NotPermitted, Refusal, StateError, remedy
from keepaliveD.model.results import Armed, Entry, PutBack
from keepaliveD.model.sockets import Bools, Column, SocketTable
from keepaliveD.policy.arming.choices import Recorded
from keepaliveD.policy.arming.shared import are_among, shared
from keepaliveD.records.directory import StateDirectory, permitting
from keepaliveD.records.entries import LEFT_ALONE, NOTHING, Entries, Whose
from keepaliveD.records.files import open_new, open_own, why_strange
from keepaliveD.records.lines import PART, Lines, is_heading_begun, read_earlier
from keepaliveD.records.locks import lock

FILE = "armed"
PIECE = 1 << 16  # octets that are copied at a time
SAMPLE = 8  # lines of which one is good enough to tell that a strange heading is a damaged one
PATIENCE = 5.0  # seconds for which another process may have the record locked: rewriting a large one takes some
LARGEST = 1 << 27  # octets
FULL = LARGEST // 4 * 3  # octets, of some two million sockets: no more are armed, so that these can be disarmed
SPARE = 1000  # lines about sockets that are gone, before they are cleared away


class ArmingRecord:
    """The record in `directory`; several processes may use it at once.

    What writes raises Busy where another process has it locked for longer than `patience` seconds.
    """

    def __init__(self, directory: Path, boot: str, patience: float = PATIENCE) -> None:
        self._directory = StateDirectory(directory)
        self._file = directory / FILE
        self._patience = patience
        self._lines = Lines(boot)
        self._outdated = False  # whether the file has another heading, and is to be rewritten
        self._is_no_record = False  # whether it has neither heading nor lines
        self._is_strange = False  # whether it has a second name or another owner, so that nobody else may read it
        self._is_removed = False  # whether it is a new one that somebody made us begin, or was emptied
        self._damaged_lines = 0
        self._entries = Entries()
        self._read_from = (0, 0)  # inode of the file, and how much of it is known
        self._rewritten = (0, 0)  # the same of what we wrote anew: nothing can be left out there
        self._last = ""  # the line there, unless it is ours: who reads without the lock may read what is taken back
        self._held = -1  # that file
        self._let_go: Callable[[], object] = lambda: None  # of it

    def entries(self) -> dict[int, Entry]:
        """What is recorded, by cookie, whoever did it. Raises StateError."""
        self._look()
        return self._entries.all().by_cookie

    def armed(self) -> dict[int, Armed]:
        """Those that are armed. Raises StateError."""
        return {cookie: entry for cookie, entry in self.entries().items() if isinstance(entry, Armed)}

    def left_alone(self) -> set[int]:
        """Cookies of those that were put back, or that somebody has set since. Raises StateError."""
        self._look()
        rows = self._entries.rows
        return set(rows["cookie"][rows["entry"] == LEFT_ALONE].tolist())

    def armed_here(self, *, first: bool = False) -> Column:
        """Cookies of what was armed through this object; `first`: of what nobody had armed before."""
        rows = self._entries.rows
        cookies: Column = rows["cookie"][rows["here"] & (rows["first"] | (not first))]
        return cookies

    def known(self, cookies: Collection[int]) -> Recorded:
        """What is recorded of these sockets. Raises StateError."""
        self._look()
        rows = self._entries.of(cookies)
        return self._recorded(rows[rows["entry"] != NOTHING])

    def changed(self, cookies: Collection[int], since: int) -> Recorded:
        """What was recorded of these sockets since that turn, NOT_ARMED where that is nothing. Raises StateError."""
        self._look()
        return self._recorded(self._entries.changed(cookies, since))

    def _recorded(self, rows: Column) -> Recorded:
        return Recorded(self._entries.by_cookie(rows), rows["cookie"][rows["here"]], self.turn)

    @property
    def turn(self) -> int:
        """When this is, for write(): it grows with whatever is recorded."""
        return self._entries.turn

    def write(self, new: Mapping[int, Entry], since: int | None = None, whose: Whose = Whose.OURS) -> set[int]:
        """Record these, by cookie, and return those that were left out: others have recorded them `since` that turn.

        Without it nothing is left out. Raises StateError, NotPermitted.
        """
        if not new:
            return set()
        new = shared(new)
        arms = whose is Whose.OURS and any(isinstance(entry, Armed) for entry in new.kinds)
        with self._locked(self._lines.most_octets(new), FULL if arms else LARGEST) as file:
            moved = set() if since is None else set(self._entries.changed(new, since)["cookie"].tolist())
            if moved:
                new = new.part(~are_among(new.cookies, moved))
            self._append(file, self._lines.of(new))
            self._entries.put(new, whose)
        return moved

    def check_writable(self) -> None:
        """Raise StateError or NotPermitted where nothing could be recorded now."""
        with self._locked():
            pass

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

    def hand_over(self, table: SocketTable) -> None:
        """Forget what was left alone, so that whoever comes next may arm it, and what we recorded that has ended.

        Raises StateError.
        """
        self._look()
        if not self._are_to_hand_over(table).all():
            with self._locked():
                self._entries.keep(self._are_to_hand_over(table))
                self._rewrite()

    def _are_to_hand_over(self, table: SocketTable) -> Bools:
        are_known: Bools = (self._entries.rows["entry"] != LEFT_ALONE) & self._may_be_alive(table)
        return are_known

    def tend(self) -> str:
        """Write the file again if it was removed, or nobody else may read it; return which, or "".

        Raises StateError, NotPermitted, Busy.
        """
        with contextlib.suppress(Refusal):  # whoever needs it says so
            self._look()
        what = "got a second name or another owner" if self._is_strange else ""
        if self._knows_any() and (self._is_removed or not self._holds_something()):
            what = "was removed"
        if what:
            with self._locked():
                pass
        return what

    def _holds_something(self) -> bool:
        """Return whether there is a file that is not empty, or something else in its place."""
        try:
            return self._file.lstat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError:  # whoever reads or writes it says so
            return True

    def _knows_any(self) -> bool:
        return bool((self._entries.rows["entry"] != NOTHING).any())

    def tidy(self, table: SocketTable) -> None:
        """Clear away what we recorded about sockets that have ended by this scan, once it is much. Raises StateError.

        What others recorded may be about sockets that we do not look at.
        """
        self._entries.locate(table.sockets)
        if np.count_nonzero(self._are_to_be_seen(table)) <= 2 * len(table) + SPARE:
            return
        with self._locked():
            self._entries.keep(self._may_be_alive(table))
            self._rewrite()

    def missed(self, table: SocketTable) -> Column:
        """Return the cookies of armed sockets that are not in this scan although they may not have ended."""
        rows = self._entries.rows
        rows = rows[self._entries.are(Armed, rows["entry"]) & ~table.shows_ends(rows["netns"])]
        missed: Column = rows["cookie"][~np.isin(rows["cookie"], table.sockets["cookie"])]
        return missed

    def _are_to_be_seen(self, table: SocketTable) -> Bools:
        """Which rows are about what we recorded of sockets that have ended unless they are in this scan."""
        return self._are_ours() & table.shows_ends(self._entries.rows["netns"])

    def _may_be_alive(self, table: SocketTable) -> Bools:
        alive: Bools = np.isin(self._entries.rows["cookie"], table.sockets["cookie"])
        return alive | ~self._are_to_be_seen(table)

    def _are_ours(self) -> Bools:
        """Which rows are about what we recorded, or about what is not armed any more."""
        rows = self._entries.rows
        ours: Bools = rows["here"] | (rows["entry"] == NOTHING) | self._entries.are(PutBack, rows["entry"])
        return ours

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
            with open(self._open(os.O_RDONLY), "rb") as file, open(open_new(copy), "wb") as kept:
                kept.writelines(iter(functools.partial(file.read, PIECE), b""))
        except OSError:
            with contextlib.suppress(OSError):  # half of it only takes room
                copy.unlink(missing_ok=True)
            raise

    def _rewrite(self) -> None:
        if self._reason:
            self._copy_aside()
        new = self._file.with_suffix(".new")
        with open(open_new(new), "w", encoding="ascii") as file:
            file.write(self._lines.heading)
            file.writelines(self._lines.of(self._entries.all()))
        status = new.stat()
        self._rewritten = (status.st_ino, status.st_size)
        new.replace(self._file)

    def _append(self, file: int, parts: Iterable[str]) -> None:
        """All of it or nothing, in place of what is no whole line, or of another boot; the caller learns it."""
        inode, known = self._read_from
        os.ftruncate(file, known)
        end = known
        try:
            for part in parts if known else chain([self._lines.heading], parts):
                octets = part.encode("ascii")
                if os.write(file, octets) < len(octets):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                end += len(octets)
        except BaseException:  # whatever it is: lines that stay would be about sockets that nobody sets
            os.ftruncate(file, known)
            raise
        self._read_from, self._last = (inode, end), ""

    def _look(self) -> None:
        with (
            self._reporting("read"),
            contextlib.suppress(FileNotFoundError),
            open(self._open(os.O_RDONLY), "rb") as file,
        ):
            self._catch_up(file.fileno())

    def _open(self, flags: int) -> int:
        """Open the file, or what we hold of it: where it got a second name or another owner it is still ours."""
        try:
            return open_own(self._file, flags)
        except OSError as error:
            if error.errno == errno.EINVAL and self._is_held():
                again = os.dup(self._held)
                os.lseek(again, 0, os.SEEK_SET)  # both have one place, which is behind what was read
                return again
            raise

    def _is_held(self) -> bool:
        """Return whether the file is the one that we hold."""
        return self._held >= 0 and os.path.samestat(os.fstat(self._held), self._file.lstat())

    @contextlib.contextmanager
    def _locked(self, more: int = 0, most: int = LARGEST) -> Iterator[int]:
        """The file, for us alone, and all that others wrote into it known; with room for so many octets, of `most`."""
        with self._reporting("written"):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                file = self._open(os.O_RDWR | os.O_CREAT | os.O_APPEND)
                try:
                    lock(file, self._patience)
                    if os.fstat(file).st_ino != os.lstat(self._file).st_ino:
                        continue  # replaced while we waited
                    self._catch_up(file)
                    is_full = self._read_from[1] + more > most
                    is_longer = is_full and self._read_from != self._rewritten
                    if self._outdated or self._reason or self._is_removed or self._is_strange or is_longer:
                        self._rewrite()
                        continue
                    if is_full:
                        raise StateError(self._why_full())
                    yield file
                    return
                finally:
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_UN)  # what is held open (_hold) would keep it locked
                    os.close(file)

    def _catch_up(self, file: int) -> None:
        """Learn the lines that were added since the last time; all of them where it is another file, or has others."""
        inode, known = self._read_from
        status = os.fstat(file)
        if status.st_size > LARGEST:
            stays = "what only it names stays armed until it is closed"
            raise OSError(
                errno.EINVAL, f"it has {status.st_size} octets, more than this program writes; move it away ({stays})"
            )
        self._is_strange = bool(why_strange(status, self._file))
        self._is_removed = not status.st_size and self._knows_any()  # nobody of us leaves it empty
        if status.st_ino != inode or status.st_size < known or not self._stands(file, known):
            self._hold(file)
            self._outdated, self._damaged_lines, known, self._last = False, 0, 0, ""
        if status.st_size > known:
            with open(file, encoding="ascii", errors="replace", newline="\n", closefd=False) as reader:
                known = self._learn_all(reader) if not known else self._learn(reader, known, self._lines.read)
        self._read_from = (status.st_ino, known)

    def _stands(self, file: int, known: int) -> bool:
        """Return whether the line that was read last still stands there."""
        length = len(self._last)
        return os.pread(file, length, known - length).decode("ascii", "replace") == self._last

    def _hold(self, file: int) -> None:
        """Keep this file open: as long as it is, no other file gets its inode number, by which it is known."""
        held = os.dup(file)
        self._let_go()
        self._held = held
        self._let_go = let_go = weakref.finalize(self, os.close, held)
        let_go.atexit = False  # a process that was forked has closed it

    def _learn_all(self, reader: TextIO) -> int:
        """Learn the file from its heading on, if it is ours; return how much of it is known.

        What was known before stays known where somebody put something else in the place of the file, or damaged it.
        """
        heading = reader.readline()
        lines, earlier = self._lines, heading == self._lines.earlier_heading
        ours = heading == lines.heading or earlier or any(map(lines.is_whole, islice(reader, SAMPLE)))
        is_stale = lines.is_heading_of_another_boot if heading.endswith("\n") else is_heading_begun
        self._is_no_record = not (ours or is_stale(heading))
        if not ours:
            self._is_removed = self._knows_any()
            return 0
        before = self._entries.all()
        self._entries.take_back()
        self._outdated = heading != lines.heading
        known = self._learn(reader, len(heading), read_earlier if earlier else lines.read)
        if self._damaged_lines:
            self._entries.put(before.part(self._entries.of(before.cookies)["entry"] == NOTHING))
        return known

    def _learn(self, reader: TextIO, start: int, read: Callable[[str], tuple[int, Entry]]) -> int:
        """Learn the lines from there on; return where the last whole one ends: the rest is read once it is a line."""
        reader.seek(start)
        whole = takewhile(lambda line: line.endswith("\n"), reader)
        while lines := list(islice(whole, PART)):
            new: dict[int, Entry] = {}
            for line in lines:
                start += len(line)  # it has a letter for each octet
                try:
                    cookie, entry = read(line)
                except ValueError:
                    self._damaged_lines += 1
                else:
                    new[cookie] = entry
            self._entries.put(new)
            self._last = lines[-1]
        return start

    @contextlib.contextmanager
    def _reporting(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error, verb) from error

    def _why_full(self) -> str:
        return (
            f"{self._file}: is full, with {len(self._entries.all())} sockets: no more are armed until some of these "
            "are seen to have ended; to begin anew, stop tcp-keepalived, run keepalivectl disarm, and once that has "
            "disarmed all of them, remove the file"
        )

    def _refusal(self, error: OSError, verb: str) -> Refusal:
        if isinstance(error, BlockingIOError):
            return Busy(f"{self._file}: {error.strerror}; no socket is touched without the arming record")
        problem = f"{self._file}: cannot be {verb}: {error.strerror}{remedy(error)}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return NotPermitted(f"{problem}; {permitting(error, self._file, verb)}")
        return StateError(f"{problem}; no socket is touched without the arming record")
