"""The worker: a process that touches what belongs to others, so that the daemon cannot hang.

A dump of a socket that its program has locked, a duplicate of a descriptor, another process's /proc: each may
keep whoever touches it for ever, deaf to any signal. A worker has a session (platforms/base.py), and carries out
one request after the other. It holds no lock, and nothing is lost with it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import time
from typing import Any

from keepaliveD.daemon.memory import give_back
from keepaliveD.daemon.worker import messages
from keepaliveD.daemon.worker.fork import fork
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import Refusal, unexpected
from keepaliveD.model.rules import Watching
from keepaliveD.platforms import touching
from keepaliveD.platforms.base import Opener
from keepaliveD.platforms.clock import worked
from keepaliveD.platforms.requests import Request
from keepaliveD.platforms.touching import WORKER, Touchable

TICK = 0.5  # seconds between two looks at what a worker touches
A_LITTLE = 0.002  # seconds of the processor in a tick: who only waits, and now and then looks for how long, has less
NOTHING = memoryview(b"")  # an end of no length would keep all that was sent


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, or the error that it raised."""

    value: Any = None
    error: Refusal | None = None


class Worker:
    """One worker process. It opens its session at once; its first answer describes the engine."""

    def __init__(self, opener: Opener, watching: Watching) -> None:
        """Start the process. Raises OSError."""
        self.opened = False
        self.asked: Request | None = None
        self._memory = touching.share()
        self.socket, theirs = socket.socketpair()
        with theirs:
            self._pid = fork(lambda: _work(opener, watching, theirs, self._memory), theirs.fileno(), WORKER)
        self.socket.setblocking(False)
        self._receiver = messages.Receiver()
        self._unsent = NOTHING
        self.touched = touching.read(self._memory)
        self._ticks = 0
        self._worked = self._worked_before = 0.0  # seconds of the processor, now, and when it last touched something
        self._dismissed_at = 0.0  # on the monotonic clock; 0 where it is not, or was killed as well

    @property
    def is_sending(self) -> bool:
        """Return whether a part of a request is still to be sent."""
        return bool(self._unsent)

    def ask(self, request: Request, avoided: frozenset[Touchable], *, careful: bool) -> None:
        """Begin to send a request; the worker must not touch what is `avoided`; `careful`: see touching.avoid.

        Only what it does from now on shows that it goes on.
        """
        self.touched = touching.read(self._memory)
        self._worked = self._worked_before = worked(self._pid)
        self.asked = request
        self._unsent = messages.pack((request, avoided, careful))
        self._ticks = 0
        self.send()

    def send(self) -> None:
        """Send as much of the request as there is room for."""
        with contextlib.suppress(BlockingIOError, ConnectionError):  # that it has ended is seen in receive()
            self._unsent = self._unsent[self.socket.send(self._unsent) :] or NOTHING

    def receive(self) -> None:
        """Receive what has arrived. Raises EOFError if the worker has ended."""
        try:
            if not self._receiver.receive(self.socket):
                raise EOFError
        except BlockingIOError:
            pass
        except ConnectionError as error:
            raise EOFError from error

    def answer(self) -> Reply | None:
        """Return the next answer, or None if it has not arrived."""
        answer: Reply | None = self._receiver.message()
        return answer

    def goes_on(self, ticks: int) -> bool:
        """Count one tick; return whether the worker has touched something new, or worked, in the last `ticks`.

        On a busy machine it may wait for a processor most of the time. It may work so long as these ticks last.
        """
        before, self.touched = self.touched, touching.read(self._memory)
        last, self._worked = self._worked, worked(self._pid)
        if before != self.touched:
            self._ticks, self._worked_before = 0, self._worked
        else:
            works = self._worked - last >= A_LITTLE and self._worked - self._worked_before < ticks * TICK
            self._ticks = 0 if works else self._ticks + 1
        return self._ticks < ticks

    def dismiss(self) -> None:
        """Let the worker end by itself, as it does once it has nothing to do."""
        self.socket.close()
        self._receiver.close()
        self._dismissed_at = time.monotonic()

    def insist(self, patience: float) -> None:
        """Kill it, if it was dismissed so many seconds ago."""
        if self._dismissed_at and time.monotonic() - self._dismissed_at > patience:
            self.kill()

    def kill(self) -> None:
        """Kill the worker, whatever it does."""
        self.dismiss()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._dismissed_at = 0.0

    def is_gone(self) -> bool:
        """Return whether the worker has ended, and reap it then."""
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True


def _work(opener: Opener, watching: Watching, daemon: socket.socket, memory: mmap.mmap) -> None:
    """Carry out requests until the daemon ends."""
    touching.write_to(memory)
    session = None
    try:
        session = opener(watching)
        messages.send(daemon, Reply(session.watcher.engine_description))
    except BaseException as error:
        messages.send(daemon, Reply(error=sendable(error)))
        return
    receiver = messages.Receiver()
    while receiver.receive(daemon):
        while message := receiver.message():
            request, avoided, careful = message
            touching.avoid(avoided, careful=careful)
            try:
                answer = Reply(request.carry_out(session))
            except BaseException as error:
                answer = Reply(error=sendable(error))
            touching.now(touching.Kind.NOTHING)
            _send(daemon, answer)
            del message, request, answer
            give_back()


def _send(daemon: socket.socket, reply: Reply) -> None:
    """Send a reply, or why there is no memory or descriptor for it. Raises ConnectionError where nobody listens."""
    try:
        messages.send(daemon, reply)
    except ConnectionError:
        raise
    except OSError as error:
        messages.send(daemon, Reply(error=unexpected(error)))


def sendable(error: BaseException) -> Refusal:
    """Return the error as one that can be sent."""
    return error if isinstance(error, Refusal) else unexpected(error)
