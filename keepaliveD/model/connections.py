"""One connection: its ends, its owner, what comes next, and the verdict."""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin


class Due(enum.IntEnum):
    """What the next packet of a connection will be, or that its kernel gives it up before."""

    NOTHING = 0
    KEEPALIVE = 1
    RETRANSMIT = 2
    ZERO_WINDOW = 3
    PEER = 4  # the peer probes: foretold from its rhythm
    END = 5  # no packet that matters: the peer answers nothing, and the kernel ends the connection unless it does

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
    Due.END: "end",
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


class WhatCounts(enum.Enum):
    """What keeps a path from forgetting a connection."""

    PACKETS = "packets"  # all of them, keepalive probes too
    DATA = "data"  # bytes alone: keepalive does not help


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


def grouping_unit(unit: str) -> str:
    """Return the unit by which connections are grouped and counted: "" of a login session, which is its user's.

    A user may have any number of sessions.
    """
    return "" if unit.startswith("session-") and unit.endswith(".scope") else unit


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection among the few that are logged or shown. All times are seconds from now.

    `due_in` is FOREVER where nothing will be sent; `left` is negative once the timeout has passed.
    `confirmed` is false where a packet may have gone by unseen before the watch began.
    `subflow` is true for one of an MPTCP connection that the engine in use cannot arm.
    `path` is empty where no configuration was read. `unanswered_after` is the silence after which the first packet
    left that is not answered, at most; FOREVER where every packet is, or that is not known.
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
    origin: Origin
    confirmed: bool
    counts: WhatCounts = WhatCounts.PACKETS
    subflow: bool = False
    unanswered_after: float = FOREVER
    owner: Owner = Owner()

    @property
    def rests_on_guess(self) -> bool:
        """Whether it is safe only if the timeout of its path is as long as it is guessed to be."""
        return self.verdict is Verdict.SAFE and self.origin.guessed and self.timeout != FOREVER

    def with_owner(self, owner: Owner) -> Connection:
        """Return the same connection with this owner: dataclasses.replace() takes more than twice the time."""
        fields: list[Any] = [*_ALL_BUT_OWNER(self), owner]
        return Connection(*fields)


_ALL_BUT_OWNER = operator.attrgetter(*[each.name for each in dataclasses.fields(Connection)[:-1]])


@dataclass(frozen=True, slots=True)
class Counts:
    """How many connections a scan found, by verdict; `guessed` of the safe ones are so by a guessed idle timeout."""

    total: int
    namespaces: int
    by_verdict: Mapping[Verdict, int] = field(default_factory=dict)
    guessed: int = 0
