"""Send requests to a worker, and replace a worker that does not answer.

A worker that touches nothing new for some seconds, and does not work either, is killed, or left behind where it
cannot die; another one begins anew, without what the first one hung at (avoided.py).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

from keepaliveD.daemon.worker.avoided import Avoided
from keepaliveD.daemon.worker.worker import TICK, Reply, Worker
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import KernelError
from keepaliveD.model.rules import Watching
from keepaliveD.platforms.base import Opener
from keepaliveD.platforms.requests import Open, Request, Scan
from keepaliveD.platforms.touching import Kind, Touched

PATIENCE = 6  # ticks, which are turns of our own: we may have been stopped together with the worker
HURRY = 2  # ticks: for a worker after one that hung, and at the end
ATTEMPTS = 4  # workers that one request may cost where nothing tells why they are lost
A_MOMENT = 0.3  # seconds
MOST_RISKED = 8  # workers that cannot die; with more of them nothing that hung is tried again, ...
MOST_LEFT = 64  # ... sockets are locked in our own network namespace alone, and at last no other worker is started
MOST_LOST = 3  # workers at the end, a second each; one that is lost after these has no successor


class Descriptor(Protocol):
    """Something to wait for."""

    def fileno(self) -> int:
        """Return the descriptor that is to be read."""


@dataclass(frozen=True, slots=True)
class Hang:
    """A worker that hung: what it touched, and for how many seconds that is avoided now."""

    touched: Touched
    pause: float


class Workers:
    """Sends requests to one worker, and to another one if the first is lost."""

    def __init__(self, opener: Opener, clock: Callable[[], float], on_hang: Callable[[Hang], None]) -> None:
        """Read the time in seconds from `clock`, and call `on_hang` for each worker that hung."""
        self._opener = opener
        self._clock = clock
        self._on_hang = on_hang
        self._avoided = Avoided()
        self._watching = Watching()
        self._current: Worker | None = None
        self._successor: Worker | None = None  # takes its place once its session is open
        self._request: Request | None = None
        self._attempts = 0
        self._patience = PATIENCE
        self._ticked = clock()
        self._gives_up = False
        self._lost_at_the_end = 0
        self._stays_at_home = False  # sockets are locked in our own network namespace alone
        self._ended: list[Worker] = []  # and not reaped yet

    def ask(self, request: Request) -> None:
        """Begin a request; wait() returns the reply."""
        self._request, self._attempts = request, 0
        self._patience = HURRY if self._gives_up else PATIENCE
        self._ticked = self._clock()

    def abandon(self) -> None:
        """Give up the request, and end the worker that has it."""
        if self._request is not None:
            self._end(self._current if self._successor is None else self._successor)
        self._request = None

    def hurry(self) -> None:
        """Give a worker up as soon as it does not go on, and start few others in its place."""
        self._gives_up, self._patience = True, HURRY

    def close(self) -> None:
        """Let every worker end, and kill those that have not ended a moment later."""
        for worker in filter(None, (self._current, self._successor)):
            self._dismiss(worker)
        if not self._are_gone(within=A_MOMENT):
            for worker in self._ended:
                worker.kill()
            self._are_gone(within=A_MOMENT)

    def wait(self, seconds: float, *others: Descriptor) -> Reply | None:
        """Return the reply; None after so many seconds, or once one of the others can be read."""
        self._reap()
        if self._request is None:
            select.select(others, [], [], seconds)
            return None
        try:
            worker = self._asked(self._request)
        except OSError as error:
            return self._done(Reply(error=KernelError(f"no worker process can be started: {error.strerror}")))
        sending = [worker.socket] if worker.is_sending else []
        readable, writable, _ = select.select([worker.socket, *others], sending, [], min(seconds, TICK))
        if writable:
            worker.send()
        if worker.socket in readable:
            return self._receive(worker, self._request)
        if self._clock() - self._ticked < TICK:
            return None
        self._ticked = self._clock()
        return None if worker.goes_on(self._patience) else self._leave_out(worker, self._request)

    def _leave_out(self, worker: Worker, request: Request) -> Reply | None:
        """Go on without what a worker hangs at. Others may hang as well: the next worker gets less time."""
        what = (worker.touched.kind, worker.touched.number)
        pause = self._avoided.add(what, self._clock())
        self._on_hang(Hang(worker.touched, pause))
        self._patience = HURRY
        if self._gives_up and (self._lost_at_the_end or worker.touched.kind is Kind.LOCKS):  # these, all can do without
            self._stays_at_home = True
        if pause:
            self._attempts -= 1  # each time there is less to hang at
        return self._retry(worker, request, "the worker process hangs")

    def _asked(self, request: Request) -> Worker:
        """Return the worker that has this request, started if there is none. Raises OSError."""
        if isinstance(request, Open):
            self._successor = self._successor or self._start(request.watching)
            return self._successor
        self._current = self._current or self._start(self._watching)
        if self._current.asked is not request:
            again = len(self._ended) < MOST_RISKED
            avoided = self._avoided.at(self._clock(), again=again)
            self._current.ask(request, avoided, careful=self._stays_at_home or not again)
        return self._current

    def _start(self, watching: Watching) -> Worker:
        if len(self._ended) >= MOST_LEFT:
            raise OSError(0, f"{len(self._ended)} of them hang, and cannot be ended")
        return Worker(self._opener, watching)

    def _receive(self, worker: Worker, request: Request) -> Reply | None:
        try:
            worker.receive()
            answer = worker.answer()
        except EOFError:
            return self._retry(worker, request, "the worker process has ended unexpectedly")
        except OSError as error:  # no descriptor or memory left for what it sends
            return self._retry(worker, request, f"the worker process cannot be heard: {error.strerror}")
        if answer and not worker.opened:
            worker.opened = answer.error is None
            if not worker.opened:
                self._end(worker)
            elif isinstance(request, Open):
                if self._current:
                    self._dismiss(self._current)
                self._current, self._successor, self._watching = worker, None, request.watching
            else:  # it takes the place of one that was lost
                answer = worker.answer()
        if answer and answer.error is None and isinstance(request, Scan):
            self._avoided.keep_namespaces(answer.value.unwatched.silent, self._clock())
        return self._done(answer) if answer else None

    def _retry(self, worker: Worker, request: Request, problem: str) -> Reply | None:
        """Send the request to another worker at the next wait(), unless it may not be repeated or has cost too many."""
        self._end(worker)
        self._attempts += 1
        self._lost_at_the_end += self._gives_up
        if request.repeatable and self._attempts < ATTEMPTS and self._lost_at_the_end <= MOST_LOST:
            return None
        return self._done(Reply(error=KernelError(problem)))

    def _done(self, answer: Reply) -> Reply:
        self._request = None
        return answer

    def _reap(self) -> None:
        for worker in self._ended:
            worker.insist(A_MOMENT)
        self._ended = [worker for worker in self._ended if not worker.is_gone()]

    def _are_gone(self, within: float) -> bool:
        """Wait until the dismissed workers have ended; return whether all have within so many seconds."""
        end = time.monotonic() + within
        while self._ended and time.monotonic() < end:
            self._reap()
            time.sleep(within / 100)  # nothing that can be waited for tells of it on every system
        return not self._ended

    def _dismiss(self, worker: Worker) -> None:
        worker.dismiss()
        self._forget(worker)

    def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.kill()
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        self._ended.append(worker)
        if worker is self._current:
            self._current = None
        if worker is self._successor:
            self._successor = None
