"""The effective capabilities of the calling thread (capabilities(7), include/uapi/linux/capability.h), by ctypes.

What is permitted stays permitted, and can be made effective again: this keeps a process from doing by mistake what
is another process's task. It does not stop code that somebody else has brought into the process.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER = 0, 1, 2, 3
NET_ADMIN, NET_RAW = 12, 13
SYS_ADMIN, SYS_RESOURCE = 21, 24
PERFMON, BPF = 38, 39
VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
WORDS = 6  # effective, permitted, inheritable: the low halves, then the high ones
Words = ctypes.Array[ctypes.c_uint32]
LIBC = ctypes.CDLL(None)  # it passes these two calls on as they are: to the kernel 0 means the calling thread


OF_MAIN_PROCESS = frozenset(
    {
        *(CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER),  # reads the configuration, keeps records where the user says
        NET_ADMIN,  # writes net.ipv4.tcp_keepalive_*, attaches to a cgroup
        NET_RAW,  # hears ICMP errors
        *(BPF, PERFMON),  # loads programs ...
        SYS_RESOURCE,  # ... which counts as locked memory before Linux 5.11
    }
)


def keep_those_of_main_process() -> None:
    """Take all other capabilities from the calling thread's effective set, and so from threads that it starts."""
    if sets := _read():
        _write(sets, _effective(sets) & sum(1 << each for each in OF_MAIN_PROCESS))


def make_all_effective() -> None:
    """Make effective what the calling thread is permitted."""
    if sets := _read():
        _write(sets, _permitted(sets))


@contextlib.contextmanager
def without(capability: int) -> Iterator[None]:
    """Take a capability from the calling thread's effective set for the block, where the kernel lets us."""
    sets = _read()
    with _having(sets, _effective(sets) & ~(1 << capability)) if sets else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def for_bpf() -> Iterator[None]:
    """Make CAP_SYS_ADMIN effective for the block if it is permitted and CAP_BPF, which is new in Linux 5.8, is not."""
    sets = _read()
    raised = 1 << SYS_ADMIN if sets and _permitted(sets) & (1 << SYS_ADMIN | 1 << BPF) == 1 << SYS_ADMIN else 0
    with _having(sets, _effective(sets) | raised) if sets else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _having(sets: Words, effective: int) -> Iterator[None]:
    """Have other capabilities effective for the block than in these sets of the calling thread."""
    changed = effective != _effective(sets) and _write(sets, effective)
    try:
        yield
    finally:
        if changed:
            _write(sets, _effective(sets))  # what is permitted can always be made effective again


def _read() -> Words | None:
    """Return the sets of the calling thread, or None if the kernel does not tell."""
    sets = (ctypes.c_uint32 * WORDS)()
    return None if LIBC.capget(_header(), sets) else sets


def _write(sets: Words, effective: int) -> bool:
    """Have these capabilities effective, and the rest as in these sets; return whether the kernel lets us."""
    low, high = effective & 0xFFFF_FFFF, effective >> 32
    return not LIBC.capset(_header(), (ctypes.c_uint32 * WORDS)(low, *sets[1:3], high, *sets[4:6]))


def _header() -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 2)(VERSION, 0)


def _effective(sets: Words) -> int:
    return sets[0] | sets[3] << 32


def _permitted(sets: Words) -> int:
    return sets[1] | sets[4] << 32
