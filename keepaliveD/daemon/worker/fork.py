"""Start processes of our own that have nothing of the daemon's open, and end with it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import warnings
from collections.abc import Callable

STANDARD = 3  # descriptors from here on are not for the new process
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # include/uapi/linux/prctl.h
# a service manager or a terminal sends them to all processes of a unit or a job
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def fork(work: Callable[[], None], keeping: int, name: bytes = b"") -> int:
    """Start a process that does this work and ends; return its id. Of the descriptors it keeps one. Raises OSError.

    `name` is how the kernel calls it, where it should not be called as this process is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the log's thread has no lock that the process takes
        pid = os.fork()
    if pid:
        return pid
    try:
        gc.freeze()  # what is here by now stays as it is: a collection would copy the pages of all of it
        signal.set_wakeup_fd(-1)
        for each in IGNORED:
            signal.signal(each, signal.SIG_IGN)
        _control(PR_SET_PDEATHSIG, signal.SIGKILL)
        if name:
            _control(PR_SET_NAME, name)
        _keep_only(keeping)
        work()
    finally:
        os._exit(0)


def _keep_only(descriptor: int) -> None:
    """Close all other descriptors: locks, and the log, whose reader would wait for a process that cannot die."""
    os.closerange(STANDARD, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)  # there is room for it now, even where the daemon has used up its limit
    for standard in range(STANDARD):
        os.dup2(null, standard)
    if null >= STANDARD:
        os.close(null)


def _control(option: int, value: int | bytes) -> None:
    """Set an option of this process by prctl(2), where there is such a call: to end with the daemon, or a name."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
