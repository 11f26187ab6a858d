"""What is reported: data that log/entries words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from keepaliveD.model.autopsy import Alike
from keepaliveD.model.connections import Connection, Owner, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.findings import Finding
from keepaliveD.model.firewall import Tracked
from keepaliveD.model.rules import ArmRule
from keepaliveD.model.sockets import Column, Unwatched

if TYPE_CHECKING:
    from keepaliveD.model.status import Status


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something that happened `count` times within so many seconds; `last` is the value then."""

    count: int
    last: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ReportConnections:
    """Report connections whose verdict changed.

    `before` is what was last told of each, `unreported` how often it changed since then without a word.
    """

    connections: Sequence[Connection]
    before: tuple[Verdict, ...]
    unreported: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportDrift:
    """Tell that somebody else wrote our sysctls, and that it is left so. `yielded`: for good."""

    wanted: Mapping[str, int]
    found: Mapping[str, int]
    yielded: bool


@dataclass(frozen=True, slots=True)
class ReportRewriter:
    """Tell that somebody else goes on writing our sysctls. `reapplied`: ours are set again each time."""

    wanted: Mapping[str, int]
    repeats: Mapping[str, Repeat]
    reapplied: bool


@dataclass(frozen=True, slots=True)
class ReportStricter:
    """Tell that settings stricter than those configured stand, and that these values are brought about instead."""

    configured: Mapping[str, int]
    kept: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportNotRestored:
    """Tell that settings are not restored, because somebody else has set them since to what is found now."""

    found: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """Tell what is wrong with the settings record, a line each; none: nothing is any more."""

    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportUnwatched:
    """Report which network namespaces are not watched."""

    unwatched: Unwatched


@dataclass(frozen=True, slots=True)
class ReportNearlyFull:
    """Report that this host's own firewall is nearly full, in these network namespaces."""

    tracked: tuple[Tracked, ...]


class Counted(NamedTuple):
    """How many sockets of one owner were armed at connect by one rule, since it was last asked."""

    rule: ArmRule
    owner: Owner
    sockets: int


@dataclass(frozen=True, slots=True)
class ReportArmed:
    """Report sockets that were armed at connect since the last scan."""

    counted: Counted


@dataclass(frozen=True, slots=True)
class ReportDeaths:
    """Report connections that ended; `interval` is the seconds between two scans at most."""

    reports: tuple[Alike, ...]
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    """Report idle timeouts that the silences of connections contradict."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ReportStillArmed:
    """Report how many of the sockets with these cookies stay armed after the daemon has stopped.

    `missed`: they were to be disarmed, but not found. Those that have ended are not known.
    """

    cookies: Column
    count: int = 0
    missed: bool = False


@dataclass(frozen=True, slots=True)
class ReportOldServices:
    """Report services that keep the old settings until they restart, by where they listen; or why none is known."""

    ends: Sequence[str]
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class ReportStarted:
    """Report that the daemon watches and how, and what is special about this system."""

    status: Status
    engine_description: str
    at_connect: str
    unseen: str  # what cannot be seen of ends of connections
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReportReloaded:
    """Report that another configuration is followed from now on."""

    status: Status
    at_connect: str
    unseen: str  # what cannot be seen of ends of connections


@dataclass(frozen=True, slots=True)
class ReportReloadFailed:
    """Report why the old configuration stays, a line each."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReportDoubts:
    """Report what is doubtful about the configuration, a line each."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReportEngine:
    """Report that sockets are read by another engine than before."""

    description: str


@dataclass(frozen=True, slots=True)
class ReportBlind:
    """Report that scans fail, and why; or, without a reason, that they succeed again."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReportDamaged:
    """Report what is wrong with records of armed sockets, a line each."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReportRefused:
    """Report what could not be done."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReportUnseenDeaths:
    """Report what cannot be seen of how connections end, and why; "" if everything is seen."""

    missing: str


Report = (
    ReportConnections
    | ReportDrift
    | ReportRewriter
    | ReportStricter
    | ReportNotRestored
    | ReportRecord
    | ReportUnwatched
    | ReportNearlyFull
    | ReportArmed
    | ReportDeaths
    | ReportEvidence
    | ReportOldServices
    | ReportStarted
    | ReportReloaded
    | ReportReloadFailed
    | ReportDoubts
    | ReportEngine
    | ReportBlind
    | ReportDamaged
    | ReportRefused
    | ReportStillArmed
    | ReportUnseenDeaths
)
