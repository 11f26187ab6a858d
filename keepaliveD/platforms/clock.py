"""The clock of all instants, and the clock of a process."""

from __future__ import annotations

import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # a firewall's clock runs on while this host sleeps
OF_PROCESS = 2  # CPUCLOCK_SCHED, the clock of the processor's time that a process has had (clock_getcpuclockid(3))


def now() -> float:
    """Return the instant, in seconds."""
    return time.clock_gettime(CLOCK)


def slept() -> float:
    """Return the seconds in which the machine was suspended since it booted, as far as the clocks tell."""
    return time.clock_gettime(CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC)


def worked(pid: int) -> float:
    """Return for how many seconds a process has had the processor; 0 where it has ended or the system does not tell."""
    try:
        return time.clock_gettime((~pid << 3) | OF_PROCESS)
    except OSError:
        return 0.0
