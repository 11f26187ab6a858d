"""ICMP errors about TCP packets, which name the router that sent them; of our own network namespace only.

Source: RFC 792, 1812, 4443; include/uapi/linux/icmp.h, icmpv6.h.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass

from keepaliveD.model.requirements import ROUTERS
from keepaliveD.platforms.linux.deaths import filters

REQUIRED = f"{ROUTERS.named}, {ROUTERS.besides}; the drop-in packets.conf gives these to the unit"

MOST = 1024  # ports of hosts that are remembered
LONGEST = 576  # octets that are read of an error

SOL_RAW, ICMP_FILTER = 255, 1
ICMPV6_FILTER = 1
UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM = 3, 11, 12
UNREACHABLE_V6, TIME_EXCEEDED_V6, PARAMETER_PROBLEM_V6 = 1, 3, 4
FRAGMENTATION_NEEDED = 4  # a code of UNREACHABLE: the path MTU
TCP = socket.IPPROTO_TCP
HALF = (1 << 64) - 1
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2
ICMP = 8

Host = tuple[int, int]  # an address in two halves


@dataclass(frozen=True, slots=True)
class IcmpError:
    """Who sent it, what it says, and when it was read."""

    router: Host
    type: int
    code: int
    at: float


class IcmpErrors:
    """The last error about packets to each port of each host. `hindered` says why there are none, or ""."""

    def __init__(self) -> None:
        """Listen, as far as this process may."""
        self.hindered = ""
        self._sockets: list[socket.socket] = []
        self._last: OrderedDict[tuple[Host, int], IcmpError] = OrderedDict()
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                self._sockets.append(_listen(family))
            except OSError as error:
                self.hindered = f"routers are not named: ICMP cannot be read: {error.strerror}; requires {REQUIRED}"

    def about(self, host: Host, port: int) -> IcmpError | None:
        """Return the last error about packets to this port of this host."""
        return self._last.get((host, port))

    def read(self, now: float) -> None:
        """Take in what has come, up to as much as a socket keeps."""
        for each in self._sockets:
            with contextlib.suppress(OSError):  # nothing is there, or it is as if nothing were
                for _ in range(MOST):
                    octets, address = each.recvfrom(LONGEST)
                    self._keep(each.family, octets, address[0], now)

    def close(self) -> None:
        """Listen no more."""
        for each in self._sockets:
            each.close()

    def _keep(self, family: int, octets: bytes, sender: str, now: float) -> None:
        try:
            target, kind, code = _v4(octets) if family == socket.AF_INET else _v6(octets)
        except (struct.error, IndexError):
            return
        router = _v4_mapped(socket.inet_aton(sender)) if family == socket.AF_INET else _halves(_packed(sender))
        self._last[target] = IcmpError(router, kind, code, now)
        self._last.move_to_end(target)
        if len(self._last) > MOST:
            self._last.popitem(last=False)


def _listen(family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
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


def _v4(octets: bytes) -> tuple[tuple[Host, int], int, int]:
    """Where the quoted packet was sent, and what the error says."""
    start = (octets[0] & 15) * 4
    kind, code = octets[start], octets[start + 1]
    if kind == UNREACHABLE and code == FRAGMENTATION_NEEDED:
        raise IndexError  # says how large packets may be, not that they do not arrive
    quoted = octets[start + ICMP :]
    (target,) = struct.unpack_from("4s", quoted, 16)
    (port,) = struct.unpack_from("!H", quoted, (quoted[0] & 15) * 4 + 2)
    return (_v4_mapped(target), port), kind, code


def _v6(octets: bytes) -> tuple[tuple[Host, int], int, int]:
    target, _, port = struct.unpack_from("!16sHH", octets, ICMP + 24)
    return (_halves(target), port), octets[0], octets[1]


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])


def _v4_mapped(packed: bytes) -> Host:
    return 0, V4_MAPPED | int.from_bytes(packed, "big")


def _halves(packed: bytes) -> Host:
    number = int.from_bytes(packed, "big")
    return number >> 64, number & HALF
