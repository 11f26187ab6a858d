"""Packets that begin, end or reset TCP connections, as they arrive in our own network namespace, without BPF.

Nobody says whether TCP accepted a packet: whoever knows the addresses and ports can forge one. So what began a
connection is kept, from whose sequence number it follows which number a reset must have.
Source: packet(7), RFC 791, 8200, 9293, 5961.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from keepaliveD.platforms import clock
from keepaliveD.platforms.linux.deaths import filters
from keepaliveD.threads import Task

FIN, SYN, RST, ACK = 1, 2, 4, 16
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
IPV6, TCP = 40, 20  # octets of a header
LONGEST = 128  # octets that are read of a packet: its headers, most of them
MOST = 512  # packets that are read at once from each socket
KEPT = 8_192  # connections of which a beginning is kept, and as many of which an end is
RESETS = 8  # of one connection that are kept, the newest
V4_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
TIMESTAMPS = bytes((1, 1, 8, 10))  # how all common systems write their only option
LONGEST_CLOSE = 10.0  # seconds
LOOPBACK = "lo"
SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h
STAMP = struct.Struct("@ll")  # struct timespec
ROOM_FOR_STAMP = socket.CMSG_SPACE(STAMP.size)
TO_US = 0  # PACKET_HOST
SOL_PACKET, PACKET_STATISTICS = 263, 6
STATISTICS = struct.Struct("=II")  # struct tpacket_stats
LOOPBACK_NUMBER = 1  # of the interface, in every network namespace

TCP_OVER_IPV4: filters.Tests = (
    filters.Test(((filters.LOAD_BYTE, 9),), filters.JUMP_IF, socket.IPPROTO_TCP),
    filters.Test(((filters.LOAD_HALF, 6),), filters.JUMP_IF_ANY, 0x1FFF, wanted=False),  # no later fragment
    filters.Test(((filters.LOAD_IHL, 0), (filters.LOAD_BYTE_AT, 13)), filters.JUMP_IF_ANY, FIN | SYN | RST),
)
TCP_OVER_IPV6: filters.Tests = (
    filters.Test(((filters.LOAD_BYTE, 6),), filters.JUMP_IF, socket.IPPROTO_TCP),
    filters.Test(((filters.LOAD_BYTE, IPV6 + 13),), filters.JUMP_IF_ANY, FIN | SYN | RST),
)
OVER_NETWORK: filters.Tests = (
    filters.Test(((filters.LOAD_WORD, filters.INTERFACE),), filters.JUMP_IF, LOOPBACK_NUMBER, wanted=False),
)
# after these the accumulator has the flags
BEGINNING: filters.Tests = (filters.Test(((filters.AND, FIN | SYN | RST),), filters.JUMP_IF, SYN),)
CLOSING: filters.Tests = (filters.Test(((filters.AND, FIN | RST),), filters.JUMP_IF, FIN),)
RESETTING: filters.Tests = (filters.Test((), filters.JUMP_IF_ANY, RST),)

Key = bytes
KEY = struct.Struct("!HHQQQQ")  # the port of this end, that of the other end, and the addresses likewise


class Packet(NamedTuple):
    """A packet of the peer's."""

    number: int  # its sequence number
    behind: int  # the one after its last octet
    flags: int
    window: int
    timestamps: bool
    at: float = 0.0
    ttl: int = 0
    id: int = 0
    label: int = 0
    local: bool = False  # it came over the loopback interface
    acknowledged: int = 0  # the number of this end that it expects next


class Begun(NamedTuple):
    """The packet of the peer that began a connection."""

    number: int  # its sequence number
    ttl: int
    connects: bool  # whether this host connected
    at: float
    acknowledged: int = 0  # the number of this end that it expects next, if this host connected


@dataclass(slots=True)
class Ended:
    """What may have ended a connection."""

    resets: tuple[Packet, ...] = ()
    fin: Packet | None = None
    syn: Packet | None = None  # in the middle of the connection


class Found(NamedTuple):
    """What is known of a connection."""

    begun: Begun | None
    resets: tuple[Packet, ...]
    fin: Packet | None
    syn: Packet | Begun | None


Value = TypeVar("Value")
Parse = Callable[[bytes, float, bool], tuple[Key, Packet]]


class Closing(Protocol):
    """A socket, as far as it can be closed."""

    def close(self) -> None:
        """Close it."""


class Packets:
    """What began and what may have ended each connection. `hindered` says why this is not known, or "".

    What any user of this host can make over loopback waits and is remembered apart: no flood of it hides a packet of
    the network.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        """Listen, if that is wanted and as far as this process may."""
        self.hindered = "" if wanted else "packets are not read"
        self._links = (Link(), Link())  # the network and loopback
        try:
            for link, interface in zip(self._links, ("", LOOPBACK), strict=True):
                if wanted:
                    link.listen(interface)
        except OSError as error:
            self.close()
            self.hindered = f"packets cannot be read: {error.strerror}"

    @property
    def sockets(self) -> list[socket.socket]:
        """Return those that can be read from once something has come."""
        return [each for link in self._links for each in link.sockets]

    def read(self) -> int:
        """Take in what has come since; return how many resets found no room."""
        return sum(link.read() for link in self._links)

    def take(self, key: Key) -> Found:
        """Return what is known of this connection, and forget it: a reset may come over loopback all the same."""
        network, loopback = (link.take(key) for link in self._links)
        resets = sorted((*network.resets, *loopback.resets), key=lambda packet: packet.at)
        begun, fin, syn = network.begun or loopback.begun, network.fin or loopback.fin, network.syn or loopback.syn
        return Found(begun, tuple(resets), fin, syn)

    def close(self) -> None:
        """Listen no more."""
        close_together(self.sockets)
        for link in self._links:
            link.forget_sockets()


class Link:
    """What began and what may have ended connections over some of the interfaces."""

    def __init__(self) -> None:
        self.begun: OrderedDict[Key, Begun] = OrderedDict()
        self.ended: OrderedDict[Key, Ended] = OrderedDict()
        self._open: list[tuple[Parse, socket.socket]] = []
        self._of_resets: list[socket.socket] = []

    @property
    def sockets(self) -> list[socket.socket]:
        """Return those that can be read from once something has come."""
        return [each for _, each in self._open]

    def listen(self, interface: str) -> None:
        """Receive what comes over this interface, or over all but loopback. Raises OSError."""
        over = () if interface else OVER_NETWORK
        for protocol, before, parse in KINDS:
            for flags in (BEGINNING, CLOSING, RESETTING):  # so that none of these takes the room of another
                program = filters.accept_if(*over, *before, *flags, octets=LONGEST)
                self._open.append((parse, _listen(protocol, program, interface)))
            self._of_resets.append(self._open[-1][1])

    def read(self) -> int:
        """Take in what has come since, up to as much as a socket keeps; return how many resets found no room."""
        before = time.time() - clock.now()  # the kernel's stamps are of the first of these clocks
        for parse, each in self._open:
            with contextlib.suppress(OSError):  # nothing is there, or it is as if nothing were
                for _ in range(MOST):
                    octets, stamps, _, (interface, _, kind, *_) = each.recvmsg(LONGEST, ROOM_FOR_STAMP)
                    with contextlib.suppress(struct.error, IndexError):
                        if kind == TO_US:
                            self.note(*parse(octets, seconds(stamps) - before, interface == LOOPBACK))
        return sum(map(_dropped, self._of_resets))

    def note(self, key: Key, packet: Packet) -> None:
        """Keep what this packet tells of a connection."""
        if packet.flags & RST:
            ended = self._end(key)
            ended.resets = (*ended.resets, packet)[-RESETS:]
        elif packet.flags & FIN:
            self._end(key).fin = packet
        else:
            self._note_syn(key, packet)

    def take(self, key: Key) -> Found:
        """Return what is known of this connection, and forget it."""
        ended = self.ended.pop(key, None) or Ended()
        return Found(self.begun.pop(key, None), ended.resets, ended.fin, ended.syn)

    def forget_sockets(self) -> None:
        """Listen no more; the sockets are closed."""
        self._open.clear()
        self._of_resets.clear()

    def _note_syn(self, key: Key, packet: Packet) -> None:
        """Note a SYN: the first one begins a connection, another one comes in the middle of it."""
        known = self.begun.get(key)
        if known is None:
            connects = bool(packet.flags & ACK)
            _keep(self.begun, key, Begun(packet.number, packet.ttl, connects, packet.at, packet.acknowledged))
        elif known.number != packet.number and not packet.flags & ACK:
            self._end(key).syn = packet

    def _end(self, key: Key) -> Ended:
        ended = self.ended.get(key) or Ended()
        _keep(self.ended, key, ended)
        return ended


def _dropped(packets: socket.socket) -> int:
    """Return how many packets found no room since the last time."""
    with contextlib.suppress(OSError):
        _, dropped = STATISTICS.unpack(packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
        return int(dropped)
    return 0


def seconds(stamps: list[tuple[int, int, bytes]]) -> float:
    """Return when a packet came, in seconds of the epoch."""
    whole, nanoseconds = map(float, STAMP.unpack_from(stamps[0][2]))
    return whole + nanoseconds * 1e-9


def _keep(table: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > KEPT:
        table.popitem(last=False)


def close_together(sockets: Sequence[Closing]) -> None:
    """Close all at the same time.

    The kernel lets each wait until no processor handles a packet any more (synchronize_net in packet_release): for 60
    ms on a busy machine, during which others may wait, too.
    """
    tasks = []
    for each in sockets:
        try:
            tasks.append(Task(each.close))
        except OSError:  # no more threads
            each.close()
    for task in tasks:
        task.wait(LONGEST_CLOSE)


def _listen(protocol: int, program: list[filters.Instruction], interface: str) -> socket.socket:
    """Return a socket that receives those packets of a protocol that the program accepts.

    They come over this interface, or over any one if it is "".
    """
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | flags, socket.htons(protocol))
    try:
        packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        filters.attach(packets, program)
        if interface:
            packets.bind((interface, protocol))
        with contextlib.suppress(BlockingIOError):
            while True:
                packets.recv(1)  # came before the program could refuse it
    except OSError:
        packets.close()
        raise
    return packets


def _v4(octets: bytes, now: float, local: bool) -> tuple[Key, Packet]:
    start = (octets[0] & 15) * 4
    length, number, ttl, source, target = struct.unpack_from("!2xHH2xB3x4s4s", octets)
    packet = _segment(octets, start, length - start)
    return _key(octets, start, V4_MAPPED + source, V4_MAPPED + target), packet._replace(
        at=now, ttl=ttl, id=number, local=local
    )


def _v6(octets: bytes, now: float, local: bool) -> tuple[Key, Packet]:
    first, length, ttl, source, target = struct.unpack_from("!IHxB16s16s", octets)
    packet = _segment(octets, IPV6, length)
    return _key(octets, IPV6, source, target), packet._replace(at=now, ttl=ttl, label=first & 0xFFFFF, local=local)


def _key(octets: bytes, start: int, source: bytes, target: bytes) -> Key:
    return octets[start + 2 : start + 4] + octets[start : start + 2] + target + source


def _segment(octets: bytes, start: int, length: int) -> Packet:
    """Return the TCP header that begins at `start`; `length` counts it and the data behind it."""
    number, acknowledged, offset, flags, window = struct.unpack_from("!4xIIBBH", octets, start)
    data = max(0, length - (offset >> 4) * 4)
    behind = (number + data + bool(flags & SYN) + bool(flags & FIN)) & 0xFFFFFFFF
    timestamps = offset >> 4 >= 8 and octets[start + TCP : start + TCP + 4] == TIMESTAMPS
    return Packet(number, behind, flags, window, timestamps, acknowledged=acknowledged)


KINDS: tuple[tuple[int, filters.Tests, Parse], ...] = (
    (ETH_P_IP, TCP_OVER_IPV4, _v4),
    (ETH_P_IPV6, TCP_OVER_IPV6, _v6),
)
