"""Turn the signals that the daemon handles into events that its loop waits for.

A handler notes each signal, and the interpreter writes to a socket that the loop watches, for one that
comes just before the wait: so no signal interrupts a write to a record. They must be caught before
anything else is imported: the default action of all of them ends the process, settings changed.

sigtimedwait(2) would be less code, but CPython 3.6 to 3.13 takes the EINTR of a process that was
stopped and continued for a signal, and returns memory that nobody has written.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sys import UnraisableHookArgs

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU})
RELOAD = signal.SIGHUP
ALL = STOP | {RELOAD}
ALARM = signal.SIGALRM  # only ends a wait (within_a_moment)
MOMENT = 0.005  # seconds
MEANINGLESS = ("SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT")

_caught: set[signal.Signals] = set()


def catch() -> None:
    """Catch these signals from now on; caught() returns them."""
    _, sink = _ends()
    signal.set_wakeup_fd(sink.fileno(), warn_on_full_buffer=False)
    for each in ALL:
        signal.signal(each, lambda number, _: _caught.add(signal.Signals(number)))
    signal.signal(ALARM, do_nothing)
    named = (getattr(signal, name, None) for name in MEANINGLESS)  # some are not on every system
    for number in filter(None, (*named, *_real_time())):  # they would end the process, settings changed
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL | {ALARM})  # whoever started us may have blocked them
    sys.unraisablehook = _ignore


def _real_time() -> range:
    """Return the numbers of the real-time signals, where there are any."""
    first, last = getattr(signal, "SIGRTMIN", None), getattr(signal, "SIGRTMAX", None)
    return range(first, last + 1) if first and last else range(0)


def release() -> None:
    """Ignore the signals: the interpreter restores default actions as it ends, but not of ignored signals.

    To block the signals would not be enough: another thread would get them.
    """
    for each in (*ALL, ALARM):
        signal.signal(each, signal.SIG_IGN)


def do_nothing(*_: object) -> None:
    """Handle a signal that only interrupts a system call."""


@contextlib.contextmanager
def within_a_moment() -> Iterator[None]:
    """Interrupt whatever waits for longer than MOMENT, where the signals are caught.

    A descriptor that comes with a message is closed with it, and the close of a TCP socket with SO_LINGER waits for its
    peer, for as long as its owner wishes, or until a signal comes.
    """
    if signal.getsignal(ALARM) is not do_nothing:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, MOMENT, MOMENT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def events() -> socket.socket:
    """Return the socket that can be read once a signal was caught."""
    return _ends()[0]


def caught() -> frozenset[signal.Signals]:
    """Return the signals that were caught since the last time, each once, however often it came."""
    with contextlib.suppress(OSError):  # nothing in there, or the note of a signal that was taken long ago
        events().recv(1 << 16)
    taken = frozenset(_caught)
    _caught.difference_update(taken)  # one that comes again in between is acted upon after it came, all the same
    return taken


def _ignore(what: UnraisableHookArgs) -> None:
    """Print in one line an error that the interpreter could not raise, such as a failed write to the socket."""
    with contextlib.suppress(OSError):  # raised here, it would be printed as a traceback
        print(f"ignored: {type(what.exc_value).__name__}: {what.exc_value}", file=sys.stderr)


@functools.cache
def _ends() -> tuple[socket.socket, socket.socket]:
    """Where the numbers come out, and where they go in."""
    events, sink = socket.socketpair()
    events.setblocking(False)
    sink.setblocking(False)
    return events, sink
