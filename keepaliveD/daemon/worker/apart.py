"""Do a piece of work in a process of its own: the memory that it takes goes with it, and it may hang in our place."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable

from keepaliveD.daemon.worker import messages
from keepaliveD.daemon.worker.fork import fork
from keepaliveD.daemon.worker.worker import Reply, sendable
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import KernelError
from keepaliveD.platforms.clock import worked

PATIENCE = 10.0  # seconds; for one that works, on a busy machine, ...
LONGEST = 60.0  # ... so many at most, unless whoever waits prolongs it
MOST_LEFT = 4  # processes that hang and cannot be ended; with so many, nothing more is begun


class Apart:
    """Begins work in a process of its own, one piece at a time, and has its reply once it has come.

    It waits for nothing: whoever waits does so for `fileno`, until `due` at the latest.
    """

    def __init__(self, failure: str, clock: Callable[[], float], patience: float = PATIENCE) -> None:
        """`failure` says what it means if there is no answer in time, in seconds of this clock."""
        self._failure = failure
        self._clock = clock
        self._patience = patience
        self._until = self._give_up = FOREVER
        self._pid = 0
        self._worked = 0.0  # seconds for which its process has had the processor
        self._socket: socket.socket | None = None
        self._receiver = messages.Receiver()
        self._reply: Reply | None = None
        self._left: list[int] = []  # processes that have not ended when they should

    def begin(self, work: Callable[[], object]) -> None:
        """Begin this work; reply() returns what comes of it."""
        self._left = [pid for pid in self._left if not _is_gone(pid)]
        if len(self._left) >= MOST_LEFT:
            self._fail(f"{len(self._left)} earlier processes hang there, and cannot be ended")
            return
        try:
            self._socket = self._start(work)
        except OSError as error:
            self._fail(f"no process can be started: {error.strerror}")
        else:
            self._until, self._worked = self._clock() + self._patience, 0.0
            self._give_up = self._until + LONGEST - self._patience

    def _start(self, work: Callable[[], object]) -> socket.socket:
        """Return the socket on which a new process will answer. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._pid = fork(lambda: _answer(theirs, work), keeping=theirs.fileno())
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def fileno(self) -> int:
        """Return the descriptor that can be read once there may be a reply; -1 where nothing was begun."""
        return self._socket.fileno() if self._socket else -1

    def due(self) -> float:
        """Return the instant at which there is a reply at the latest; FOREVER where nothing was begun."""
        return self._until

    def hasten(self, patience: float) -> None:
        """Wait for the reply to what was begun for so many seconds more at the most."""
        if self._socket:
            self._until = self._give_up = min(self._until, self._clock() + patience)

    def prolong(self) -> bool:
        """Wait for the reply as long as at first if its process has worked since this was last asked; return whether.

        Whoever asks often waits for one that is slow, and not for one that hangs.
        """
        before, self._worked = self._worked, worked(self._pid) if self._socket else 0.0
        if self._worked <= before:
            return False
        self._until = self._clock() + self._patience
        return True

    def reply(self) -> Reply | None:
        """Return the reply, once; None where it has not come, or nothing was begun."""
        if self._socket and (self._receive(self._socket) or self._is_late()):
            self._end(self._socket)
            if self._reply is None:
                self._fail(f"its process was ended, or does not answer within {self._patience:g} s")
        reply, self._reply = self._reply, None
        if reply:
            self._until = FOREVER
        return reply

    def _is_late(self) -> bool:
        """Return whether its time is over; one that works has some more."""
        return self._clock() >= self._until and not (self._clock() < self._give_up and self.prolong())

    def abandon(self) -> None:
        """Give up what was begun: there will be no reply to it."""
        if self._socket:
            self._end(self._socket)
        self._reply, self._until = None, FOREVER

    def _end(self, sock: socket.socket) -> None:
        """End the process unless it has replied, and so ends by itself; leave it where it cannot die."""
        sock.close()
        self._receiver.close()
        self._socket, self._receiver, self._until = None, messages.Receiver(), FOREVER
        if self._reply is None:
            with contextlib.suppress(ProcessLookupError):  # whoever started us may have had the kernel reap for us
                os.kill(self._pid, signal.SIGKILL)
        if not _ends(self._pid):
            self._left.append(self._pid)

    def _receive(self, sock: socket.socket) -> bool:
        """Receive what has arrived; return whether no more will."""
        try:
            is_open = self._receiver.receive(sock)
            self._reply = self._receiver.message()
        except BlockingIOError:
            return False
        except OSError:  # its end, or no descriptor is left for what it sends
            return True
        return self._reply is not None or not is_open

    def _fail(self, reason: str) -> None:
        self._reply = Reply(error=KernelError(f"{self._failure}: {reason}"))
        self._until = self._clock()  # there is nothing to wait for


def _answer(daemon: socket.socket, work: Callable[[], object]) -> None:
    gc.disable()  # no garbage outlives this process
    try:
        reply = Reply(work())
    except BaseException as error:
        reply = Reply(error=sendable(error))
    messages.send(daemon, reply)


def _ends(pid: int) -> bool:
    """Return whether the process ends within a moment."""
    for _ in range(100):
        if _is_gone(pid):
            return True
        time.sleep(0.001)
    return False


def _is_gone(pid: int) -> bool:
    """Return whether the process has ended, and reap it then."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
