"""Lock a file for this process alone, and do not wait for long: whoever has it locked may have been stopped."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from keepaliveD.model.text import printable

LOCKS = Path("/proc/locks")
AGAIN = 0.005  # seconds between two tries
PATIENCE = 0.25  # seconds for all that /proc/locks says
PAGE = 1 << 12  # octets: the kernel gives no more of it at once
FEW = 16  # pages, of 80 locks each, that are read in any case, however little of the processor we get


def lock(file: int, patience: float) -> None:
    """Lock an open file. Raises BlockingIOError that names who has it locked, after `patience` seconds."""
    give_up = time.monotonic() + patience
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= give_up:
            said = f"{_holder(os.fstat(file))} has it locked; wait until that ends, or end it, and try again"
            raise BlockingIOError(errno.EWOULDBLOCK, said)
        time.sleep(AGAIN)


def _holder(status: os.stat_result) -> str:
    """Return the process that has a file locked by flock(2), as far as it can be seen from here."""
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for words in listed(LOCKS):
            if words[1:2] == ["FLOCK"] and words[5:6] == [file]:
                return _named(words[4])
    return "another process"


def listed(locks: Path) -> Iterator[list[str]]:
    """Yield the words of each line of /proc/locks, as 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF.

    Raises OSError; TimeoutError where that takes long: anybody may hold locks of fcntl(2) without number, and for each
    page the kernel counts all of them before it.
    """
    give_up = time.monotonic() + PATIENCE
    begun = b""
    with open(locks, "rb", buffering=0) as file:
        for page in itertools.count():
            if not (octets := file.read(PAGE)):
                return
            *lines, begun = (begun + octets).split(b"\n")
            for line in lines:
                yield line.decode("ascii", "replace").split()
            if page >= FEW and time.monotonic() >= give_up:
                raise TimeoutError(errno.ETIMEDOUT, f"{locks} is too long to be read in time")


def _named(pid: str) -> str:
    try:
        name = Path("/proc", pid, "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it has ended, or is in a PID namespace that cannot be seen from here
        return f"process {pid}"
    return f"process {pid} ({printable(name)})"
