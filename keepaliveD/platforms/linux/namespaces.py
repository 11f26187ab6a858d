"""The host's network namespaces, and how to do something inside one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import TypeVar

from keepaliveD.platforms import processes, touching
from keepaliveD.threads import Task

Result = TypeVar("Result")

PATIENCE = 10.0  # seconds for what is done inside
LOST = 3.0  # seconds that a scan waits for processes of one user until their namespaces are open, ...
LOST_IN_ALL = 10.0  # ... and for those of all users but our own
PROCESS = re.compile(r"/proc/(\d+)/ns/net")
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h

_lost: dict[str, float] = defaultdict(float)  # seconds since the scan began, by user


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


def begin_scan() -> None:
    """Let each user cost as much time as a scan may lose."""
    _lost.clear()


def is_ours(path: str) -> bool:
    """Return whether a namespace was found by its name, or at a process of our own user."""
    process = PROCESS.search(path)
    return not process or processes.user_of(int(process[1])) == str(os.getuid())


def inside(path: str, netns: int, work: Callable[[], Result]) -> Result:
    """Return the result of `work`, done by a thread of its own in the namespace `netns` that was found at `path`.

    Raises FileNotFoundError where another namespace is there by now (`ip netns add` leaves the one that it
    has made, and any process may); TimeoutError where the process there does not answer, or `work` does not end in
    time; OSError where it may not be entered.
    """
    touched = touching.last()
    file = _opened(path)
    touching.now(*touched)

    def enter_and_work() -> Result:
        with file:
            if os.fstat(file.fileno()).st_ino != netns:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            enter(file.fileno())
        return work()

    return Task(enter_and_work).result(within=PATIENCE)


def _opened(path: str) -> FileIO:
    """Open what leads to a namespace: for a process that begins to execute a program just then, that may never end.

    Raises TimeoutError where the process does not answer, or its user, or all others together, cost too much time.
    """
    if not (process := PROCESS.search(path)):
        return _open(path)
    pid = int(process[1])
    user, own = processes.user_of(pid), str(os.getuid())
    of_others = sum(seconds for each, seconds in _lost.items() if each != own)
    if _lost[user] < LOST and (user == own or of_others < LOST_IN_ALL):
        began = time.monotonic()
        try:
            if file := processes.ask([pid], lambda _: _open(path), processes.PATIENCE).get(pid):
                return file
        finally:
            took = time.monotonic() - began
            _lost[user] += took if took >= processes.BESIDE else 0.0
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path)


def _open(path: str) -> FileIO:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb", buffering=0))
        processes.go_on()  # raises where nobody waits for it any more
        stack.pop_all()
    return file


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
