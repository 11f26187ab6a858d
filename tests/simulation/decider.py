"""All that the simulation knows of the decider, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keepaliveD.model.actions import Arm, ReadIdleTimes, Report
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.results import Arming, Outcome
from keepaliveD.model.sockets import Column, SocketTable
from keepaliveD.policy import decider
from keepaliveD.policy.decider import Rules
from keepaliveD.policy.sysctls import OnDrift
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
    look_at: float = FOREVER  # when the decider wants its next scan, if before the interval has passed


class Decides(Protocol):
    """Whatever judges tables."""

    def scan(self, table: SocketTable, arm: Armer, read: Reader) -> Said:
        """Judge one."""


class Decider:
    """The real one, driven as keepaliveD/daemon/loop.py drives it."""

    def __init__(self, world: World) -> None:
        self._decider = decider.Decider(Rules({}, OnDrift.WARN, world.paths, (), world.warn_before, world.arm))

    def scan(self, table: SocketTable, arm: Armer, read: Reader) -> Said:
        """Hand it one table, and carry out what it asks for."""
        judgement, actions = self._decider.observe(table)
        words: list[Word] = []
        done: list[Arming] = []
        for action in actions:
            if self._decider.given_up(action):
                continue
            armings = arm(action) if isinstance(action, Arm) else ()
            done += armings
            looked = read(action.targets) if isinstance(action, ReadIdleTimes) else None
            self._decider.record(Outcome(action, armings=armings, looked=looked))
            if isinstance(action, Report):
                words += [Word(one.cookie, one.verdict, one.confirmed) for one in action.connections]
        outlook = judgement.forecast
        verdict = outlook.verdict + np.uint8(CERTAIN) * outlook.confirmed
        return Said(judgement.table.sockets["cookie"], verdict, tuple(words), tuple(done), self._decider.next_deadline)
