"""The signals that mean something to the daemon, as events that its loop waits for.

The interpreter's own handler writes the number of each signal into a socket, and the loop reads it
there when it is ready: so no signal interrupts a write to a record. They must be caught before
anything else is imported: the default action of all three ends the process, settings changed.

sigtimedwait(2) would be less code, but CPython 3.6 to 3.13 takes the EINTR of a process that was
stopped and continued for a signal, and returns memory that nobody has written.
"""

from __future__ import annotations

import contextlib
import functools
import select
import signal
import socket
from collections import deque

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD = signal.SIGHUP
ALL = STOP | {RELOAD}

LONGEST = 86400.0  # seconds of one wait; what is not due by then is waited for again

_caught: deque[signal.Signals] = deque()


def catch() -> None:
    """Keep these signals for wait(), from now on."""
    _, sink = _ends()
    signal.set_wakeup_fd(sink.fileno(), warn_on_full_buffer=False)
    for each in ALL:
        signal.signal(each, lambda *_: None)


def release() -> None:
    """Let nothing more of this process be ended by them: the interpreter puts their default actions back as it ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL)


def wait(seconds: float) -> signal.Signals | None:
    """Return the next signal, or None once the time is over."""
    if not _caught:
        events, _ = _ends()
        select.select([events], [], [], min(seconds, LONGEST))
        with contextlib.suppress(BlockingIOError):
            _caught.extend(signal.Signals(number) for number in events.recv(1024) if number in ALL)
    return _caught.popleft() if _caught else None


@functools.cache
def _ends() -> tuple[socket.socket, socket.socket]:
    """Where the numbers come out, and where they go in."""
    events, sink = socket.socketpair()
    events.setblocking(False)
    sink.setblocking(False)
    return events, sink
