"""ICMP errors about TCP packets, which name the router that sent them; of our own network namespace only.

Anybody can send one about a connection that he does not see. So an error counts only if it quotes a packet of that
connection: its addresses and ports, and where that is known a sequence number that was not acknowledged, as TCP asks.
Source: RFC 5927, 4; 792, 1812, 4443; include/uapi/linux/icmp.h, icmpv6.h.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.requirements import ROUTERS
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import clock
from keepaliveD.platforms.linux.deaths import filters
from keepaliveD.platforms.linux.deaths.packets import ROOM_FOR_STAMP, SO_TIMESTAMPNS, seconds
from keepaliveD.platforms.linux.deaths.resets import CLOCK, NUMBERS

REQUIRED = f"{ROUTERS.named}, {ROUTERS.besides}; the drop-in packets.conf gives these to the unit"

MOST = 1024  # connections that are remembered
EACH = 8  # errors about each that are remembered, the newest
LONGEST = 576  # octets that are read of an error

SOL_RAW, ICMP_FILTER = 255, 1
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
ICMPV6_FILTER = 1
UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM = 3, 11, 12
UNREACHABLE_V6, TIME_EXCEEDED_V6, PARAMETER_PROBLEM_V6 = 1, 3, 4
FRAGMENTATION_NEEDED = 4  # a code of UNREACHABLE: the path MTU
TCP = socket.IPPROTO_TCP
HALF = (1 << 64) - 1
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2
ICMP = 8

Host = tuple[int, int]  # an address in two halves


class Flow(NamedTuple):
    """Both ends of a connection."""

    local: Host
    local_port: int
    remote: Host
    remote_port: int


class Unacked(NamedTuple):
    """The sequence numbers that the peer had not acknowledged when a connection ended."""

    first: int
    length: int

    def holds(self, number: int) -> bool:
        """Return whether this is one of them, or the one that comes next."""
        return (number - self.first) % NUMBERS <= self.length


@dataclass(frozen=True, slots=True)
class IcmpError:
    """Who sent it, what it says, the sequence number that it quotes, and when it came."""

    router: Host
    type: int
    code: int
    number: int
    at: float


class IcmpErrors:
    """The last errors about packets of each connection. `hindered` says why there are none, or ""."""

    def __init__(self) -> None:
        """Listen, as far as this process may."""
        self.hindered = ""
        self._sockets: list[socket.socket] = []  # for IPv4 and IPv6
        self._last: OrderedDict[Flow, tuple[IcmpError, ...]] = OrderedDict()
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                self._sockets.append(_listen(family))
            except OSError as error:
                self.hindered = f"routers are not named: ICMP cannot be read: {error.strerror}; requires {REQUIRED}"

    @property
    def cookies(self) -> tuple[int, int]:
        """Return the cookies of the two sockets, 0 where there is none: BPF lets them receive no errors of forgers."""
        known = [struct.unpack("=Q", each.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0] for each in self._sockets]
        first, second = (*known, 0, 0)[:2]
        return first, second

    @property
    def local_ports(self) -> list[int]:
        """Return the ports of this host in connections about which errors came."""
        return [flow.local_port for flow in self._last]

    def fill_in(self, row: Column, unacked: Unacked | None) -> None:
        """Fill in the last error about this connection, a row of DEATH, that came while the peer was silent.

        Without `unacked` any sequence number will do.
        """
        silent_for = np.fmin(row["since_received"], row["since_acked"])
        earliest, latest = row["ended_at"] - silent_for - CLOCK, row["ended_at"] + CLOCK
        for error in reversed(self._last.get(_flow(row), ())):
            if earliest <= error.at <= latest and (unacked is None or unacked.holds(error.number)):
                row["router_high"], row["router_low"] = error.router
                row["icmp_type"], row["icmp_code"] = error.type, error.code
                return

    def read(self) -> None:
        """Take in what has come, up to as much as a socket keeps."""
        before = time.time() - clock.now()  # the kernel's stamps are of the first of these clocks
        for each in self._sockets:
            with contextlib.suppress(OSError):  # nothing is there, or it is as if nothing were
                for _ in range(MOST):
                    octets, stamps, _, address = each.recvmsg(LONGEST, ROOM_FOR_STAMP)
                    self.note(each.family, octets, address[0], seconds(stamps) - before)

    def close(self) -> None:
        """Listen no more."""
        for each in self._sockets:
            each.close()

    def note(self, family: int, octets: bytes, sender: str, at: float) -> None:
        """Keep what this error tells."""
        try:
            flow, number, kind, code = _v4(octets) if family == socket.AF_INET else _v6(octets)
        except (struct.error, IndexError):
            return
        router = _v4_mapped(socket.inet_aton(sender)) if family == socket.AF_INET else _halves(_packed(sender))
        error = IcmpError(router, kind, code, number, at)
        self._last[flow] = (*self._last.get(flow, ()), error)[-EACH:]
        self._last.move_to_end(flow)
        if len(self._last) > MOST:
            self._last.popitem(last=False)


def _flow(row: Column) -> Flow:
    """Return the ends of a connection, a row of DEATH."""
    local, remote = ((int(row[f"{end}_high"]), int(row[f"{end}_low"])) for end in ("local", "remote"))
    return Flow(local, int(row["local_port"]), remote, int(row["remote_port"]))


def _listen(family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if family == socket.AF_INET:
            wanted = 1 << UNREACHABLE | 1 << TIME_EXCEEDED | 1 << PARAMETER_PROBLEM
            raw.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~wanted & 0xFFFFFFFF))
            before = [(filters.LOAD_IHL, 0, 0, 0), (filters.LOAD_BYTE_AT, 0, 0, ICMP + 9)]
        else:
            wanted = 1 << UNREACHABLE_V6 | 1 << TIME_EXCEEDED_V6 | 1 << PARAMETER_PROBLEM_V6
            blocked = [~wanted & 0xFFFFFFFF, *[0xFFFFFFFF] * 7]
            raw.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *blocked))
            before = [(filters.LOAD_BYTE, 0, 0, ICMP + 6)]
        filters.attach(raw, _quoting_tcp(before))
    except OSError:
        raw.close()
        raise
    return raw


def _quoting_tcp(before: list[filters.Instruction]) -> list[filters.Instruction]:
    """Accept an error whose quoted packet is TCP, by the octet that was loaded `before`."""
    return [*before, (filters.JUMP_IF, 0, 1, TCP), (filters.RETURN, 0, 0, LONGEST), (filters.RETURN, 0, 0, 0)]


def _v4(octets: bytes) -> tuple[Flow, int, int, int]:
    """Return whose packet is quoted, with which sequence number, and what the error says."""
    start = (octets[0] & 15) * 4
    kind, code = octets[start], octets[start + 1]
    if kind == UNREACHABLE and code == FRAGMENTATION_NEEDED:
        raise IndexError  # says how large packets may be, not that they do not arrive
    quoted = octets[start + ICMP :]
    source, target = struct.unpack_from("4s4s", quoted, 12)
    source_port, target_port, number = struct.unpack_from("!HHI", quoted, (quoted[0] & 15) * 4)
    return Flow(_v4_mapped(source), source_port, _v4_mapped(target), target_port), number, kind, code


def _v6(octets: bytes) -> tuple[Flow, int, int, int]:
    source, target, source_port, target_port, number = struct.unpack_from("!16s16sHHI", octets, ICMP + 8)
    return Flow(_halves(source), source_port, _halves(target), target_port), number, octets[0], octets[1]


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])


def _v4_mapped(packed: bytes) -> Host:
    return 0, V4_MAPPED | int.from_bytes(packed, "big")


def _halves(packed: bytes) -> Host:
    number = int.from_bytes(packed, "big")
    return number >> 64, number & HALF
