"""How a daemon is at one moment, for people and programs that ask."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from keepaliveD.model.autopsy import Tally
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.rules import Path


class Setting(NamedTuple):
    """A setting of the system: what the configuration wants, what stands, and what stood before ours; None: unknown."""

    name: str
    wanted: int
    stands: int | None = None
    before: int | None = None


class LastScan(NamedTuple):
    """The last scan, in seconds: how long ago it ended, how long it took, how often there is one."""

    ago: float
    took: float
    interval: float


@dataclass(frozen=True, slots=True)
class AtRisk:
    """Connections at risk of one unit with one verdict; where the unit is "", it is unknown, and they are one user's.

    `left` is in how many seconds the path forgets the first; negative: how long ago.
    """

    unit: str
    user: int
    verdict: Verdict
    count: int
    sure: bool  # of all of them
    left: float

    def with_others(self, others: AtRisk) -> AtRisk:
        """Return both together."""
        left = min((each for each in (self.left, others.left) if not math.isnan(each)), default=math.nan)
        return dataclasses.replace(self, count=self.count + others.count, sure=self.sure and others.sure, left=left)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the daemon is. `running` is for how many seconds; `applied` whether the system's settings are in its care.

    `problems` are lines: what is wrong with the configuration, why connections are not watched, and the like.
    """

    pid: int
    running: float
    applied: bool
    settings: tuple[Setting, ...]
    engine: str
    counts: Counts
    scan: LastScan | None
    results: Mapping[ArmingResult, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    tally: Tally = field(default_factory=Tally)
    at_risk: tuple[AtRisk, ...] = ()
    restores: bool = True  # whether a stop restores the settings
