"""Which process holds a socket, and under which descriptor.

The kernel knows no way from a socket to its holders. Reading every process's descriptors is far
dearer than the netlink dump itself, so it is done only for the sockets that are asked for, in one
pass for all of them, and what was found is remembered. A pass ends when its time is up: the next one
goes on where it ended, so that nobody's descriptors keep others from being read. The processes that are
likely to hold sockets of one unit have a share of the time, so that no unit takes that of the others.
Where BPF may be used, likely holders are read for a moment, and then the kernel goes over all open files: in 0.4 us
each, where /proc takes 4.5. However many there are, that takes a twentieth of the time at most.
"""

from __future__ import annotations

import bisect
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from keepaliveD.model import requirements
from keepaliveD.model.errors import KernelError, NoAnswer, NoInput, NotPermitted, Refusal, is_shortage
from keepaliveD.platforms import processes, touching
from keepaliveD.platforms.linux.owners import descriptors

CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h
MOST = 20_000  # holders remembered; then all are forgotten, some 3 MB
MOST_UNITS = 1_000  # whose turns are remembered; then all are forgotten
FIRST, LATER = 1.0, 0.25  # seconds for likely holders, and as many for all others; the first pass finds the most
MOMENT = 0.05  # seconds for likely holders where the kernel goes over all open files, which may take as long
REST = 19  # times as long as the kernel worked it is not asked again
ALL_OF_THEM = 10.0  # seconds for all processes whose sockets are asked for together
SLICE = 4  # parts of a process's descriptors that are read at a time


class Holder(NamedTuple):
    """A process, and its number for the socket."""

    pid: int
    fd: int


class Likely(NamedTuple):
    """Sockets of one unit, and the processes that are likely to hold them."""

    unit: str
    inodes: Collection[int]
    pids: Collection[int]


class Holders:
    """Finds the processes that own sockets, below `root`.

    `in_kernel` finds processes and their numbers for sockets by their inodes; it raises Refusal.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        in_kernel: Callable[[Collection[int]], Mapping[int, tuple[int, int]]] | None = None,
    ) -> None:
        self._root = root
        self._in_kernel = in_kernel
        self._rests_until = 0.0
        self._known: dict[int, Holder] = {}
        self._limit = FIRST
        self._of_unit: dict[str, _Turns] = {}
        self._all = _Turns()
        self.barred = False  # whether the last search was kept from looking into some process
        self.shortage: OSError | None = None  # why it could not look into some process that it may look into

    def known(self, inode: int) -> Holder | None:
        """Return the holder last found: it may have closed the socket since, or ended."""
        return self._known.get(inode)

    def find(self, inodes: Iterable[int], likely: Collection[Likely] = ()) -> dict[int, Holder]:
        """Return the holder of each socket inode, as far as this process may look, and as time allows.

        Processes that are `likely` to hold them are looked at first, and the others only if that
        leaves any open; of several that hold one, the lowest number counts.
        """
        self.barred, self.shortage = False, None
        wanted = {inode for inode in inodes if inode}  # an orphan has inode 0
        found = self._still_held(wanted)
        limit = MOMENT if self._in_kernel else self._limit
        for unit, its, pids in likely:
            if missing := {inode for inode in its if inode and inode not in found}:
                self._seek(_Sought(wanted, missing, found), pids, self._turns_of(unit), limit / len(likely))
        if len(found) < len(wanted):
            self._seek_everywhere(_Sought(wanted, wanted - found.keys(), found))
        self._limit = LATER
        if len(self._known) + len(found) > MOST:
            self._known.clear()
        self._known |= found
        return found

    def find_another(self, inodes: Collection[int]) -> None:
        """Look for another holder of each of these sockets than the one last found, which may hold another one by now.

        Where there is no other, the one last found stays known. A process that moves its connections to one descriptor
        in turn is found under the one at which each of them stays.
        """
        past = {inode: holder for inode in inodes if (holder := self._known.get(inode))}
        found: dict[int, Holder] = {}
        sought = _Sought(set(past), set(past), found, past)
        self._seek(sought, {holder.pid for holder in past.values()}, _Turns(), self._limit)
        if sought.missing:
            self._seek_everywhere(sought)
        self._known |= found

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        """Return the inodes of the sockets that each process holds, and remember them; else why they are not known.

        All are asked at once, for ALL_OF_THEM at most: who hangs costs no time of its own.
        """
        there = [pid for pid in pids if os.path.isdir(f"{self._root}/proc/{pid}")]
        until = time.monotonic() + ALL_OF_THEM
        answers = processes.ask(there, lambda pid: self._sockets(pid, until), processes.PATIENCE)
        held: dict[int, frozenset[int] | Refusal] = {}
        for pid in pids:
            kind: type[Refusal] = NoInput
            why = "does not exist"
            match answers.get(pid):
                case dict() as its:
                    self._known |= its
                    held[pid] = frozenset(its)
                    continue
                case PermissionError():
                    kind, why = NotPermitted, f"not permitted: run as root, or with {requirements.OWNERS.named}"
                case TimeoutError():
                    kind, why = NoAnswer, f"not asked in time: to ask all takes longer than {ALL_OF_THEM:g}s"
                case None if pid in there and processes.hangs(pid):
                    kind, why = NoAnswer, "hangs in execve(2); end it with SIGKILL"
                case None if pid in there:
                    kind, why = NoAnswer, "not asked: too many other processes hang; end these with SIGKILL"
            held[pid] = kind(f"process {pid}: {why}")
        return held

    def _sockets(self, pid: int, until: float) -> dict[int, Holder] | OSError:
        """Return the sockets of a process, or why they cannot be seen: TimeoutError where it is too late."""
        held: dict[int, Holder] = {}
        try:
            for part in descriptors.parts(_descriptors(self._root, pid)):
                if part.sockets and _is_worker(self._root, pid):
                    return {}
                if time.monotonic() > until:
                    return TimeoutError()
                held |= {inode: Holder(pid, fd) for fd, inode in part.sockets}
                processes.go_on()
        except OSError as error:
            return error
        return held

    def _find_in_kernel(self, wanted: set[int], found: dict[int, Holder]) -> bool:
        """Add the wanted sockets that any process has open; return whether the kernel could be asked."""
        if self._in_kernel is None or time.monotonic() < self._rests_until:
            return False
        began = time.thread_time()  # on a busy machine a pass lasts as long as others have their turn
        try:
            held = self._in_kernel(wanted - found.keys())
        except KernelError:
            return False
        except Refusal:
            self._in_kernel = None
            return False
        self._rests_until = time.monotonic() + REST * (time.thread_time() - began)
        found |= {inode: Holder(*holder) for inode, holder in held.items()}
        self.barred, self.shortage = False, None
        return True

    def _turns_of(self, unit: str) -> _Turns:
        if len(self._of_unit) >= MOST_UNITS and unit not in self._of_unit:
            self._of_unit.clear()
        return self._of_unit.setdefault(unit, _Turns())

    def _seek_everywhere(self, sought: _Sought) -> None:
        """Seek in the kernel where it may be asked, else in all processes."""
        if not self._find_in_kernel(sought.wanted, sought.found):
            import psutil  # not where those who are likely to hold them do

            self._seek(sought, psutil.pids(), self._all, self._limit)

    def _seek(self, sought: _Sought, pids: Iterable[int], turns: _Turns, limit: float) -> None:
        """Seek among the descriptors of these processes until none is missing, for at most so many seconds."""
        until = time.monotonic() + limit
        order = turns.begin(pids)
        while order and sought.missing and not turns.are_over:
            search = _Round(sought, turns, until, self._root)
            processes.ask(order, search.read_descriptors)
            self.barred = self.barred or search.barred
            self.shortage = self.shortage or search.shortage
            order = [pid for pid in search.begun if turns.goes_on_with(pid)]

    def _still_held(self, wanted: Iterable[int]) -> dict[int, Holder]:
        """Return the sockets whose holder is known and still holds them."""
        mine: dict[int, list[tuple[int, Holder]]] = defaultdict(list)
        for inode in wanted:
            if holder := self._known.get(inode):
                mine[holder.pid].append((inode, holder))

        def held(pid: int) -> dict[int, Holder]:
            return {inode: holder for inode, holder in mine[pid] if self._holds(holder, inode)}

        return {inode: holder for its in processes.ask(mine, held).values() for inode, holder in its.items()}

    def _holds(self, holder: Holder, inode: int) -> bool:
        processes.go_on()
        try:
            return os.readlink(f"{_descriptors(self._root, holder.pid)}/{holder.fd}") == f"socket:[{inode}]"
        except OSError:
            return False


@dataclass(slots=True)
class _Sought:
    """Sockets by their inodes: those that are `wanted`, those that the search goes on for, and the holders `found`.

    A holder that was found in the `past` does not count.
    """

    wanted: set[int]
    missing: set[int]
    found: dict[int, Holder]
    past: Mapping[int, Holder] = field(default_factory=dict)

    def see(self, inode: int, holder: Holder) -> None:
        """Note that a process holds this socket, which is wanted: the first one counts."""
        if self.past.get(inode) != holder:
            self.found.setdefault(inode, holder)
            self.missing.discard(inode)


class _Turns:
    """The process whose descriptors are read next, and from which number on. A pass goes on where the last one ended.

    Of each process a slice is read, then of the next one: however many descriptors some have, soon it is
    the turn of those that have few.
    """

    def __init__(self) -> None:
        self.are_over = False
        self._next = 0
        self._rest: dict[int, int] = {}  # by process, the first number that was not read
        self._whole: set[int] = set()  # processes that were read from the first number on in this pass
        self._large: dict[str, list[int]] = {}  # by user, those with more than a part, each with a table of its own

    def begin(self, pids: Iterable[int]) -> list[int]:
        """Return the processes in the order of this pass."""
        order = sorted(set(pids))
        first = bisect.bisect_left(order, self._next)
        self._rest = {pid: self._rest[pid] for pid in order if pid in self._rest}
        self.are_over, self._next, self._whole, self._large = False, 0, set(), {}
        return order[first:] + order[:first]

    def take(self, pid: int) -> int:
        """Return the number from which on this process is read."""
        first = self._rest.pop(pid, 0)
        if not first:
            self._whole.add(pid)
        return first

    def put_back(self, pid: int, first: int) -> None:
        """Remember to read from this number on the next time; 0 if all is read."""
        if first or pid not in self._whole:
            self._rest[pid] = first

    def goes_on_with(self, pid: int) -> bool:
        """Return whether there is more to read of this process in this pass."""
        return pid in self._rest

    def end(self, pid: int) -> None:
        """Begin the next pass with the process after this one."""
        self.are_over, self._next = True, pid + 1

    def shares(self, pid: int) -> bool:
        """Return whether another process of its user that is read in this pass has the same descriptors.

        Who asks waits for both of them, so of two users one would be blamed for what the other does.
        """
        large = self._large.setdefault(processes.user_of(pid), [])
        if pid in large:
            return False
        if any(descriptors.are_shared(pid, other) for other in large):
            return True
        large.append(pid)
        return False


class _Round:
    """Reads a slice of the descriptors of each process."""

    def __init__(self, sought: _Sought, turns: _Turns, until: float, root: Path) -> None:
        self.begun: list[int] = []
        self.barred = False
        self.shortage: OSError | None = None
        self._sought = sought
        self._turns = turns
        self._until = until
        self._root = root

    def read_descriptors(self, pid: int) -> None:
        """Read a slice of this process, unless none is missing any more."""
        if not self._sought.missing or self._turns.are_over:
            return
        self.begun.append(pid)
        try:
            self._read(pid, self._turns.take(pid))
        except OSError as error:  # it ended meanwhile, or ...
            self.barred = self.barred or isinstance(error, PermissionError)
            self.shortage = error if is_shortage(error) else self.shortage
        if time.monotonic() > self._until:
            self._turns.end(pid)

    def _read(self, pid: int, first: int) -> None:
        for number, part in enumerate(descriptors.parts(_descriptors(self._root, pid), first), 1):
            wanted = [each for each in part.sockets if each.inode in self._sought.wanted]
            if wanted and _is_worker(self._root, pid):
                return
            for fd, inode in wanted:
                self._sought.see(inode, Holder(pid, fd))
            processes.go_on()
            if not self._sought.missing or (part.after and self._turns.shares(pid)):
                return
            if part.after and (number == SLICE or time.monotonic() > self._until):
                self._turns.put_back(pid, part.after)
                return
        self._turns.put_back(pid, 0)


def _descriptors(root: Path, pid: int) -> str:
    return f"{root}/proc/{pid}/fd"


def _is_worker(root: Path, pid: int) -> bool:
    """Return whether this is a worker of ours, which has others' sockets open beside them.

    Anybody may take its name, but not the capability that it requires, in this user namespace.
    """
    process = f"{root}/proc/{pid}"
    try:
        with open(f"{process}/status", "rb") as file:
            name, *lines = file.read(4096).splitlines()
        if name != b"Name:\t" + touching.WORKER or not os.path.samefile(
            f"{process}/ns/user", f"{root}/proc/self/ns/user"
        ):
            return False
    except (OSError, ValueError):
        return False  # it ended
    permitted = next((line for line in lines if line.startswith(b"CapPrm:")), b"CapPrm: 0")
    return bool(int(permitted.split()[1], 16) & 1 << CAP_SYS_PTRACE)
