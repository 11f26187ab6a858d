"""The surroundings of the daemon in a real process: clock, events, service manager, files."""

from __future__ import annotations

import contextlib
import resource
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from keepaliveD.config import Config, load
from keepaliveD.daemon.apart import Interruption, apart
from keepaliveD.daemon.notify import Manager, watchdog_period
from keepaliveD.daemon.sources import EventSource, Signals
from keepaliveD.daemon.worker import Reply
from keepaliveD.daemon.workers import Workers
from keepaliveD.log import entries
from keepaliveD.log.journal import Log
from keepaliveD.model.events import Event, Stop
from keepaliveD.platforms.base import Opener
from keepaliveD.platforms.clock import now
from keepaliveD.platforms.requests import Request

LONGEST = 86400.0  # seconds of one wait; what is not due by then is waited for again


class Process:
    """This process, with a worker process of its own, and everything that events come from."""

    def __init__(self, config: Path | None, opener: Opener, log: Log, sources: Sequence[EventSource] = ()) -> None:
        """Open sessions in workers by `opener`, and log each worker that hangs."""
        self._signals = Signals()
        self._sources = (self._signals, *sources)
        self._arrived: deque[Event] = deque()
        self._config = config
        self._manager = Manager()
        self._workers = Workers(opener, self.now, lambda hang: log(entries.of_hang(hang.touched, hang.pause)))
        self.watchdog = watchdog_period()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()

    def now(self) -> float:
        """Return the time of a clock that never goes back, in seconds; it counts the time suspended."""
        return now()

    def slept(self) -> float:
        """Return the seconds in which the machine was suspended since it booted, as far as the clocks tell."""
        return round(now() - time.clock_gettime(time.CLOCK_MONOTONIC), 1)

    def wait(self, seconds: float) -> Event | Reply | None:
        """Return the next event, or the answer to the request; None after so many seconds at the latest."""
        deadline = self.now() + min(seconds, LONGEST)
        while True:
            for source in self._sources:
                self._arrived += source.events()
            if self._arrived:
                return self._arrived.popleft()
            if self.now() >= deadline:
                return None
            left = max(0.0, min(deadline, *(source.due() for source in self._sources)) - self.now())
            waiting = [source for source in self._sources if source.fileno() >= 0]
            if answer := self._workers.wait(left, *waiting):
                return answer

    def ask(self, request: Request) -> None:
        """Begin a request in a worker; wait() returns the answer."""
        self._workers.ask(request)

    def abandon(self) -> None:
        """Give up the request that was begun, and end the worker that has it."""
        self._workers.abandon()

    def hurry(self) -> None:
        """Give a worker up as soon as it does not go on, and start one other at most in its place."""
        self._workers.hurry()

    def notify(self, *assignments: str) -> None:
        """Send these assignments to the service manager."""
        self._manager.notify(*assignments)

    def reloading(self) -> None:
        """Tell the service manager that a reload begins; it compares the instant with when it asked for one."""
        self._manager.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def load(self) -> Config:
        """Read the configuration, in a process of its own: what checks it takes 14 MB, and files may hang."""
        told = Interruption(self._signals, self.is_told_to_stop)
        return apart(lambda: load(self._config), "the configuration cannot be read", unless=told)

    def is_told_to_stop(self) -> bool:
        """Take in the signals that have come, and return whether one of them ends the daemon."""
        self._arrived += self._signals.events()
        return any(isinstance(event, Stop) for event in self._arrived)


def raise_descriptor_limit() -> None:
    """Raise the limit of open files as far as permitted: each network namespace requires some."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
