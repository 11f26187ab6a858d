"""Free the sockets that a peer still holds of connections that the path has forgotten.

The peer never learns that these have ended, and would keep them for ever. A SYN from the same port makes it answer with
an acknowledgement of the old connection (RFC 5961, 4), to which our kernel answers with the reset that frees it; the
next SYN opens a new connection, which is closed.
Where the first SYN already opens one, the peer knew of none from there: NAT has given the SYN another port, and nobody
knows by which one the peer still holds the old connection.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from keepaliveD.measuring.opening import Target

PATIENCE = 8.0  # seconds: two more SYNs of the kernel
AT_ONCE = 2  # until its process ends, a service may count an old connection beside the one that freed it
RETRANSMITTED = struct.Struct("100xI")  # tcpi_total_retrans (struct tcp_info in include/uapi/linux/tcp.h)


class End(NamedTuple):
    """This end of a connection; `forgotten`: the path surely let no reset pass that would have freed it."""

    address: tuple[str, int]
    forgotten: bool


class Answer(enum.Enum):
    """What comes of a SYN from the port of an old connection."""

    FREED = "the peer freed the old connection, or its host has nothing left of it"
    AT_ONCE = "the peer knew of no old connection from there"
    NONE = "no connection stood"


async def sweep(target: Target, ends: Sequence[End]) -> int:
    """Free what the peer holds of these connections. Return how many it may still hold.

    Where some are freed and others give no answer, these get a second try: the machine or the path may have been busy.
    """
    answers = await _sweep(target, ends)
    silent = [end for end, answer in zip(ends, answers, strict=True) if answer is Answer.NONE]
    left = sum(end.forgotten and answer is Answer.AT_ONCE for end, answer in zip(ends, answers, strict=True))
    if 0 < len(silent) < len(ends):
        return left + (await _sweep(target, silent)).count(Answer.NONE)
    return left + len(silent)


async def _sweep(target: Target, ends: Sequence[End]) -> list[Answer]:
    room = asyncio.Semaphore(AT_ONCE)

    async def free(end: End) -> Answer:
        async with room:
            return await _free(target, end.address)

    return list(await asyncio.gather(*(free(end) for end in ends)))


async def _free(target: Target, address: tuple[str, int]) -> Answer:
    try:
        with socket.socket(target.family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, target.address)
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RETRANSMITTED.size)
    except ConnectionRefusedError:  # the host answers for it: nothing is left there
        return Answer.FREED
    except (OSError, TimeoutError):
        return Answer.NONE
    return Answer.FREED if RETRANSMITTED.unpack(info)[0] else Answer.AT_ONCE
