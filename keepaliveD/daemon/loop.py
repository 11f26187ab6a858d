"""The event loop: it waits for events, one after the other, and for nothing else.

A task of more than one turn (a scan, a reload) is a generator that yields requests (`Steps`). One task runs at
a time, and each answer takes it a step further.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from keepaliveD.config import Config
from keepaliveD.daemon.signals import RELOAD, STOP
from keepaliveD.daemon.worker import Reply
from keepaliveD.model.duration import FOREVER
from keepaliveD.platforms.requests import Request, Steps

Event = signal.Signals | Reply | None  # None: the time is over


class Surroundings(Protocol):
    """The process that the daemon runs in; tests use one with a stepped clock."""

    watchdog: float  # seconds after which the service manager expects a sign of life

    def now(self) -> float:
        """Return the time of a clock that never goes back, in seconds; it counts the time suspended."""

    def slept(self) -> float:
        """Return the seconds in which the machine was suspended since it booted."""

    def wait(self, seconds: float) -> Event:
        """Return the next signal or the answer to the request; None after so many seconds at the latest."""

    def ask(self, request: Request) -> None:
        """Begin a request; wait() returns the answer."""

    def abandon(self) -> None:
        """Give up the request that was begun."""

    def hurry(self) -> None:
        """Wait for nobody who does not go on, from now on."""

    def notify(self, *assignments: str) -> None:
        """Send these assignments to the service manager, without waiting for it."""

    def reloading(self) -> None:
        """Tell the service manager that a reload begins."""

    def load(self) -> Config:
        """Read the configuration again. Raises ConfigError, NoInput."""

    def handing_over(self) -> bool:
        """Return whether a successor takes the settings over at once, as in an upgrade."""


class Loop:
    """Turns events into steps.

    `due` begins the task that is due by now, if any; `pause` returns in how many seconds the next one is due;
    `show_life` is called at every turn after which no task is left.
    """

    def __init__(
        self,
        outside: Surroundings,
        due: Callable[[], Steps[None] | None],
        pause: Callable[[], float],
        show_life: Callable[[], None],
    ) -> None:
        self.is_to_reload = False
        self._is_to_stop = False
        self._outside = outside
        self._due = due
        self._pause = pause
        self._show_life = show_life
        self._steps: Steps[None] | None = None
        self._shown = outside.now()  # when life was last shown

    def run(self) -> None:
        """Carry out whatever is due until a signal says to stop. Raises what the steps raise."""
        while not self._is_to_stop:
            self._handle(self._outside.wait(min(self._outside.watchdog, FOREVER if self._steps else self._pause())))
            if self._steps is None and not self._is_to_stop and (steps := self._due()):
                self._begin(steps)
            if self._steps is None and not self._is_to_stop:
                self._shown = self._outside.now()
                self._show_life()
        self._abandon()

    def do(self, steps: Steps[None]) -> bool:
        """Carry out these steps; return whether they ended before a signal to stop. Raises what the steps raise."""
        self._begin(steps)
        while self._steps and not self._is_to_stop:
            self._handle(self._outside.wait(self._outside.watchdog))
        return not self._abandon()

    def finish(self, steps: Steps[None], within: float) -> bool:
        """Carry out the last steps, whatever signals arrive; return whether they ended within so many seconds.

        Raises what the steps raise.
        """
        self._outside.hurry()
        self._begin(steps)
        end = self._outside.now() + within
        while self._steps and (left := end - self._outside.now()) > 0:
            event = self._outside.wait(left)
            if isinstance(event, Reply):
                self._go_on(event)
        return not self._abandon()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Reply):
            self._go_on(event)
        elif event in STOP:
            self._is_to_stop = True
        elif event is RELOAD:
            self.is_to_reload = True
        if self._steps and self._outside.now() - self._shown >= self._outside.watchdog:
            self._shown = self._outside.now()
            self._outside.notify("WATCHDOG=1")

    def _begin(self, steps: Steps[None]) -> None:
        self._steps = steps
        self._go_on(None)

    def _go_on(self, answer: Reply | None) -> None:
        """Take the task a step further, with the answer to its last request."""
        if (steps := self._steps) is None:
            return
        self._steps = None
        try:
            if answer is None:
                request = next(steps)
            elif answer.error:
                request = steps.throw(answer.error)
            else:
                request = steps.send(answer.value)
        except StopIteration:
            return
        self._steps = steps
        self._outside.ask(request)

    def _abandon(self) -> bool:
        """Give up the task; return whether there was one."""
        steps, self._steps = self._steps, None
        if steps is None:
            return False
        self._outside.abandon()
        steps.close()
        return True
