"""How a daemon is at one moment, for people and programs that ask."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from keepaliveD.model.autopsy import Death, Tally
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.findings import Finding
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.routes import SeenByRoute
from keepaliveD.model.rules import Path

if TYPE_CHECKING:
    from keepaliveD.model.sockets import Unwatched  # which loads NumPy

LEFT = (0, 15, 60, 300, 900, 3600, 14400)  # seconds


class Setting(NamedTuple):
    """A setting of the system: what the configuration wants, what stands, and what stood before ours; None: unknown.

    `note` is why something else stands than is wanted, "" where it is not known.
    """

    name: str
    wanted: int
    stands: int | None = None
    before: int | None = None
    note: str = ""


class LastScan(NamedTuple):
    """The last scan, in seconds: how long ago it ended, how long it took, how often there is one."""

    ago: float
    took: float
    interval: float


@dataclass(frozen=True, slots=True)
class AtRisk:
    """Connections at risk of one unit with one verdict; where the unit is "", they are one user's.

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


class Kind(NamedTuple):
    """What connections have in common that are counted together."""

    path: str
    verdict: Verdict
    keepalive: Shown


class Left(NamedTuple):
    """How soon paths forget the connections at risk: how many `within` each time of LEFT, of `number` that have one.

    `seconds` is the sum of their times.
    """

    within: tuple[int, ...] = (0,) * len(LEFT)
    number: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """The connections of the scan at `taken_at`; `complete` is false where it has not seen all of them."""

    taken_at: float = 0.0
    by_kind: Mapping[Kind, int] = field(default_factory=dict)
    left: Left = field(default_factory=Left)
    namespaces: int = 0
    complete: bool = False

    def by_path(self) -> dict[str, Counter[Verdict]]:
        """Return how many connections each path has by verdict, by its name."""
        found: dict[str, Counter[Verdict]] = {}
        for kind, number in self.by_kind.items():
            found.setdefault(kind.path, Counter())[kind.verdict] += number
        return found


class Tried(NamedTuple):
    """What was done since the start: scans, the seconds that they took, and settings that someone else had changed."""

    scans: int = 0
    scanning: float = 0.0
    drifts: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the daemon is. `running` is for how many seconds; `applied` whether the system's settings are in its care.

    `problems` are lines: what is wrong with the configuration and the records, why connections are not watched, why
    arming is suspended, why settings cannot be set.
    `now` is in seconds since 1970. `probes_sent` is since the boot, None where the system does not count them.
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
    findings: tuple[Finding, ...] = ()  # against their timeouts
    by_route: tuple[SeenByRoute, ...] = ()  # of the default path
    tally: Tally = field(default_factory=Tally)
    at_risk: tuple[AtRisk, ...] = ()
    restores: bool = True  # whether a stop restores the settings
    now: float = 0.0
    totals: Totals = field(default_factory=Totals)
    tried: Tried = field(default_factory=Tried)
    probes_sent: int | None = None
    unwatched: Unwatched | None = None  # network namespaces
    unseen: str = ""  # what cannot be seen of ends of connections, and why
    netns: int = 0  # the inode of the network namespace whose settings these are


@dataclass(frozen=True, slots=True)
class Ended:
    """What is kept of connections that ended: counts since the start, and the last that were reported.

    Each of `deaths` has the number of connections that ended like it in one report.
    """

    now: float
    tally: Tally
    deaths: tuple[tuple[int, Death], ...]
