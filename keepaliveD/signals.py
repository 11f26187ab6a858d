"""The signals that mean something to the daemon.

They are blocked, and taken one by one by the loop, so that none can interrupt a write to the record
of found values. A thread inherits the mask of the one that starts it, so they must be blocked
before there are threads: NumPy's algebra starts some when it is imported, and the kernel may hand a
signal to any thread that does not block it.
"""

from __future__ import annotations

import signal

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD = signal.SIGHUP
ALL = STOP | {RELOAD}
TIMED = hasattr(signal, "sigtimedwait")  # macOS and OpenBSD have none: there an alarm ends the wait
BLOCKED = ALL if TIMED else ALL | {signal.SIGALRM}
SOON = 1e-6  # seconds; 0 would mean that no alarm is set


def block() -> None:
    """Let them wait until they are asked for, in this thread and those it will start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def wait(seconds: float) -> signal.Signals | None:
    """The next one, or None once the time is over."""
    if TIMED:
        caught = signal.sigtimedwait(ALL, seconds)
        return signal.Signals(caught.si_signo) if caught else None
    signal.setitimer(signal.ITIMER_REAL, max(seconds, SOON))
    first = signal.Signals(signal.sigwait(BLOCKED))
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    return first if first in ALL else None
