"""Free the sockets that a peer still holds of connections that the path has forgotten.

The peer never learns that these have ended, and would keep them for ever. A SYN from the same port makes it answer with
an acknowledgement of the old connection (RFC 5961, 4), to which our kernel answers with the reset that frees it; the
next SYN opens a new connection, which is closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from keepaliveD.measuring.opening import Target

PATIENCE = 8.0  # seconds: two more SYNs of the kernel
AT_ONCE = 8


async def sweep(target: Target, ends: Sequence[tuple[str, int]]) -> int:
    """Free what the peer holds of connections from these ports. Return how many could not be freed.

    Where some are freed and others not, these get a second try: the machine or the path may have been busy.
    """
    left = await _sweep(target, ends)
    if 0 < len(left) < len(ends):
        left = await _sweep(target, left)
    return len(left)


async def _sweep(target: Target, ends: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return those that could not be freed."""
    room = asyncio.Semaphore(AT_ONCE)

    async def free(end: tuple[str, int]) -> bool:
        async with room:
            return await _free(target, end)

    freed = await asyncio.gather(*(free(end) for end in ends))
    return [end for end, done in zip(ends, freed, strict=True) if not done]


async def _free(target: Target, end: tuple[str, int]) -> bool:
    try:
        with socket.socket(target.family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(end)
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, target.address)
    except ConnectionRefusedError:  # the host answers for it: nothing is left there
        return True
    except (OSError, TimeoutError):
        return False
    return True
