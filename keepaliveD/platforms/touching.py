"""Write down what this process touches that belongs to others, and refuse what it must not touch.

A worker writes it into memory that it shares with the daemon, so the daemon knows where the worker hangs. Other
processes write it nowhere, and may touch everything.
"""

from __future__ import annotations

import enum
import errno
import mmap
import struct
from collections.abc import Set
from typing import NamedTuple

TOUCHED = struct.Struct("=QQQ")  # turn, kind, number
TURN = struct.Struct("=Q")
WORKER = b"keepaliveD-work"  # the name of a worker process, 15 bytes at most; in worker.h is its twin


class Kind(enum.IntEnum):
    """The kind of object that the number identifies."""

    NOTHING = 0
    NAMESPACE = 1  # inode of a network namespace
    PROCESS = 2  # process id
    SOCKET = 3  # cookie
    LOCKS = 4  # inode of a network namespace whose sockets are locked, one after the other


Touchable = tuple[Kind, int]


class MustNotTouch(OSError):
    """Raised for an object at which a worker hung before."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "it did not answer before")


class Touched(NamedTuple):
    """The object touched last, and a count that grows as long as the process makes progress."""

    turn: int
    kind: Kind
    number: int


def share() -> mmap.mmap:
    """Return memory that a process made by fork(2) shares with this one."""
    return mmap.mmap(-1, TOUCHED.size)


def read(memory: mmap.mmap) -> Touched:
    """Return what was last written there."""
    turn, kind, number = TOUCHED.unpack_from(memory, 0)
    return Touched(turn, Kind(kind), number)


class _Here:
    """This process."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._turn = 0
        self._last: Touchable = (Kind.NOTHING, 0)
        self._avoided: Set[Touchable] = frozenset()
        self._at_home: Touchable | None = None
        self._careful = False

    def write_to(self, memory: mmap.mmap | None) -> None:
        """Write what is touched into this memory from now on, or nowhere."""
        self._memory = memory

    def be_at_home(self, netns: int) -> None:
        """Have await_locks() never refuse this network namespace for its own sake."""
        self._at_home = (Kind.NAMESPACE, netns)

    def avoid(self, what: Set[Touchable], *, careful: bool = False) -> None:
        """Have now() refuse these objects, and no others; if `careful`, await_locks() refuses all but what is ours."""
        self._avoided, self._careful = what, careful

    def now(self, kind: Kind, number: int = 0) -> None:
        """Write down what is touched next. Raises MustNotTouch if it must not be touched."""
        if self._avoided and (kind, number) in self._avoided:
            raise MustNotTouch
        self._last = (kind, number)
        if self._memory is not None:
            self._turn += 1
            TOUCHED.pack_into(self._memory, 0, self._turn, kind, number)

    def last(self) -> Touchable:
        """Return what was touched last."""
        return self._last

    def await_locks(self, netns: int, kind: Kind = Kind.NAMESPACE) -> None:
        """Write down a network namespace whose sockets are locked next, one after the other: that may take for ever.

        `kind` is LOCKS for who can do without, as all others do there. Raises MustNotTouch if it must not be touched.
        """
        if self._careful and (Kind.NAMESPACE, netns) != self._at_home:
            raise MustNotTouch
        self.now(kind, netns)

    def on(self) -> None:
        """Write down that work on the last object goes on."""
        if self._memory is not None:
            self._turn += 1
            TURN.pack_into(self._memory, 0, self._turn)


_here = _Here()
write_to, avoid, be_at_home = _here.write_to, _here.avoid, _here.be_at_home
now, last, await_locks, on = _here.now, _here.last, _here.await_locks, _here.on
