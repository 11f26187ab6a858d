"""The sockets among a process's descriptors, as /proc/PID/fd shows them, and who else has the same descriptors."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

STEP = 256  # descriptors: to read as many takes 0.4 ms, or 5 ms where paths are 4 KB long
PREFIX = "socket:["
SYS_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}.get(platform.machine())
KCMP_FILES = 2  # include/uapi/linux/kcmp.h
LIBC = ctypes.CDLL(None, use_errno=True)


class Socket(NamedTuple):
    """A descriptor's number, and the inode of the socket."""

    fd: int
    inode: int


class Part(NamedTuple):
    """The sockets among some descriptors, and the number after the last descriptor, 0 if there are no more."""

    sockets: list[Socket]
    after: int


def parts(directory: str, start: int = 0) -> Iterator[Part]:
    """Yield the sockets from this number on, STEP descriptors at a time; what is no socket is not kept. Raises OSError.

    A path may be 4 KB long, and a process may have half a million descriptors.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if start:
            os.lseek(opened, start + 2, os.SEEK_SET)  # "." and ".." come first: proc_readfd_common, fs/proc/fd.c
        with os.scandir(opened) as entries:
            while names := [entry.name for entry in islice(entries, STEP)]:
                yield Part(list(_sockets(opened, names)), int(names[-1]) + 1 if len(names) == STEP else 0)
    finally:
        os.close(opened)


def _sockets(directory: int, names: list[str]) -> Iterator[Socket]:
    for name in names:
        try:
            link = os.readlink(name, dir_fd=directory)
        except FileNotFoundError:
            continue  # closed meanwhile
        if link.startswith(PREFIX):
            yield Socket(int(name), int(link[len(PREFIX) : -1]))


def are_shared(pid: int, other: int) -> bool:
    """Return whether two processes have one table of descriptors (CLONE_FILES); not where that cannot be asked.

    Requires CAP_SYS_PTRACE, and a kernel with CONFIG_KCMP; takes 1 us, or as long as either of them hangs in execve(2).
    """
    return SYS_KCMP is not None and LIBC.syscall(SYS_KCMP, pid, other, KCMP_FILES, 0, 0) == 0
