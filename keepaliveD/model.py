"""Values, units and names: the language of every other room.

Durations are seconds.
Instants are seconds of CLOCK_MONOTONIC.
An address is a 128-bit number in two halves; IPv4 is written v4-mapped (RFC 4291, 2.5.5.2),
so that one comparison serves both families.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from keepaliveD.errors import Refusal

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

FOREVER = float("inf")

SOCKET = {
    "cookie": "u8",  # identifies the socket for as long as the machine runs
    "cgroup": "u8",  # inode of its cgroup v2 directory, 0 unknown
    "local_high": "u8",
    "local_low": "u8",
    "remote_high": "u8",
    "remote_low": "u8",
    "netns": "u4",  # inode of its network namespace
    "inode": "u4",  # of the socket, as in /proc/PID/fd
    "uid": "u4",
    "interface": "u4",  # index into SocketTable.interfaces, 0 unknown
    "segments_in": "u4",  # or whatever else the system counts that moves when segments do; wrap around
    "segments_out": "u4",
    "keepidle": "u4",  # seconds; its own or its namespace's, 0 unknown ...
    "keepintvl": "u4",  # ... and so these
    "since_sent": "f4",  # seconds, NaN unknown, since data was sent ...
    "since_received": "f4",  # ... or received ...
    "since_acked": "f4",  # ... or acknowledged by the peer
    "expires": "f4",  # seconds until the timer checks, 0 without a timer
    "local_port": "u2",
    "remote_port": "u2",
    "state": "u1",  # TcpState
    "timer": "u1",  # Timer
    "keepalive": "u1",  # Switch
    "keepcnt": "u1",
    "own": "u1",  # Own: which of the three the socket does not take from its namespace
}


def _columns(capacity: int) -> dict[str, Column]:
    """Room for every column, in one piece, which costs fewer page faults; SOCKET is in order of alignment."""
    kinds = {name: np.dtype(kind) for name, kind in SOCKET.items()}
    memory = np.empty(capacity * sum(kind.itemsize for kind in kinds.values()), np.uint8)
    columns, end = {}, 0
    for name, kind in kinds.items():
        start, end = end, end + capacity * kind.itemsize
        columns[name] = memory[start:end].view(kind)
    return columns


class Sockets:
    """Sockets as columns: `sockets["cookie"]` is an array with one element a socket.

    Names, types and units of the columns are those of SOCKET.
    """

    def __init__(self, capacity: int = 0) -> None:
        self._columns = _columns(capacity)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> Column:
        return self._columns[name][: self._size]

    def select(self, mask: Bools) -> Sockets:
        """Those for which `mask` is true."""
        chosen = Sockets()
        chosen._columns = {name: self[name][mask] for name in SOCKET}
        chosen._size = len(chosen._columns["cookie"])
        return chosen

    def extend(self, count: int) -> dict[str, Column]:
        """Room for `count` more: the new, unset end of every column."""
        start, self._size = self._size, self._size + count
        if self._size > len(self._columns["cookie"]):
            smaller, self._columns = self._columns, _columns(2 * self._size)
            for name, column in smaller.items():
                self._columns[name][:start] = column[:start]
        return self.since(start)

    def since(self, start: int) -> dict[str, Column]:
        """The end of every column, from row `start`."""
        return {name: column[start : self._size] for name, column in self._columns.items()}

    def truncate(self, size: int) -> None:
        """Forget all but the first `size`."""
        self._size = size


# A column is compared with the `value` of these: NumPy takes 50 us to understand the enumeration itself.


class TcpState(enum.IntEnum):
    """States in which packets may still flow (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    CLOSE_WAIT = 8


class Timer(enum.IntEnum):
    """Which timer sock_diag shows (net/ipv4/inet_diag.c); the others hide the keepalive timer."""

    OFF = 0
    RETRANSMIT = 1
    KEEPALIVE = 2
    TIMEWAIT = 3
    ZERO_WINDOW = 4
    UNSEEN = 255  # not of sock_diag: this system shows neither timers nor probes


class Switch(enum.IntEnum):
    """Whether a socket has SO_KEEPALIVE, as far as the engine that read it can tell."""

    UNKNOWN = 0
    OFF = 1
    ON = 2


class Own(enum.IntFlag):
    """Which keepalive settings were made on the socket itself."""

    IDLE = 1
    INTERVAL = 2
    PROBES = 4


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


@dataclass(frozen=True, slots=True)
class SocketTable:
    """One snapshot of the host's TCP sockets.

    `complete` is false where the kernel may have left sockets out.
    `unseen` counts network namespaces that could not be entered.
    """

    sockets: Sockets
    taken_at: float
    complete: bool = True
    interfaces: tuple[str, ...] = ("",)
    namespaces: int = 1
    unseen: int = 0

    def __len__(self) -> int:
        return len(self.sockets)


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Keepalive settings: probe after `idle` seconds, then every `interval`, `probes` times."""

    idle: int
    interval: int
    probes: int

    def __str__(self) -> str:
        return f"idle {self.idle}s, interval {self.interval}s, probes {self.probes}"


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


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection among the few that are logged or shown. All times are seconds from now.

    `due_in` is FOREVER where nothing will be sent; `left` is negative once the timeout has passed.
    `confirmed` is false where a packet may have gone by unseen before the watch began.
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


class Because(enum.Enum):
    """Why system settings are written."""

    CONFIGURED = "configured"
    DRIFT = "somebody else had changed it"
    RESTORE = "given back"


@dataclass(frozen=True, slots=True)
class SetSystemKeepalive:
    """Write these sysctls; `found` is what stands there now. Keys are the kernel's names."""

    values: Mapping[str, int]
    found: Mapping[str, int]
    because: Because


@dataclass(frozen=True, slots=True)
class Report:
    """Tell of connections whose outlook changed; `before` is what was last told of each."""

    connections: tuple[Connection, ...]
    before: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class ReportDrift:
    """Tell that somebody else wrote our sysctls, and that it is left so. `yielded`: for good."""

    wanted: Mapping[str, int]
    found: Mapping[str, int]
    yielded: bool


@dataclass(frozen=True, slots=True)
class ReportUnseen:
    """Tell how many network namespaces cannot be watched for want of privilege."""

    namespaces: int


Action = SetSystemKeepalive | Report | ReportDrift | ReportUnseen


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action; `refused` is the reason where it was not carried out."""

    action: Action
    refused: Refusal | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How many connections a scan found, by verdict."""

    total: int
    namespaces: int
    by_verdict: Mapping[Verdict, int] = field(default_factory=dict)
