"""Interfaces and addresses of the calling thread's network namespace, by rtnetlink.

Anybody may add addresses to a namespace of his own, 10,000 a second, so they are read in place, and no more than MOST.
Source: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

from keepaliveD.model.errors import KernelError

Value = TypeVar("Value", int, str)

MOST = 65_536  # interfaces, and addresses, of one namespace
NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x001, 0x300, 0x010
IFLA_IFNAME, IFLA_EXT_MASK = 3, 29
RTEXT_FILTER_SKIP_STATS = 8
IFA_ADDRESS, IFA_LOCAL = 1, 2
ATTEMPTS = 3
DATAGRAM = 64 * 1024  # more than the kernel sends of a dump at once

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
WITHOUT_STATISTICS = ATTRIBUTE.pack(8, IFLA_EXT_MASK) + struct.pack("=I", RTEXT_FILTER_SKIP_STATS)
V4_MAPPED = 0xFFFF_0000_0000  # RFC 4291, 2.5.5.2


def read() -> tuple[dict[int, str], dict[int, int]]:
    """Return the names of interfaces by index, and the index by address in its IPv6 form. Raises KernelError."""
    try:
        names = _dump(RTM_GETLINK, LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + WITHOUT_STATISTICS, _link)
        return names, _dump(RTM_GETADDR, ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _address)
    except OSError as error:
        raise KernelError(f"interfaces: {error.strerror}") from error
    except (struct.error, KeyError) as error:
        raise KernelError(f"interfaces: the kernel sends what nobody understands: {error!r}") from error


def _dump(kind: int, body: bytes, decode: Callable[[memoryview], tuple[int, Value]]) -> dict[int, Value]:
    """Return what is dumped, MOST at most; of dumps that changes interrupt, what the last one says."""
    for _ in range(ATTEMPTS):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE) as netlink:
            netlink.connect((0, 0))
            length = HEADER.size + len(body)
            netlink.send(HEADER.pack(length, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
            found: dict[int, Value] = {}
            interrupted = 0
            for flags, message in itertools.islice(_messages(netlink), MOST):
                interrupted |= flags & NLM_F_DUMP_INTR
                number, value = decode(message)
                found[number] = value
        if not interrupted:
            break
    return found


def _messages(netlink: socket.socket) -> Iterator[tuple[int, memoryview]]:
    """Yield the flags of each message, and what follows its header."""
    space = memoryview(bytearray(DATAGRAM))
    while True:
        rest = space[: netlink.recv_into(space)]
        while rest:
            length, kind, flags, _, _ = HEADER.unpack_from(rest)
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                (code,) = struct.unpack_from("=i", rest, HEADER.size)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return
            yield flags, rest[HEADER.size : length]
            rest = rest[_aligned(max(length, HEADER.size)) :]


def _link(message: memoryview) -> tuple[int, str]:
    index = LINK.unpack_from(message)[2]
    name = _attributes(message[LINK.size :], IFLA_IFNAME)[IFLA_IFNAME]
    return index, os.fsdecode(bytes(name).rstrip(b"\0"))


def _address(message: memoryview) -> tuple[int, int]:
    """The local address of a point-to-point interface is IFA_LOCAL; of others with IPv6 it is IFA_ADDRESS alone."""
    found = _attributes(message[ADDRESS.size :], IFA_LOCAL)
    octets = found[IFA_LOCAL] if IFA_LOCAL in found else found[IFA_ADDRESS]
    number = int.from_bytes(octets, "big")
    return number | V4_MAPPED if len(octets) == struct.calcsize("=I") else number, ADDRESS.unpack_from(message)[4]


def _attributes(data: memoryview, last: int) -> dict[int, memoryview]:
    """Return the attributes by type, up to the one that is wanted most."""
    found: dict[int, memoryview] = {}
    while len(data) >= ATTRIBUTE.size and last not in found:
        length, kind = ATTRIBUTE.unpack_from(data)
        found[kind] = data[ATTRIBUTE.size : length]
        data = data[_aligned(max(length, ATTRIBUTE.size)) :]
    return found


def _aligned(length: int) -> int:
    """NLMSG_ALIGN and RTA_ALIGN."""
    return (length + 3) & ~3
