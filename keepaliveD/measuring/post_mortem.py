"""See how far a packet of a forgotten connection gets, without privilege and without data.

The packet is the connection's own end (FIN), with a small IP TTL: the hop at which that runs out reports it by ICMP,
if the packet gets there. Of a keepalive probe the kernel would not show the report, as its sequence number is an old
one; an end makes no device remember the connection anew, and one that arrives does no harm.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.hops import IP_RECVERR, IPV6_RECVERR, POLL
from keepaliveD.policy.measuring.tomography import HopAnswer

PATIENCE = 3.5  # seconds for an answer, in which the kernel sends the end five times; longer where the round trip is
ROUND_TRIPS = 8  # in which the kernel sends the end again, and an answer comes


async def end_within(connection: Connection, hops: int) -> HopAnswer | None:
    """Return what comes of the connection's end, which may pass so many hops; None where the connection lives."""
    sock = connection.sock
    patience = max(PATIENCE, ROUND_TRIPS * connection.state().rtt)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    connection.restart()
    connection.set_hops(hops)
    sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return HopAnswer.EXPIRED if error == errno.EHOSTUNREACH else HopAnswer.REFUSED
        if connection.heard():
            return None
        await asyncio.sleep(POLL)
    return HopAnswer.NONE
