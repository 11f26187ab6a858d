"""Do a piece of work in a process of its own: the memory that it takes goes with it, and it may hang in our place."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

from keepaliveD.daemon import messages
from keepaliveD.daemon.fork import fork
from keepaliveD.daemon.worker import Reply, sendable
from keepaliveD.daemon.workers import Descriptor
from keepaliveD.model.errors import KernelError

Result = TypeVar("Result")

PATIENCE = 10.0  # seconds
A_MOMENT = 1.0  # seconds for which it may go on after an interruption
MOST_LEFT = 4  # processes that hang and cannot be ended; with so many, nothing more is begun

_left: list[int] = []  # their ids


class Interruption(NamedTuple):
    """What ends the waiting: `descriptor` can be read once something happens, `has_come` says whether it is that."""

    descriptor: Descriptor
    has_come: Callable[[], bool]


def apart(
    work: Callable[[], Result], failure: str, patience: float = PATIENCE, unless: Interruption | None = None
) -> Result:
    """Return what the work returns. Raises the Refusal that it raises, and KernelError where it does not end in time.

    `failure` says what that means.
    """
    _left[:] = [pid for pid in _left if not _is_gone(pid)]
    if len(_left) >= MOST_LEFT:
        raise KernelError(f"{failure}: {len(_left)} earlier processes hang there, and cannot be ended")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            try:
                pid = fork(lambda: _answer(theirs, work), keeping=theirs.fileno())
            except OSError as error:
                raise KernelError(f"{failure}: no process can be started: {error.strerror}") from error
        try:
            reply = _receive(ours, time.monotonic() + patience, unless)
        finally:
            _end(pid)
    if reply is None:
        raise KernelError(f"{failure}: its process was ended, or does not answer within {patience:g} s")
    if reply.error:
        raise reply.error
    return cast("Result", reply.value)


def _answer(daemon: socket.socket, work: Callable[[], object]) -> None:
    try:
        reply = Reply(work())
    except BaseException as error:
        reply = Reply(error=sendable(error))
    messages.send(daemon, reply)


def _receive(sock: socket.socket, until: float, unless: Interruption | None) -> Reply | None:
    """Return the reply; None where the process ends without one, or not in time, or where there is an interruption."""
    receiver = messages.Receiver()
    with contextlib.closing(receiver):
        while True:
            if unless and unless.has_come():
                until, unless = min(until, time.monotonic() + A_MOMENT), None
            left = until - time.monotonic()
            if left <= 0:
                return None
            ready, _, _ = select.select([sock, unless.descriptor] if unless else [sock], [], [], left)
            if sock not in ready:
                continue
            try:
                if not receiver.receive(sock):
                    return None
            except ConnectionError:
                return None
            if (reply := receiver.message()) is not None:
                return cast("Reply", reply)


def _end(pid: int) -> None:
    """Reap the process; kill it unless it ends by itself at once, and leave it where it cannot die."""
    if _ends(pid):
        return
    os.kill(pid, signal.SIGKILL)
    if not _ends(pid):
        _left.append(pid)


def _ends(pid: int) -> bool:
    """Return whether the process ends within a moment."""
    for _ in range(100):
        if _is_gone(pid):
            return True
        time.sleep(0.001)
    return False


def _is_gone(pid: int) -> bool:
    """Return whether the process has ended, and reap it then."""
    return os.waitpid(pid, os.WNOHANG)[0] != 0
