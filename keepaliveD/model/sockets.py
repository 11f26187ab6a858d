"""Sockets as columns: every socket of a host is a row of arrays, and never an object.

Durations are seconds.
An address is a 128-bit number in two halves; IPv4 is written v4-mapped (RFC 4291, 2.5.5.2),
so that one comparison serves both families.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.firewall import Tracked

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

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
    "since_packet": "f4",  # seconds since the newest packet of either direction, or less; NaN unknown
    "expires": "f4",  # seconds until the timer checks, 0 without a timer
    "slack": "f4",  # seconds by which the keepalive timer may fire later, NaN unknown
    "user_timeout": "u4",  # milliseconds, TCP_USER_TIMEOUT; 0 none, or unknown
    "local_port": "u2",
    "remote_port": "u2",
    "state": "u1",  # TcpState
    "timer": "u1",  # Timer
    "keepalive": "u1",  # Switch
    "keepcnt": "u1",
    "own": "u1",  # model.Own: which of the three the socket does not take from its namespace
    "retransmits": "u1",  # of data that the peer has not acknowledged
    "probes": "u1",  # keepalive or zero-window probes that the peer has not answered
    "subflow": "u1",  # 1 for a subflow of an MPTCP connection that this engine cannot arm; 0 others, or unknown
}

FIRST = 1024  # rows in which most columns that differ do
FEW = 500  # rows: less memory than that costs less than to compare columns


def _columns(capacity: int) -> dict[str, Column]:
    """Room for every column, in one piece, which costs fewer page faults; SOCKET is in order of alignment."""
    kinds = {name: np.dtype(kind) for name, kind in SOCKET.items()}
    memory = np.empty(capacity * sum(kind.itemsize for kind in kinds.values()), np.uint8)
    columns, end = {}, 0
    for name, kind in kinds.items():
        start, end = end, end + capacity * kind.itemsize
        columns[name] = memory[start:end].view(kind)
    return columns


def _are_equal(column: Column) -> bool:
    """Return whether a column holds one value in all rows, bit by bit: NaN does not equal itself."""
    if column.strides == (0,) or not len(column):
        return len(column) > 0
    bits = column.view(f"u{column.itemsize}")
    return bool(bits[0] == bits[-1]) and bool((bits[:FIRST] == bits[0]).all()) and bool((bits == bits[0]).all())


def _hold_the_same(one: Column, other: Column) -> bool:
    """Return whether two columns of one table hold the same values, bit by bit."""
    if one.dtype != other.dtype or other.strides == (0,):
        return False
    bits, others = (column.view(f"u{column.itemsize}") for column in (one, other))
    return np.array_equal(bits[:FIRST], others[:FIRST]) and np.array_equal(bits, others)


def is_any(column: Column, values: Iterable[enum.IntEnum]) -> Bools:
    """Return where a column holds one of a few values: to compare it with each takes a tenth of looking each up."""
    some = column[:1] if column.strides == (0,) else column  # one value in all rows: NumPy would take long
    found = np.zeros(len(some), np.bool_)
    for each in values:
        found |= some == each.value
    return found if some is column else np.repeat(found, len(column))


def shrunk(column: Column, others: Iterable[Column] = ()) -> Column:
    """Return the same column in less memory, if it holds one value in all rows, or what one of the others does.

    It is that other one then, or read-only: whoever changes a column copies it before. One of a few rows stays.
    """
    if len(column) < FEW:
        return column
    if _are_equal(column):
        return np.broadcast_to(column[:1].copy(), len(column))
    return next((other for other in others if _hold_the_same(column, other)), column)


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

    def __getstate__(self) -> tuple[int, dict[str, Column]]:
        """The rows alone, for another process: of a column of equal values, one value."""
        columns = {name: self[name] for name in SOCKET}
        return self._size, {name: each[:1] if _are_equal(each) else each for name, each in columns.items()}

    def __setstate__(self, state: tuple[int, dict[str, Column]]) -> None:
        self._size, columns = state
        self._columns = {
            name: each if len(each) == self._size else np.broadcast_to(each, self._size)
            for name, each in columns.items()
        }

    def select(self, rows: Bools | Indices) -> Sockets:
        """These, given by number or as a mask."""
        chosen = Sockets()
        chosen._size = len(self["cookie"][rows])
        chosen._columns = {
            name: np.broadcast_to(each[: chosen._size][:1], chosen._size) if each.strides == (0,) else each[rows]
            for name, each in ((name, self[name]) for name in SOCKET)
        }
        return chosen

    def extend(self, count: int) -> dict[str, Column]:
        """Room for `count` more: the new, unset end of every column."""
        start, self._size = self._size, self._size + count
        if self._size > len(self._columns["cookie"]):
            smaller, self._columns = self._columns, _columns(2 * self._size)
            for name, column in smaller.items():
                self._columns[name][:start] = column[:start]
        return self.since(start)

    def append(self, others: Sockets) -> None:
        """Append others."""
        for name, column in self.extend(len(others)).items():
            column[:] = others[name]

    def since(self, start: int) -> dict[str, Column]:
        """The end of every column, from row `start`."""
        return {name: column[start : self._size] for name, column in self._columns.items()}

    def retain(self, rows: Bools) -> None:
        """Forget all but these, given as a mask."""
        size = int(np.count_nonzero(rows))
        for column in self._columns.values():
            column[:size] = column[: self._size][rows]
        self._size = size

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


OWN = 0  # our own network namespace, where only others are named by inode, or where there are none


class Unwatched(NamedTuple):
    """The network namespaces that are not watched: some may not be entered, some are too many, some do not answer.

    `hidden`: there are processes of which not even the namespace can be seen.
    `crowded`: those, by inode, of which sockets may be missing because too many share a bucket of their table.
    `incomplete`: those, by inode or OWN, of which sockets are missing because the kernel told of fewer than it counts,
    or refused.
    """

    forbidden: int = 0
    surplus: int = 0
    hidden: bool = False
    silent: tuple[int, ...] = ()
    crowded: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()


ALL_WATCHED = Unwatched()


@dataclass(frozen=True, slots=True)
class SocketTable:
    """One scan of the host's TCP sockets.

    Its rows were read between the instant `taken_at` and `reading` seconds later.
    `asleep` is how many seconds the machine was suspended since the scan before, which the ages do not count.
    `complete` is false where the kernel may have left sockets out.
    `unwatched` says which network namespaces are missing.
    `read` are the network namespaces, by inode, of which all sockets were read; `unread` are all others that exist, or
    None where others may exist. Both are empty on systems without network namespaces.
    `engine_description` says how they were read, and what hinders a better way.
    `firewall_timeout` is the idle timeout of this host's own firewall; FOREVER if it tracks no connection.
    `tracked` says how full this host's own firewall is, in each network namespace in which it was asked.
    `netns` is our own network namespace, as its rows have it.
    `changed_idle_time` are the network namespaces whose setting of the idle time is another one than at the scan
    before, where the engine does not read the settings of sockets.
    """

    sockets: Sockets
    taken_at: float
    complete: bool = True
    interfaces: tuple[str, ...] = ("",)
    namespaces: int = 1
    unwatched: Unwatched = ALL_WATCHED
    engine_description: str = ""
    reading: float = 0.0
    asleep: float = 0.0
    firewall_timeout: float = FOREVER
    tracked: tuple[Tracked, ...] = ()
    netns: int = OWN
    changed_idle_time: tuple[int, ...] = ()
    read: tuple[int, ...] = ()
    unread: tuple[int, ...] | None = ()

    @property
    def is_whole(self) -> bool:
        """Whether no socket is missing, as far as the system shows."""
        return self.complete and self.unwatched == ALL_WATCHED

    def shows_ends(self, netns: Column) -> Bools:
        """Return for each of these namespaces (OWN if not known) whether its sockets that are not here have ended."""
        ends = np.isin(netns, self.read) if self.unread is None else ~np.isin(netns, self.unread)
        ends[netns == OWN] = self.is_whole
        return ends

    @property
    def read_by(self) -> float:
        """The instant at which the last row was read."""
        return self.taken_at + self.reading

    def __len__(self) -> int:
        return len(self.sockets)
