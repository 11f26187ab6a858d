"""What conntrack remembers of connections, asked for each by its addresses.

A dump would walk the table of all namespaces, some 250,000 buckets; one entry is found by its hash, in 11 us.
Sources: include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_conntrack_tcp.h;
net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from functools import partial
from io import FileIO

import numpy as np

from keepaliveD.model.errors import KernelError
from keepaliveD.model.firewall import ENTRY, Tracked
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import touching
from keepaliveD.platforms.clock import now
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf.conntrack import BpfConntrack
from keepaliveD.platforms.touching import Kind

NETLINK_NETFILTER = 12
CT_NEW, CT_GET = 0x100, 0x101  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET
NLM_F_REQUEST = 0x001
NESTED, TYPE_MASK = 0x8000, 0x3FFF
TUPLE_ORIG, PROTOINFO, TIMEOUT = 1, 4, 7  # enum ctattr_type
TUPLE_IP, TUPLE_PROTO = 1, 2
V4_SOURCE, V4_DESTINATION, V6_SOURCE, V6_DESTINATION = 1, 2, 3, 4
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
PROTOINFO_TCP, TCP_STATE = 1, 1
ESTABLISHED = 3  # TCP_CONNTRACK_ESTABLISHED

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
FAMILY = struct.Struct("=BBH")  # struct nfgenmsg: family, version, resource
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
BODY = HEADER.size + FAMILY.size
ANSWER = 4096  # bytes, more than one entry has
AT_ONCE = 64  # answers that a socket's buffer surely holds
V4_MAPPED = 0xFFFF


def _attribute(kind: int, value: bytes) -> bytes:
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _question(family: int, source: int, destination: int, address: bytes) -> bytes:
    """Return a question in which number, addresses and ports are to be filled in: to make each anew takes longer."""
    addresses = _attribute(source, address) + _attribute(destination, address)
    ports = _attribute(NUMBER, bytes([socket.IPPROTO_TCP]))
    ports += _attribute(SOURCE_PORT, bytes(2)) + _attribute(DESTINATION_PORT, bytes(2))
    tuple_ = _attribute(TUPLE_IP | NESTED, addresses) + _attribute(TUPLE_PROTO | NESTED, ports)
    body = FAMILY.pack(family, 0, 0) + _attribute(TUPLE_ORIG | NESTED, tuple_)
    return HEADER.pack(HEADER.size + len(body), CT_GET, NLM_F_REQUEST, 0, 0) + body


V4 = _question(socket.AF_INET, V4_SOURCE, V4_DESTINATION, bytes(4))
V6 = _question(socket.AF_INET6, V6_SOURCE, V6_DESTINATION, bytes(16))
SEQUENCE = slice(8, 12)  # where the number is in a question
ADDRESS = BODY + 3 * ATTRIBUTE.size  # where the first address begins; the second one is an attribute after it
SOURCE, DESTINATION = slice(-12, -10), slice(-4, -2)  # where the ports are

SETTINGS = "/proc/sys/net/netfilter/nf_conntrack_"  # of the namespace in which a file is opened
REPLACING = ("tcp_timeout_max_retrans", "tcp_timeout_unacknowledged")
LARGEST = 32  # bytes of a number there
MOST = 64  # namespaces kept open


def nothing_faster() -> None:
    """Ask by netlink alone."""


class Conntrack:
    """Asks the connection tracking of network namespaces, each through a netlink socket of its own."""

    def __init__(self, own: int, load: Callable[[], BpfConntrack | None] = nothing_faster) -> None:
        """`own` is the namespace of the calling thread, which may translate addresses for the others.

        What `load` returns at the first question is asked in place of netlink, as long as it works.
        """
        self._own = own
        self._load = load
        self._bpf: BpfConntrack | None = None
        self._settings: Settings | None = None
        self._trackers: dict[int, Tracker | None] = {}  # None: it cannot be asked

    def ask(self, flows: Column, paths: Mapping[int, str]) -> Column:
        """Return what is remembered of each connection, in its own namespace or the host's: what ends sooner.

        `paths` leads to each namespace. One that cannot be asked has no entries.
        """
        answers = np.zeros(len(flows), ENTRY)
        for netns in np.unique(flows["netns"]).tolist():
            rows = np.flatnonzero(flows["netns"] == netns)
            for where in {netns, self._own}:
                tracker = self._tracker(where, paths)
                if tracker and tracker.settings.tracks:
                    with contextlib.suppress(KernelError):
                        found = self._ask(tracker, where, flows[rows], paths)
                        found["timeout"][found["forgets_in"] <= tracker.settings.replacing] = np.nan
                        _keep_sooner(answers, rows, found)
        if len(self._trackers) > MOST:
            self.close()
        return answers

    def timeout(self) -> float:
        """Return after how long this host's own connection tracking forgets; infinite if it tracks nothing."""
        with contextlib.suppress(OSError):
            self._settings = self._settings or Settings()
        return self._settings.timeout if self._settings and self._settings.tracks else float("inf")

    def tracked(self) -> tuple[Tracked, ...]:
        """Return how many connections are tracked in our own namespace, and in those that were asked."""
        others = ((netns, tracker.settings) for netns, tracker in self._trackers.items() if tracker)
        known = [(0, self._settings), *((netns, settings) for netns, settings in others if netns != self._own)]
        return tuple(Tracked(netns, settings.count, settings.most) for netns, settings in known if settings)

    def leave(self, netns: int) -> None:
        """Let go of the namespace, which an open socket keeps alive."""
        if tracker := self._trackers.pop(netns, None):
            tracker.close()

    def close(self) -> None:
        """Let go of all namespaces."""
        for netns in list(self._trackers):
            self.leave(netns)
        if self._settings:
            self._settings.close()
        self._settings = None

    def end(self) -> None:
        """Let go of everything, also of what the kernel keeps for us."""
        self.close()
        if self._bpf:
            self._bpf.close()
        self._bpf, self._load = None, nothing_faster

    def _ask(self, tracker: Tracker, where: int, flows: Column, paths: Mapping[int, str]) -> Column:
        """Return an ENTRY for each of these connections, by the faster way that works. Raises KernelError."""
        self._bpf, self._load = self._bpf or self._load(), nothing_faster
        if self._bpf is None:
            return tracker.ask(flows)
        answers = tracker.nothing_found(len(flows))
        try:
            if where == self._own:
                self._bpf.ask(flows, answers)
            else:
                touching.now(Kind.NAMESPACE, where)
                namespaces.inside(paths[where], where, partial(self._bpf.ask, flows, answers))
        except KernelError:
            self._bpf.close()
            self._bpf = None
            return tracker.ask(flows)
        except (OSError, KeyError):  # the namespace is gone
            return tracker.nothing_found(len(flows))
        return answers

    def _tracker(self, netns: int, paths: Mapping[int, str]) -> Tracker | None:
        """Return that of this namespace, which is entered the first time."""
        if netns not in self._trackers:
            self._trackers[netns] = None
            with contextlib.suppress(OSError, KeyError):
                touching.now(Kind.NAMESPACE, netns)
                here = netns == self._own
                self._trackers[netns] = Tracker() if here else namespaces.inside(paths[netns], netns, Tracker)
        return self._trackers[netns]


def _keep_sooner(answers: Column, rows: Column, found: Column) -> None:
    """Put what was found in the place of answers that end later, or are none."""
    before = answers[rows]
    better = found["found"] & (~before["found"] | (found["forgets_in"] < before["forgets_in"]))
    answers[rows[better]] = found[better]


class Settings:
    """The settings of the network namespace of the thread that makes this."""

    def __init__(self) -> None:
        """Raises OSError: the kernel tracks no connections."""
        with contextlib.ExitStack() as stack:
            self._count, self._most, self._timeout, self._loose, *self._replacing = (
                stack.enter_context(FileIO(f"{SETTINGS}{name}"))
                for name in ("count", "max", "tcp_timeout_established", "tcp_loose", *REPLACING)
            )
            self._files = stack.pop_all()

    def close(self) -> None:
        """Close them."""
        self._files.close()

    @property
    def tracks(self) -> bool:
        """Whether there is any connection that it tracks."""
        return self.count > 0

    @property
    def count(self) -> int:
        """How many connections it tracks."""
        return _number(self._count)

    @property
    def most(self) -> int:
        """How many it can track; 0 if that is not known."""
        return _number(self._most)

    @property
    def timeout(self) -> float:
        """Seconds without a packet after which it forgets a connection."""
        return float(_number(self._timeout))

    @property
    def replacing(self) -> float:
        """Seconds left from which on another timeout than that may apply to an established connection; -1 for none.

        It is a shorter one while data is not acknowledged, or a window is closed: tcp_packet in
        net/netfilter/nf_conntrack_proto_tcp.c.
        """
        return max(filter(self.timeout.__gt__, map(_number, self._replacing)), default=-1)

    @property
    def picks_up(self) -> bool:
        """Whether it remembers a connection anew in the midst of it."""
        return _number(self._loose) > 0


class Tracker:
    """The connection tracking of the network namespace of the thread that makes this.

    It is made only where a connection is to be asked about: the kernel may load a module for it.
    """

    def __init__(self) -> None:
        """Raises OSError: the kernel has none, or it may not be asked."""
        self.settings = Settings()
        with contextlib.ExitStack() as stack:
            stack.callback(self.settings.close)
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = stack.enter_context(socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER))
            self._socket.connect((0, 0))
            self._socket.setblocking(False)
            self._open = stack.pop_all()

    def close(self) -> None:
        """Let go of the namespace."""
        self._open.close()

    def nothing_found(self, count: int) -> Column:
        """Return so many ENTRYs, in which an answer is still to be filled in."""
        answers = np.zeros(count, ENTRY)
        answers["timeout"], answers["picks_up"] = self.settings.timeout, self.settings.picks_up
        return answers

    def ask(self, flows: Column) -> Column:
        """Return an ENTRY for each of these connections. Raises KernelError."""
        answers = self.nothing_found(len(flows))
        requests = [_request(number, flow) for number, flow in enumerate(flows.tolist())]
        try:
            for start in range(0, len(requests), AT_ONCE):
                some = requests[start : start + AT_ONCE]
                self._socket.send(b"".join(some))
                touching.on()
                answers["asked_at"][start : start + AT_ONCE] = now()
                for _ in some:
                    take(self._socket.recv(ANSWER), answers)
        except OSError as error:
            raise KernelError(f"conntrack: {error.strerror}") from error
        return answers


def take(message: bytes, answers: Column) -> None:
    """Put an answer into its row; an error is none: there is no such entry."""
    length, kind, _, row, _ = HEADER.unpack_from(message)
    if kind != CT_NEW:
        return
    whole = BODY, min(length, len(message))
    begin, end = _place(message, whole, TIMEOUT)
    if begin == end:  # its packets pass conntrack by (IPS_OFFLOAD): the entry says nothing
        return
    answers["found"][row] = True
    answers["forgets_in"][row] = forgets_in = int.from_bytes(message[begin:end], "big")
    if _state(message, (end, whole[1])) != ESTABLISHED or forgets_in > answers["timeout"][row]:
        answers["timeout"][row] = np.nan  # another timeout applies: by a policy, or while data is not acknowledged


def _state(message: bytes, place: tuple[int, int]) -> int:
    """Return the state in what follows the timeout, as ctnetlink_dump_info writes it; 0 if there is none."""
    for kind in (PROTOINFO, PROTOINFO_TCP, TCP_STATE):
        place = _place(message, place, kind)
    begin, end = place
    return message[begin] if begin < end else 0


def _number(file: FileIO) -> int:
    try:
        return int(os.pread(file.fileno(), LARGEST, 0))
    except (OSError, ValueError):
        return 0


def _request(number: int, flow: tuple[int, ...]) -> bytes:
    """Return the question for the entry of this flow, in whichever direction."""
    local_high, local_low, remote_high, remote_low, _, local_port, remote_port = flow
    if local_high == 0 and local_low >> 32 == V4_MAPPED:
        question, size = bytearray(V4), 4
        local, remote = local_low & 0xFFFF_FFFF, remote_low & 0xFFFF_FFFF
    else:
        question, size = bytearray(V6), 16
        local, remote = local_high << 64 | local_low, remote_high << 64 | remote_low
    question[SEQUENCE] = number.to_bytes(4, sys.byteorder)
    question[ADDRESS : ADDRESS + size] = local.to_bytes(size, "big")
    question[ADDRESS + size + ATTRIBUTE.size : ADDRESS + size + ATTRIBUTE.size + size] = remote.to_bytes(size, "big")
    question[SOURCE], question[DESTINATION] = local_port.to_bytes(2, "big"), remote_port.to_bytes(2, "big")
    return bytes(question)


def _place(message: bytes, within: tuple[int, int], wanted: int) -> tuple[int, int]:
    """Return where the value of this attribute begins and ends, of those within a place; no octets if it is missing.

    To take all attributes apart takes 10 us an entry, as long as the kernel needs to find it.
    """
    begin, end = within
    while begin + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(message, begin)
        if kind & TYPE_MASK == wanted:
            return begin + ATTRIBUTE.size, min(begin + max(length, ATTRIBUTE.size), end)
        begin += (max(length, ATTRIBUTE.size) + 3) & ~3
    return end, end
