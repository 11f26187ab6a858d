"""The event loop: it waits for one event, hands it to the decider, and hands out the actions. It decides nothing.

An action that needs answers of the worker is carried out in steps: a generator that yields requests (`Steps`). One
action is carried out at a time, and each answer takes it a step further.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from keepaliveD.daemon.worker.worker import Reply
from keepaliveD.model.actions import Abandon, Action, AtOnce, EndDaemon, LogOutcome, Notify, Outcome, Phase, Queued
from keepaliveD.model.events import Event, Failed, Idle, Start, Tick
from keepaliveD.platforms.requests import Request, Steps


class Waits(Protocol):
    """What waits: the process that the daemon runs in."""

    watchdog: float  # seconds after which the service manager expects a sign of life

    def now(self) -> float:
        """Return the time of a clock that never goes back, in seconds; it counts the time suspended."""

    def wait(self, seconds: float) -> Event | Reply | None:
        """Return the next event, or the answer to the request; None after so many seconds at the latest."""

    def ask(self, request: Request) -> None:
        """Begin a request; wait() returns the answer."""

    def abandon(self) -> None:
        """Give up the request that was begun."""


class Decides(Protocol):
    """What decides (policy/decider.py)."""

    due: float  # the instant at which a Tick is wanted

    def decide(self, event: Event, now: float) -> list[Action]:
        """Return what to do about this event."""


class Performs(Protocol):
    """What carries out actions."""

    def perform(self, action: Queued) -> Steps[Event]:
        """Carry out an action, and return the event that comes of it."""

    def log(self, outcome: Outcome) -> None:
        """Log what came of an action."""

    def notify(self, phase: Phase) -> None:
        """Notify the service manager."""

    def show_life(self, *, is_idle: bool) -> None:
        """Show the service manager that the loop goes on."""


class Loop:
    """Hands events in and actions out."""

    def __init__(self, outside: Waits, decider: Decides, performer: Performs) -> None:
        self._outside = outside
        self._decider = decider
        self._performer = performer
        self._queue: deque[Queued] = deque()
        self._steps: Steps[Event] | None = None  # those of the action that is being carried out
        self._is_idle = True  # whether the decider knows that all actions are carried out
        self._end: EndDaemon | None = None
        self._shown = outside.now()  # when life was last shown
        self._has_notified = False  # whether the service manager was notified in this turn

    def run(self, start: Start) -> Exception | None:
        """Go on until the decider ends it; return the error with which it does."""
        event: Event | Reply | None = start
        while True:
            if isinstance(event, Reply):
                self._go_on(event)
            else:
                self._hand_in(event or Tick())
            self._carry_out()
            if self._end:
                return self._end.error
            self._show_life()
            event = self._outside.wait(max(0.0, min(self._outside.watchdog, self._decider.due - self._outside.now())))

    def _hand_in(self, event: Event) -> None:
        """Hand an event in, and the actions out."""
        for action in self._decider.decide(event, self._outside.now()):
            if isinstance(action, AtOnce):
                self._do(action)
            else:
                self._queue.append(action)
                self._is_idle = False

    def _do(self, action: AtOnce) -> None:
        match action:
            case LogOutcome(outcome):
                self._performer.log(outcome)
            case Notify(phase):
                self._performer.notify(phase)
                self._has_notified = True
            case Abandon():
                self._abandon()
            case EndDaemon():
                self._end = action

    def _carry_out(self) -> None:
        """Begin what is queued, one action after the other, up to one that waits for the worker."""
        while self._steps is None and not self._is_idle:
            if self._queue:
                self._action = self._queue.popleft()
                self._steps = self._performer.perform(self._action)
                self._go_on(None)
            else:
                self._is_idle = True
                self._hand_in(Idle())

    def _go_on(self, answer: Reply | None) -> None:
        """Take the action a step further, with the answer to its last request; hand in what comes of it."""
        if self._steps is None:
            return
        try:
            if answer is None:
                request = next(self._steps)
            elif answer.error:
                request = self._steps.throw(answer.error)
            else:
                request = self._steps.send(answer.value)
        except StopIteration as end:
            self._finish(end.value)
        except Exception as error:  # a host full of strangers: what nobody foresaw must not end the watch
            self._finish(Failed(self._action, error))
        else:
            self._outside.ask(request)

    def _finish(self, event: Event) -> None:
        self._steps = None
        try:
            self._hand_in(event)
        except Exception as error:  # a defect of the decider
            if isinstance(event, Failed):
                raise
            self._hand_in(Failed(self._action, error))

    def _abandon(self) -> None:
        self._queue.clear()
        if self._steps is not None:
            self._outside.abandon()
            self._steps.close()
            self._steps = None

    def _show_life(self) -> None:
        """Show the service manager that the loop goes on: with every turn, or as seldom as it wants while it works."""
        now = self._outside.now()
        if self._has_notified:
            self._has_notified, self._shown = False, now
        elif self._is_idle or now - self._shown >= self._outside.watchdog:
            self._shown = now
            self._performer.show_life(is_idle=self._is_idle)
