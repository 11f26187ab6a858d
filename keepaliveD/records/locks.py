"""Lock a file for this process alone, and do not wait for long: whoever has it locked may have been stopped."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from keepaliveD.model.text import printable

LOCKS = Path("/proc/locks")
AGAIN = 0.005  # seconds between two tries


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
        for line in LOCKS.read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
            if words[1:2] == ["FLOCK"] and words[5:6] == [file]:
                return _named(words[4])
    return "another process"


def _named(pid: str) -> str:
    try:
        name = Path("/proc", pid, "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it has ended, or is in a PID namespace that cannot be seen from here
        return f"process {pid}"
    return f"process {pid} ({printable(name)})"
