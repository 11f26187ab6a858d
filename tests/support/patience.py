"""Waiting on a machine that is busy, or that stands still for seconds."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

SOON = 120.0  # seconds in which a busy machine manages what takes an idle one a moment
STALL = 10.0  # seconds for which a machine may stand still
TICK = 0.01  # seconds


def served() -> float:
    """A clock that stands still while this thread waits for a processor that others have: seconds."""
    waited = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]
    return time.monotonic() - int(waited) / 1e9


def ending(pid: int) -> tuple[float, float]:
    """How long a child takes to end, and for how long of that the machine, which is busy, gave it no processor, or us.

    A machine that stands still gives nobody one, and no process has waited for one then. Raises TimeoutError.
    """
    begin, before, overslept = time.monotonic(), unserved(pid), 0.0
    after = dict(before)
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > begin + SOON:
            raise TimeoutError(f"it had not ended within {SOON:.0f} s")
        after |= unserved(pid)
        overslept += pause(TICK)
    return time.monotonic() - begin, max(overslept, sum(after.values()) - sum(before.values()))


def pause(seconds: float) -> float:
    """Sleep for so long; return for how many seconds more the machine had nothing for us."""
    begin = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begin - seconds


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is so, or is not soon."""
    begin = time.monotonic()
    while not condition() and time.monotonic() < begin + SOON:
        time.sleep(TICK)


def has_ended(process: int) -> bool:
    """Whether the process behind this pidfd ends soon; the descriptor is closed."""
    try:
        return bool(select.select([process], [], [], SOON)[0])
    finally:
        os.close(process)


def unserved(pid: int) -> dict[str, float]:
    """How long each thread of it, its workers and its tracer has waited for a processor, in seconds (schedstat)."""
    waited = {}
    for process in (*family(pid), *tracers(pid)):
        with contextlib.suppress(OSError):  # it has ended, or one of its threads has
            for thread in Path(f"/proc/{process}/task").iterdir():
                waited[thread.name] = int((thread / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    return waited


def family(pid: int) -> list[int]:
    """Return a daemon and its workers; it may have ended."""
    with contextlib.suppress(OSError):
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())]
    return [pid]


def tracers(pid: int) -> list[int]:
    """Return who traces this process, without whom it does not go on (TracerPid, proc(5)); it may have ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        return [tracer for line in status.splitlines() if line.startswith("TracerPid:") and (tracer := int(line[10:]))]
    return []
