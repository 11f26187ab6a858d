"""Capabilities of the calling thread (include/uapi/linux/capability.h), by ctypes."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

NET_ADMIN = 12
VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
WORDS = 6  # effective, permitted, inheritable: the low halves, then the high ones
LIBC = ctypes.CDLL(None)  # it passes these two calls on as they are: to the kernel 0 means the calling thread

Sets = ctypes.c_uint32 * WORDS


@contextlib.contextmanager
def without(capability: int) -> Iterator[None]:
    """Take a capability below 32 from the calling thread's effective set for the block, where the kernel lets us."""
    header, before = (ctypes.c_uint32 * 2)(VERSION, 0), Sets()
    if LIBC.capget(header, before):
        yield
        return
    lowered = Sets(before[0] & ~(1 << capability), *before[1:])
    dropped = lowered[0] != before[0] and not LIBC.capset(header, lowered)
    try:
        yield
    finally:
        if dropped:
            LIBC.capset(header, before)  # what is permitted can always be made effective again
