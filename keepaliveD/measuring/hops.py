"""The hops of a path: how many there are, and their addresses; without privilege."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import time

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.opening import Target

MOST_HOPS = 30
ALL_HOPS = -1
PATIENCE = 1.5  # seconds for an answer, also of a busy machine; longer where the round trip is
REPLY = 3.0  # seconds for an ICMP message
POLL = 0.02  # seconds
QUIET = 1.1  # seconds: the kernel probes only after a second of silence
TRIES = 2
IP_RECVERR, IPV6_RECVERR = 11, 25  # include/uapi/linux/in.h, in6.h
MSG_ERRQUEUE = 0x2000  # include/linux/socket.h
EXTENDED_ERROR = 16  # bytes of struct sock_extended_err, before the sender's address (ip(7))


async def count_devices(connection: Connection) -> int | None:
    """Return how many routers a packet to the peer passes; None where that cannot be counted.

    Before each hop is tried the peer is asked over all hops, so that none forgets the connection meanwhile.
    """
    patience = max(PATIENCE, 4 * connection.state().rtt)
    for hops in range(1, MOST_HOPS + 1):
        if not await _answered(connection, ALL_HOPS, patience):
            return None
        for _ in range(TRIES):
            if await _answered(connection, hops, patience):
                return hops - 1
    return None


async def _answered(connection: Connection, hops: int, patience: float) -> bool:
    """Whether a probe that may pass so many hops is answered. Afterwards no packet is under way."""
    state = connection.state()
    await asyncio.sleep(max(0.0, max(QUIET, state.rtt) - state.quiet))
    connection.restart()
    connection.set_hops(hops)
    connection.probe()
    answered = await _heard(connection, patience)
    connection.stop_probing()
    connection.set_hops(ALL_HOPS)
    return answered


async def _heard(connection: Connection, within: float) -> bool:
    deadline = time.monotonic() + within
    while not connection.heard():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


async def name_devices(target: Target, count: int) -> list[str]:
    """Return the address of each router, "" for one that does not show it."""
    return await asyncio.gather(*(_name_or_none(target, hop) for hop in range(1, count + 1)))


async def _name_or_none(target: Target, hops: int) -> str:
    with contextlib.suppress(OSError):  # no descriptor is left, or a filter forbids it: only the name is missing
        return await _name(target, hops)
    return ""


async def _name(target: Target, hops: int) -> str:
    """Return who reports that a SYN for so many hops got no farther."""
    with socket.socket(target.family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        if target.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        if sock.connect_ex(target.address) != errno.EINPROGRESS:
            return ""
        events = select.poll()
        events.register(sock, select.POLLERR)
        deadline = time.monotonic() + REPLY
        while time.monotonic() < deadline:
            if events.poll(0) and (name := _sender(sock)):
                return name
            await asyncio.sleep(POLL)
    return ""


def _sender(sock: socket.socket) -> str:
    """Return the sender of the ICMP message that waits in the error queue, or ""."""
    with contextlib.suppress(OSError):
        for level, _, octets in sock.recvmsg(1, 512, MSG_ERRQUEUE)[1]:
            address = octets[EXTENDED_ERROR:]
            if level == socket.IPPROTO_IP and len(address) >= 8:
                return socket.inet_ntop(socket.AF_INET, address[4:8])
            if level == socket.IPPROTO_IPV6 and len(address) >= 24:
                return socket.inet_ntop(socket.AF_INET6, address[8:24])
    return ""
