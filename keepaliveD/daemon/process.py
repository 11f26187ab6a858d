"""The surroundings of the daemon in a real process: clock, events, service manager, files."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from keepaliveD.config import Config, load
from keepaliveD.daemon.notify import Manager, watchdog_period
from keepaliveD.daemon.sources import Awaited, EventSource, Signals
from keepaliveD.daemon.worker.apart import Apart
from keepaliveD.daemon.worker.worker import Reply
from keepaliveD.daemon.worker.workers import Workers
from keepaliveD.log import entries
from keepaliveD.log.journal import Log
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.events import Event, Stop
from keepaliveD.platforms.base import Opener, Session
from keepaliveD.platforms.clock import now
from keepaliveD.platforms.requests import Request, Steps

LONGEST = 86400.0  # seconds of one wait; what is not due by then is waited for again
TICK = 1.0  # seconds between two looks at whether what reads the first configuration works
LONGEST_START = 300.0  # seconds for which that may be slow
START = 60.0  # seconds that the service manager is asked for at each look: all that follows is to have that much
A_MOMENT = 1.0  # seconds for which the configuration is still waited for after a signal to stop


@dataclass(frozen=True, slots=True)
class ReadConfiguration:
    """Read the configuration. No worker does that: what checks it takes 14 MB, which end with a process of its own."""

    file: Path | None
    repeatable = True

    def carry_out(self, _: Session | None = None) -> Config:
        """Return the configuration, with the warnings about it. Raises ConfigError, NoInput.

        What compares rules with rules, and paths with paths, takes seconds where there are thousands of them.
        """
        from keepaliveD.config import doubts  # wanted only here

        config = load(self.file)
        return dataclasses.replace(config, doubts=tuple(doubts.warnings(config)))


class Process:
    """This process, with a worker process of its own, and everything that events come from."""

    def __init__(self, config: Path | None, opener: Opener, log: Log, sources: Sequence[EventSource] = ()) -> None:
        """Open sessions in workers by `opener`, and log each worker that hangs."""
        self._signals = Signals()
        self._sources = (*sources, self._signals)  # what has happened by then comes before the signal to stop
        self._arrived: deque[Event] = deque()
        self._reading = ReadConfiguration(config)
        self._apart = Apart("the configuration cannot be read", self.now)
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
        """Return the answer to the request, or the next event; None after so many seconds at the latest.

        An answer comes first, so that no number of events keeps it waiting: there is one to a request.
        """
        deadline = self.now() + min(seconds, LONGEST)
        while True:
            if not self._arrived:
                for source in self._sources:
                    self._arrived += source.events()
            if reply := self._apart.reply():
                return reply
            if self._arrived:
                return self._workers.wait(0.0) or self._arrived.popleft()
            if self.now() >= deadline:
                return self._workers.wait(0.0)
            others: tuple[Awaited, ...] = (*self._sources, self._apart)
            left = max(0.0, min(deadline, *(other.due() for other in others)) - self.now())
            waiting = [other for other in others if other.fileno() >= 0]
            if answer := self._workers.wait(left, *waiting):
                return answer

    def ask(self, request: Request) -> None:
        """Begin a request in a worker or a process of its own; wait() returns the answer."""
        if isinstance(request, ReadConfiguration):
            self._apart.begin(request.carry_out)
        else:
            self._workers.ask(request)

    def abandon(self) -> None:
        """Give up the request that was begun, and end the process that has it."""
        self._apart.abandon()
        self._workers.abandon()

    def hurry(self) -> None:
        """Give a worker up as soon as it does not go on, and start few others in its place."""
        self._workers.hurry()

    def notify(self, *assignments: str) -> None:
        """Send these assignments to the service manager."""
        self._manager.notify(*assignments)

    def reloading(self) -> None:
        """Tell the service manager that a reload begins; it compares the instant with when it asked for one."""
        self._manager.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def load(self) -> Steps[Config]:
        """Read the configuration, while the loop goes on: files in /etc may hang. Raises ConfigError, NoInput."""
        config: Config = yield self._reading
        return config

    def load_first(self) -> Config:
        """Read the configuration before there is a loop; keep signals for it, and let everybody else wait.

        A machine that boots may be busy: what reads is waited for as long as it works. Raises ConfigError, NoInput;
        KernelError where files hang.
        """
        self.ask(self._reading)
        self._bear(give_up := self.now() + LONGEST_START)
        while not (reply := self._apart.reply()):
            left = min(TICK, self._apart.due() - self.now())
            self._workers.wait(max(0.0, left), self._signals, self._apart)
            self._bear(give_up)
        if reply.error:
            raise reply.error
        config: Config = reply.value
        return config

    def _bear(self, give_up: float) -> None:
        """Wait on for the first configuration while its process works, up to an instant; hurry where told to stop."""
        if self.is_told_to_stop():
            self._apart.hasten(A_MOMENT)
        elif self.now() < give_up and self._apart.prolong():
            self._manager.notify(f"EXTEND_TIMEOUT_USEC={START * 1e6:.0f}", "STATUS=reading the configuration")

    def is_told_to_stop(self) -> bool:
        """Return whether what has happened by now ends the daemon."""
        self._arrived += self._signals.events()
        return any(isinstance(event, Stop) for event in self._arrived)


def raise_descriptor_limit() -> None:
    """Raise the limit of open files as far as permitted: each network namespace requires some."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
