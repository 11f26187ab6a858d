"""Values, units and names: the language of every other room.

Durations are seconds.
Instants are seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from keepaliveD.errors import Refusal

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

FOREVER = float("inf")

MAX_IDLE = 32767  # seconds, TCP_KEEPIDLE and TCP_KEEPINTVL (MAX_TCP_KEEPIDLE, include/net/tcp.h)
MAX_PROBES = 127  # TCP_KEEPCNT (MAX_TCP_KEEPCNT)


class Shown(enum.Enum):
    """What sock_diag shows of a socket's keepalive; another timer hides that of keepalive."""

    OFF = "off"
    ON = "on"
    HIDDEN = "hidden"


class Due(enum.IntEnum):
    """What the next packet of a connection will be."""

    NOTHING = 0
    KEEPALIVE = 1
    RETRANSMIT = 2
    ZERO_WINDOW = 3
    PEER = 4  # the peer probes: foretold from its rhythm

    @property
    def label(self) -> str:
        """The name that people and the journal see."""
        return _DUE_LABELS[self]


_DUE_LABELS = {
    Due.NOTHING: "nothing",
    Due.KEEPALIVE: "keepalive",
    Due.RETRANSMIT: "retransmit",
    Due.ZERO_WINDOW: "zero-window probe",
    Due.PEER: "the peer's probe",
}


class Verdict(enum.IntEnum):
    """What will become of a connection if its programs stay quiet."""

    UNKNOWN = 0  # its timeout, its idle time or its keepalive is not known
    SAFE = 1  # a packet is due before the cut
    LATE = 2  # a packet is due, but after the cut
    BARE = 3  # nothing will ever be sent
    CUT = 4  # idle for longer than the timeout: presumed forgotten

    @property
    def label(self) -> str:
        """The name that people and the journal see."""
        return self.name.lower()


AT_RISK = frozenset({Verdict.LATE, Verdict.BARE, Verdict.CUT})


class Keepalive(NamedTuple):
    """Keepalive settings: probe after `idle` seconds, then every `interval`, `probes` times."""

    idle: int
    interval: int
    probes: int

    def __str__(self) -> str:
        return f"idle {self.idle}s, interval {self.interval}s, probes {self.probes}"


class SocketKeepalive(NamedTuple):
    """Keepalive of one socket: whether it is on, and the times that hold when it is."""

    on: bool
    times: Keepalive

    def __str__(self) -> str:
        return str(self.times) if self.on else "off"


class Own(enum.IntFlag):
    """Some of the three keepalive settings: of a socket, those that it has of its own, or takes from its namespace."""

    IDLE = 1
    INTERVAL = 2
    PROBES = 4
    UNTOLD = 8  # which of them is not known: of records in an earlier format


ALL = Own.IDLE | Own.INTERVAL | Own.PROBES
NONE = Own(0)


@dataclass(frozen=True, slots=True)
class Path:
    """What lies between this host and others: whom it concerns, and when it forgets.

    `timeout` is in seconds, FOREVER for a path that does not forget; `origin` says who told.
    An empty selector matches everything.
    """

    name: str
    timeout: float
    origin: str
    networks: tuple[IPNetwork, ...] = ()
    ports: tuple[int, ...] = ()
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection; v4-mapped addresses are shown as IPv4."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a socket, as far as this process may look. Text is printable."""

    pid: int = 0
    process: str = ""
    unit: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection among the few that are logged or shown. All times are seconds from now.

    `due_in` is FOREVER where nothing will be sent; `left` is negative once the timeout has passed.
    `confirmed` is false where a packet may have gone by unseen before the watch began.
    `path` and `origin` are empty where no configuration was read.
    """

    cookie: int
    netns: int
    inode: int
    uid: int
    cgroup: int
    local: Endpoint
    remote: Endpoint
    state: str
    keepalive: Shown
    verdict: Verdict
    due: Due
    due_in: float
    idle: float
    left: float
    keepidle: float
    path: str
    timeout: float
    origin: str
    confirmed: bool
    owner: Owner = Owner()


class ArmAction(enum.Enum):
    """How far a rule goes with the sockets of other programs."""

    OBSERVE = "observe"  # nothing is touched
    REARM = "rearm"  # of those with keepalive on, timers that older settings had armed
    ENABLE = "enable"  # also switches keepalive on, and shortens what is too long


@dataclass(frozen=True, slots=True)
class ArmRule:
    """Which sockets of other programs are armed, and how. An empty selector matches everything.

    `units`, `processes`, `containers` and `paths` are patterns as in fnmatch(3).
    Without `idle` it is the longest that fits the path.
    """

    name: str
    action: ArmAction
    idle: int | None
    interval: int
    probes: int
    units: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    users: tuple[int, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    ports: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def asks_for_owner(self) -> bool:
        """Whether one must know who holds a socket to tell if it is meant."""
        return bool(self.units or self.processes or self.containers)


@dataclass(frozen=True, slots=True)
class Wish:
    """A rule that concerns a connection, if its owner is one that the rule means; with the times to set."""

    rule: ArmRule
    times: Keepalive


@dataclass(frozen=True, slots=True)
class FoundSettings:
    """The system's settings at one look. Keys are the kernel's names.

    `without_us` is what would stand if this program had never run.
    `troubles` are what is wrong with the settings record now, a line each.
    """

    stands: Mapping[str, int] = field(default_factory=dict)
    without_us: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()


class Because(enum.Enum):
    """Why system settings are written."""

    CONFIGURED = "configured"
    DRIFT = "somebody else had changed it"
    RESTORE = "restored"


@dataclass(frozen=True, slots=True)
class SetSystemKeepalive:
    """Write these sysctls; `found` is what stands there now. Keys are the kernel's names.

    Nothing is said of those in `quiet`, nor of a refusal with one of the texts in `refused_before`.
    """

    values: Mapping[str, int]
    found: Mapping[str, int]
    because: Because
    quiet: frozenset[str] = frozenset()
    refused_before: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something that happened `count` times within so many seconds; `last` is the value then."""

    count: int
    last: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Report connections whose outlook changed.

    `before` is what was last told of each, `unsaid` how often it changed since then without a word.
    """

    connections: tuple[Connection, ...]
    before: tuple[Verdict, ...]
    unsaid: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportDrift:
    """Tell that somebody else wrote our sysctls, and that it is left so. `yielded`: for good."""

    wanted: Mapping[str, int]
    found: Mapping[str, int]
    yielded: bool


class Unseen(NamedTuple):
    """The network namespaces that are not watched: some may not be entered, some are too many.

    `hidden`: there are processes of which not even the namespace can be seen.
    """

    forbidden: int = 0
    surplus: int = 0
    hidden: bool = False


NONE_UNSEEN = Unseen()


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
class ReportUnseen:
    """Report which network namespaces are not watched."""

    unseen: Unseen


@dataclass(frozen=True, slots=True)
class Arm:
    """Give each of these connections the keepalive of the first of `wishes` that its owner suits.

    By hand that is also done where somebody has set it since we armed it.
    `last` is false where those whose holders are not found will be asked for again.
    """

    connections: tuple[Connection, ...]
    wishes: tuple[Wish, ...]
    by_hand: bool = False
    last: bool = True


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
class Disarm:
    """Put back what stood in these sockets before they were armed."""

    connections: tuple[Connection, ...]


Action = (
    SetSystemKeepalive
    | Arm
    | ReportArmed
    | Disarm
    | Report
    | ReportDrift
    | ReportRewriter
    | ReportStricter
    | ReportNotRestored
    | ReportRecord
    | ReportUnseen
)


class Fate(enum.Enum):
    """What became of a socket that was to be armed or disarmed."""

    ARMED = "armed"
    ARMED_AT_CONNECT = "armed at connect"
    DISARMED = "disarmed"  # the earlier settings were put back
    WOULD = "would be armed"  # a dry run
    OBSERVED = "left alone by its rule"
    ENOUGH = "already set"
    OWN = "kept by program"
    TOO_LONG = "too long for the path"
    USER_TIMEOUT = "its TCP_USER_TIMEOUT would let an outage end it sooner"
    SET_AGAIN = "changed since"
    CHANGED = "changed at the same moment"
    GONE = "closed"
    SUBFLOW = "subflow of an MPTCP connection"  # its program has no descriptor of it
    UNHELD = "owner not found"
    UNSEEN = "owner not visible"  # there are processes that we may not look into
    NOT_PERMITTED = "not permitted"
    OTHER_USER_NAMESPACE = "owner in another user namespace"
    FAILED = "failed"


# Worth another try: a socket may be on its way from one process to another, and a failure may pass.
RETRIED = frozenset({Fate.GONE, Fate.UNHELD, Fate.UNSEEN, Fate.FAILED})


@dataclass(frozen=True, slots=True)
class Arming:
    """What became of these sockets, of all the same: `after` is what stands there now, as it was read back."""

    connections: tuple[Connection, ...]
    fate: Fate
    before: SocketKeepalive | None = None
    after: SocketKeepalive | None = None


class Armed(NamedTuple):
    """How sockets were armed: what they had before, and what was set.

    Of the three times before, they took those that were `inherited` from their network namespace.
    """

    before: SocketKeepalive
    after: SocketKeepalive
    inherited: Own = NONE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action; `refused` is the reason where it was not carried out.

    `repeated`: the same action was last refused for the same reason.
    """

    action: Action
    refused: Refusal | None = None
    dry_run: bool = False
    armings: tuple[Arming, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How many connections a scan found, by verdict."""

    total: int
    namespaces: int
    by_verdict: Mapping[Verdict, int] = field(default_factory=dict)
