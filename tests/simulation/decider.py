"""All that the simulation knows of the decider, in one place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keepaliveD.model.actions import Arm, AtOnce, Outcome, ReadIdleTimes
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.events import Done, Event, Idle, Opened, Scanned, Start, Tick
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.results import Arming
from keepaliveD.model.rules import OnDrift, Rules
from keepaliveD.model.sockets import Column, SocketTable
from keepaliveD.policy import decider
from tests.simulation.world import World

Armer = Callable[[Arm], tuple[Arming, ...]]
Reader = Callable[[Column], Column]  # from rows of model.arming.TARGET to rows of LOOKED
CERTAIN = 8  # added to a verdict that is certain


@dataclass(frozen=True, slots=True)
class Word:
    """What was logged of one connection."""

    cookie: int
    verdict: Verdict
    certain: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What one scan led to. `verdict` follows `cookie`, with CERTAIN added where it is."""

    cookie: Column
    verdict: Column
    words: tuple[Word, ...]
    armings: tuple[Arming, ...]
    due: float = FOREVER  # when the decider wants its next scan, if before the interval has passed


class Decides(Protocol):
    """Whatever judges tables."""

    def scan(self, table: SocketTable, end: float, arm: Armer, read: Reader) -> Said:
        """Judge one, whose reading ended at this instant."""


class Decider:
    """The real one, which gets the same events in the same order as from keepaliveD/daemon/loop.py."""

    def __init__(self, world: World) -> None:
        rules = Rules({}, OnDrift.WARN, world.paths, (), world.warn_before, world.arm, interval=world.interval)
        self._decider = decider.Decider(rules)
        self._decider.decide(Start(), 0.0)
        self._event: Event = Opened("")  # what asks for the next scan

    def scan(self, table: SocketTable, end: float, arm: Armer, read: Reader) -> Said:
        """Have it ask for a scan, answer with this table, and carry out what it decides."""
        self._decider.decide(self._event, table.taken_at)
        words: list[Word] = []
        done: list[Arming] = []
        queue = deque(self._decider.decide(Scanned(table), end))
        while queue:
            action = queue.popleft()
            if isinstance(action, AtOnce):
                continue
            armings = arm(action) if isinstance(action, Arm) else ()
            done += armings
            looked = read(action.targets) if isinstance(action, ReadIdleTimes) else None
            outcome = Outcome(action, armings=armings, looked=looked)
            queue += self._decider.decide(Done(action, (outcome,)), end)
            if isinstance(action, ReportConnections):
                words += [Word(one.cookie, one.verdict, one.confirmed) for one in action.connections]
        self._decider.decide(Idle(), end)
        self._event = Tick()
        judgement = self._decider.judgement
        outlook = judgement.forecast
        verdict = outlook.verdict + np.uint8(CERTAIN) * outlook.confirmed
        return Said(judgement.table.sockets["cookie"], verdict, tuple(words), tuple(done), self._decider.due)
