"""What this process touches just now that belongs to others, and what it is not to touch.

A worker writes it into memory that it shares with the daemon, which so can tell where it hangs; elsewhere it is
written nowhere, and nothing is forbidden.
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


class Kind(enum.IntEnum):
    """What the number is of."""

    NOTHING = 0
    NAMESPACE = 1  # inode of a network namespace
    PROCESS = 2  # process id
    SOCKET = 3  # cookie


Touchable = tuple[Kind, int]


class Avoided(OSError):
    """It hung when it was last touched."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "it did not answer before")


class Touched(NamedTuple):
    """The last thing that was touched, and the how manieth it was: a process that goes on counts on."""

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
        self._avoided: Set[Touchable] = frozenset()

    def write_to(self, memory: mmap.mmap) -> None:
        """Write into this memory from now on."""
        self._memory = memory

    def avoid(self, what: Set[Touchable]) -> None:
        """Forbid now() for these, and for no others."""
        self._avoided = what

    def now(self, kind: Kind, number: int = 0) -> None:
        """Write down what is touched next. Raises Avoided where that is not to be touched."""
        if self._avoided and (kind, number) in self._avoided:
            raise Avoided
        if self._memory is not None:
            self._turn += 1
            TOUCHED.pack_into(self._memory, 0, self._turn, kind, number)

    def on(self) -> None:
        """Write down that the last thing goes on."""
        if self._memory is not None:
            self._turn += 1
            TURN.pack_into(self._memory, 0, self._turn)


_here = _Here()
write_to, avoid, now, on = _here.write_to, _here.avoid, _here.now, _here.on
