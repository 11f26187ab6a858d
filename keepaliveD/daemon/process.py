"""The surroundings of the daemon in a real process: clock, signals, service manager, files."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Self

from keepaliveD.config import Config, load
from keepaliveD.daemon import signals
from keepaliveD.daemon.loop import Event
from keepaliveD.daemon.notify import Manager, watchdog_period
from keepaliveD.daemon.workers import Workers
from keepaliveD.log import entries
from keepaliveD.log.journal import Log
from keepaliveD.platforms.base import Opener
from keepaliveD.platforms.requests import Request

HANDOVER = "handover"  # a file in systemd's RuntimeDirectory=; packages make it when they upgrade
LONGEST = 86400.0  # seconds of one wait; what is not due by then is waited for again
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # a firewall's clock runs on while this host sleeps


class Process:
    """This process, with a worker process of its own."""

    def __init__(self, config: Path | None, opener: Opener, log: Log) -> None:
        """Open sessions in workers by `opener`, and log each worker that hangs."""
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
        return time.clock_gettime(CLOCK)

    def slept(self) -> float:
        """Return the seconds in which the machine was suspended since it booted, as far as the clocks tell."""
        return round(time.clock_gettime(CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC), 1)

    def wait(self, seconds: float) -> Event:
        """Return the next signal or the answer to the request; None after so many seconds at the latest."""
        deadline = self.now() + min(seconds, LONGEST)
        while True:
            if caught := signals.caught():
                return caught
            left = deadline - self.now()
            if left <= 0:
                return None
            if answer := self._workers.wait(left, signals.events()):
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
        """Read the configuration again."""
        return load(self._config)

    def handing_over(self) -> bool:
        """Return whether a successor takes the settings over at once, as whoever stops us has said."""
        directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        try:
            return bool(directory) and (Path(directory) / HANDOVER).exists()
        except OSError:
            return False  # too long a name, or a directory that may not be searched


def raise_descriptor_limit() -> None:
    """Raise the limit of open files as far as permitted: each network namespace requires some."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
