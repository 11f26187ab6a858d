"""What the decider asks for, and what came of it: data that says what is to be done or reported."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import field

from keepaliveD.model.connections import Connection
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import Refusal
from keepaliveD.model.questions import Asker
from keepaliveD.model.reports import Report
from keepaliveD.model.results import Arming, Entry
from keepaliveD.model.routes import Route
from keepaliveD.model.rules import Rules, Watching, Wish
from keepaliveD.model.sockets import Column, Indices, SocketTable


@dataclass(frozen=True, slots=True)
class FoundSettings:
    """The system's settings at one look. Keys are the kernel's names.

    `without_us` is what would stand if this program had never run.
    `troubles` are what is wrong with the settings record now, a line each.
    """

    stands: Mapping[str, int] = field(default_factory=dict)
    without_us: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()


NOT_CARED_FOR = FoundSettings()


class Because(enum.Enum):
    """Why system settings are written."""

    CONFIGURED = "configured"
    DRIFT = "changed by someone else"
    RESTORE = "restored"


@dataclass(frozen=True, slots=True)
class SetSystemKeepalive:
    """Write these sysctls; `found` is what stands there now. Keys are the kernel's names.

    Nothing is said of those in `quiet`, nor of a refusal with one of the texts in `refused_before`. `asker` is who
    asked the daemon for it.
    """

    values: Mapping[str, int]
    found: Mapping[str, int]
    because: Because
    quiet: frozenset[str] = frozenset()
    refused_before: frozenset[str] = frozenset()
    asker: Asker | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """Give each of these connections the keepalive of the first of `wishes` that its owner suits.

    By hand that is also done where somebody has set it since we armed it; `asker` is who asked the daemon for it.
    `last` is false where those whose holders are not found will be asked for again.
    """

    connections: Sequence[Connection]
    wishes: tuple[Wish, ...]
    by_hand: bool = False
    last: bool = True
    asker: Asker | None = None


@dataclass(frozen=True, slots=True)
class Disarm:
    """Put back what stood in these sockets before they were armed.

    `because` is why, where nobody asked for it; `asker` is who asked the daemon for it.
    """

    connections: Sequence[Connection]
    because: str = ""
    asker: Asker | None = None


@dataclass(frozen=True, slots=True)
class RecordArmed:
    """Write into the arming record what was armed at connect, for the sake of who asks."""

    asker: Asker


@dataclass(frozen=True, slots=True)
class LookInto:
    """Read the sockets of these connections, for the sake of who asks; `recorded` is what the records say of them.

    `more` are others that were asked about.
    """

    connections: tuple[Connection, ...]
    asker: Asker
    more: int = 0
    recorded: Mapping[int, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a question: `answer` is what came of it, or why nothing did."""

    asker: Asker
    answer: object


@dataclass(frozen=True, slots=True, eq=False)
class ReadIdleTimes:
    """Read idle times and intervals that the engine does not show: of rows of model.arming.TARGET, and their cgroups.

    `urgent`: a warning of some of them may be due already.
    """

    targets: Column
    cgroups: Column
    urgent: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AskFirewall:
    """Ask this host's own firewall about connections: their rows in the scan, cookies, and model.firewall.FLOW.

    `urgent`: a warning of some of them may be due already.
    """

    rows: Indices
    cookies: Column
    flows: Column
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class LoadConfiguration:
    """Read the configuration again."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a session that reads sockets in this way. If that fails, the session before stays."""

    watching: Watching


@dataclass(frozen=True, slots=True)
class ScanSockets:
    """Read all sockets, and the system settings if they are in our care."""

    with_settings: bool


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Read the system settings, where the sockets cannot be read."""


@dataclass(frozen=True, slots=True)
class ArmAtConnect:
    """Arm new connections at connect by these rules from now on, in place of the rules before."""

    rules: Rules


@dataclass(frozen=True, slots=True)
class AdmitReaders:
    """Let every user ask how things are, or the group of the daemon's user alone."""

    everyone: bool


@dataclass(frozen=True, slots=True)
class WatchDeaths:
    """See how connections end from now on, or see it no more, as these rules say."""

    rules: Rules


@dataclass(frozen=True, slots=True)
class SeeLastDeaths:
    """Hand in the ends that are not a second old yet, and see how connections end no more."""


@dataclass(frozen=True, slots=True)
class NameUnits:
    """Find the systemd units of these cgroups; `units` are those found, by cgroup."""

    cgroups: tuple[int, ...]
    units: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class FindRoutes:
    """Find by which routes this host reaches peers: rows of policy.routes.ENDS. `routes` are those of the first."""

    ends: Column
    routes: Sequence[Route | None] = ()


@dataclass(frozen=True, slots=True)
class RefreshAtConnect:
    """Show the kernel's program which units and containers exist now, and count what it has armed."""


@dataclass(frozen=True, slots=True)
class EndAtConnect:
    """Stop arming at connect, unless that must survive us."""


@dataclass(frozen=True, slots=True, eq=False)
class TidyArmingRecord:
    """Remove the sockets that have ended by this scan from the arming record."""

    table: SocketTable


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    """Write the system settings back that were found: all, or `only` these.

    `asker` is who asked the daemon for it, which had `cared_for` these until then.
    """

    only: frozenset[str] | None = None
    asker: Asker | None = None
    cared_for: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DisarmAll:
    """Disarm the recorded sockets that still exist. `only_mine`: only those that this process was the first to arm."""

    only_mine: bool = False


@dataclass(frozen=True, slots=True)
class ListOldServices:
    """Find the services that keep the old settings until they restart, on systems where services do so."""


@dataclass(frozen=True, slots=True)
class ShowAtRisk:
    """Show these connections to the person who asked for one scan."""

    connections: tuple[Connection, ...]


class Phase(enum.Enum):
    """What the service manager is notified of."""

    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify the service manager."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class LogOutcome:
    """Log what came of an action."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give up what is being carried out, and all that waits to be."""


@dataclass(frozen=True, slots=True)
class EndDaemon:
    """End the daemon, with this error if there is one."""

    error: Exception | None = None


AtOnce = Notify | LogOutcome | Abandon | EndDaemon  # done as soon as it is decided; all else in its order
Queued = (
    SetSystemKeepalive
    | Arm
    | Disarm
    | RecordArmed
    | LookInto
    | Answer
    | ReadIdleTimes
    | AskFirewall
    | LoadConfiguration
    | OpenSession
    | ScanSockets
    | ReadSettings
    | ArmAtConnect
    | AdmitReaders
    | WatchDeaths
    | SeeLastDeaths
    | NameUnits
    | FindRoutes
    | RefreshAtConnect
    | EndAtConnect
    | TidyArmingRecord
    | RestoreSettings
    | DisarmAll
    | ListOldServices
    | ShowAtRisk
    | Report
)
Action = Queued | AtOnce


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action; `refused` is the reason where it was not carried out.

    `looked` is what was read for ReadIdleTimes (rows of model.arming.LOOKED) or AskFirewall (of model.firewall.ENTRY).
    """

    action: Action
    refused: Refusal | None = None
    dry_run: bool = False
    armings: tuple[Arming, ...] = ()
    looked: Column | None = None
