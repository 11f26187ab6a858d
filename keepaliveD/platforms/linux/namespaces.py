"""The host's network namespaces, and how to do something inside one."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from keepaliveD.platforms import processes
from keepaliveD.threads import Task

Result = TypeVar("Result")

PATIENCE = 10.0  # seconds for what is done inside
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h


def only_here(root: Path) -> dict[int, str]:
    """A path to the calling thread's namespace, by its inode."""
    path = str(root / "proc/self/ns/net")
    return {os.stat(path).st_ino: path}


def everywhere(root: Path) -> dict[int, str]:
    """Return a path to each network namespace that has a process or a name (ip netns), by its inode."""
    return survey(root)[0]


def survey(root: Path) -> tuple[dict[int, str], bool]:
    """Return the same, and whether there are processes of which the namespace cannot be seen (CAP_SYS_PTRACE)."""
    found, hidden = only_here(root), False
    nsfs = os.stat(root / "proc/self/ns/net").st_dev
    for path, status in _candidates(root):
        if isinstance(status, OSError):  # else it ended meanwhile
            hidden = hidden or isinstance(status, PermissionError)
        elif status.st_dev == nsfs:
            found.setdefault(status.st_ino, path)
    return found, hidden or not processes.are_all_asked()


def _candidates(root: Path) -> Iterator[tuple[str, os.stat_result | OSError]]:
    proc = str(root / "proc")
    pids = [int(name) for name in os.listdir(proc) if name.isdecimal()]
    for pid, status in processes.ask(pids, lambda pid: _status(f"{proc}/{pid}/ns/net")).items():
        yield f"{proc}/{pid}/ns/net", status
    named = str(root / "run/netns")
    if os.path.isdir(named):
        yield from ((path, _status(path)) for path in (f"{named}/{name}" for name in os.listdir(named)))


def _status(path: str) -> os.stat_result | OSError:
    try:
        return os.stat(path)
    except OSError as error:
        return error


def inside(path: str, netns: int, work: Callable[[], Result]) -> Result:
    """Return the result of `work`, done by a thread of its own in the namespace `netns` that was found at `path`.

    Raises FileNotFoundError where another namespace is there by now (`ip netns add` leaves the one that it
    has made, and any process may); OSError where it may not be entered, or `work` does not end in time.
    """

    def enter_and_work() -> Result:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_ino != netns:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            enter(fd)
        finally:
            os.close(fd)
        return work()

    return Task(enter_and_work).result(within=PATIENCE)


def enter(fd: int) -> None:
    """Move the calling thread to this network namespace. Raises OSError.

    The flag is what RestrictNamespaces=net asks for.
    """
    if sys.version_info >= (3, 12):
        os.setns(fd, CLONE_NEWNET)
    else:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
