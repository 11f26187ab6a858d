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
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from keepaliveD.platforms import clock
from keepaliveD.platforms.linux.deaths import filters

FIN, SYN, RST, ACK = 1, 2, 4, 16
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
IPV6, TCP = 40, 20  # octets of a header
LONGEST = 128  # octets that are read of a packet: its headers, most of them
MOST = 512  # packets that are read at once from each socket
KEPT = 8_192  # connections of which a beginning is kept, and as many of which an end is
RESETS = 8  # of one connection that are kept, the newest
V4_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
TIMESTAMPS = bytes((1, 1, 8, 10))  # how all common systems write their only option
LOOPBACK = "lo"
SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h
STAMP = struct.Struct("@ll")  # struct timespec
ROOM_FOR_STAMP = socket.CMSG_SPACE(STAMP.size)
TO_US = 0  # PACKET_HOST

TCP_OVER_IPV4: filters.Tests = (
    filters.Test(((filters.LOAD_BYTE, 9),), filters.JUMP_IF, socket.IPPROTO_TCP),
    filters.Test(((filters.LOAD_HALF, 6),), filters.JUMP_IF_ANY, 0x1FFF, wanted=False),  # no later fragment
    filters.Test(((filters.LOAD_IHL, 0), (filters.LOAD_BYTE_AT, 13)), filters.JUMP_IF_ANY, FIN | SYN | RST),
)
TCP_OVER_IPV6: filters.Tests = (
    filters.Test(((filters.LOAD_BYTE, 6),), filters.JUMP_IF, socket.IPPROTO_TCP),
    filters.Test(((filters.LOAD_BYTE, IPV6 + 13),), filters.JUMP_IF_ANY, FIN | SYN | RST),
)
# after these the accumulator has the flags
BEGINNING: filters.Tests = (filters.Test(((filters.AND, FIN | SYN | RST),), filters.JUMP_IF, SYN),)
ENDING: filters.Tests = (filters.Test((), filters.JUMP_IF_ANY, FIN | RST),)

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


class Begun(NamedTuple):
    """The packet of the peer that began a connection."""

    number: int  # its sequence number
    ttl: int
    connects: bool  # whether this host connected
    at: float


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


class Packets:
    """What began and what may have ended each connection. `hindered` says why this is not known, or ""."""

    def __init__(self, *, wanted: bool = True) -> None:
        """Listen, if that is wanted and as far as this process may."""
        self.hindered = "" if wanted else "packets are not read"
        self._sockets: list[tuple[Parse, socket.socket]] = []
        self._begun: OrderedDict[Key, Begun] = OrderedDict()
        self._ended: OrderedDict[Key, Ended] = OrderedDict()
        try:
            for protocol, before, parse in KINDS if wanted else ():
                for flags in (BEGINNING, ENDING):
                    self._sockets.append((parse, _listen(protocol, filters.accept_if(*before, *flags, octets=LONGEST))))
        except OSError as error:
            self.close()
            self.hindered = f"packets cannot be read: {error.strerror}"

    @property
    def sockets(self) -> list[socket.socket]:
        """Return those that can be read from once something has come."""
        return [each for _, each in self._sockets]

    def read(self) -> None:
        """Take in what has come since, up to as much as a socket keeps."""
        before = time.time() - clock.now()  # the kernel's stamps are of the first of these clocks
        for parse, each in self._sockets:
            with contextlib.suppress(OSError):  # nothing is there, or it is as if nothing were
                for _ in range(MOST):
                    octets, stamps, _, (interface, _, kind, *_) = each.recvmsg(LONGEST, ROOM_FOR_STAMP)
                    with contextlib.suppress(struct.error, IndexError):
                        if kind == TO_US:
                            self._note(*parse(octets, _seconds(stamps) - before, interface == LOOPBACK))

    def take(self, key: Key) -> Found:
        """Return what is known of this connection, and forget it."""
        ended = self._ended.pop(key, None) or Ended()
        return Found(self._begun.pop(key, None), ended.resets, ended.fin, ended.syn)

    def close(self) -> None:
        """Listen no more."""
        for each in self.sockets:
            each.close()
        self._sockets.clear()

    def _note(self, key: Key, packet: Packet) -> None:
        if packet.flags & RST:
            ended = self._end(key)
            ended.resets = (*ended.resets, packet)[-RESETS:]
        elif packet.flags & FIN:
            self._end(key).fin = packet
        else:
            self._note_syn(key, packet)

    def _note_syn(self, key: Key, packet: Packet) -> None:
        """Note a SYN: the first one begins a connection, another one comes in the middle of it."""
        known = self._begun.get(key)
        if known is None:
            connects = bool(packet.flags & ACK)
            _keep(self._begun, key, Begun(packet.number, packet.ttl, connects, packet.at))
        elif known.number != packet.number and not packet.flags & ACK:
            self._end(key).syn = packet

    def _end(self, key: Key) -> Ended:
        ended = self._ended.get(key) or Ended()
        _keep(self._ended, key, ended)
        return ended


def _seconds(stamps: list[tuple[int, int, bytes]]) -> float:
    """Return when a packet came, in seconds of the epoch."""
    seconds, nanoseconds = map(float, STAMP.unpack_from(stamps[0][2]))
    return seconds + nanoseconds * 1e-9


def _keep(table: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > KEPT:
        table.popitem(last=False)


def _listen(protocol: int, program: list[filters.Instruction]) -> socket.socket:
    """Return a socket that receives those packets of a protocol from all interfaces that the program accepts."""
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | flags, socket.htons(protocol))
    try:
        packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        filters.attach(packets, program)
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
    number, offset, flags, window = struct.unpack_from("!4xI4xBBH", octets, start)
    data = max(0, length - (offset >> 4) * 4)
    behind = (number + data + bool(flags & SYN) + bool(flags & FIN)) & 0xFFFFFFFF
    timestamps = offset >> 4 >= 8 and octets[start + TCP : start + TCP + 4] == TIMESTAMPS
    return Packet(number, behind, flags, window, timestamps)


KINDS: tuple[tuple[int, filters.Tests, Parse], ...] = (
    (ETH_P_IP, TCP_OVER_IPV4, _v4),
    (ETH_P_IPV6, TCP_OVER_IPV6, _v6),
)
