"""By which interface and next hop the kernel routes packets to a peer, asked for each pair of addresses by rtnetlink.

The kernel answers as it would route a packet without a mark: a rule by mark, port or user is not seen.
These few messages are written here, because pyroute2 takes 25 MB of memory on every host.
Sources: include/uapi/linux/rtnetlink.h; inet_rtm_getroute, net/ipv4/route.c; inet6_rtm_getroute, net/ipv6/route.c.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from keepaliveD.model.errors import KernelError
from keepaliveD.model.routes import Route
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import touching

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NLM_F_REQUEST = 0x001
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_VIA = 1, 2, 4, 5, 18
TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
RTMSG = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, lengths of both prefixes, and what a question leaves empty
ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
FAMILY = struct.Struct("=H")  # struct rtvia begins with it, and the address follows
BODY = HEADER.size + RTMSG.size
ANSWER = 4096  # bytes, more than one route has
V4_MAPPED = 0xFFFF
LINK_LOCAL, LINK_LOCAL_BITS = 0xFE80 >> 6, 54  # fe80::/10, of the high half: such an address is one on each interface
LONGEST = 0.05  # seconds in one call


class Rtnetlink:
    """Asks the network namespace of the calling thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def find(self, ends: Column) -> list[Route | None]:
        """Return the route of the first of these connections, as many as there is time for, and of one at least.

        None is the one of a peer that the kernel has no route to. Raises KernelError.
        """
        began, found = self._clock(), []
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as asked:
                asked.connect((0, 0))
                asked.setblocking(False)  # the kernel answers while it takes the question
                for one in ends.tolist():
                    touching.on()
                    asked.send(question(*one))
                    answer = route(asked.recv(ANSWER))
                    found.append(None if one[2] >> LINK_LOCAL_BITS == LINK_LOCAL else answer)
                    if self._clock() - began > LONGEST:
                        break
        except OSError as error:
            raise KernelError(f"rtnetlink: {error.strerror}") from error
        return found


def question(local_high: int, local_low: int, remote_high: int, remote_low: int) -> bytes:
    """Return the question for the route from one address to the other."""
    family, size = socket.AF_INET6, 16
    local, remote = local_high << 64 | local_low, remote_high << 64 | remote_low
    if remote_high == 0 and remote_low >> 32 == V4_MAPPED:
        family, size = socket.AF_INET, 4
        local, remote = local & 0xFFFF_FFFF, remote & 0xFFFF_FFFF
    body = RTMSG.pack(family, 8 * size, 8 * size, 0, 0, 0, 0, 0, 0)
    for kind, address in ((RTA_DST, remote), (RTA_SRC, local)):
        body += ATTRIBUTE.pack(ATTRIBUTE.size + size, kind) + address.to_bytes(size, "big")
    return HEADER.pack(HEADER.size + len(body), RTM_GETROUTE, NLM_F_REQUEST, 0, 0) + body


def route(message: bytes) -> Route | None:
    """Return the route in an answer; an error is none, and so is an interface that is gone."""
    length, kind, _, _, _ = HEADER.unpack_from(message)
    if kind != RTM_NEWROUTE:
        return None
    found = dict(_attributes(message[BODY:length]))
    if RTA_OIF not in found:
        return None
    try:
        name = socket.if_indextoname(int.from_bytes(found[RTA_OIF], sys.byteorder))
    except OSError:
        return None
    return Route(name, _next_hop(found))


def _next_hop(found: Mapping[int, bytes]) -> str:
    """Return the address of the router, which may be of the other family (RFC 5549); "" without one."""
    address = found.get(RTA_GATEWAY, b"") or found.get(RTA_VIA, b"")[FAMILY.size :]
    return str(ipaddress.ip_address(address)) if len(address) in (4, 16) else ""


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        yield kind & TYPE_MASK, data[ATTRIBUTE.size : length]
        data = data[(max(length, ATTRIBUTE.size) + 3) & ~3 :]
