"""Keepalive in the open sockets of other programs, by duplicates of their descriptors.

pidfd_getfd(2), Linux 5.6, gives a descriptor of the same socket: setsockopt(2) on it acts on the
real one, while its program neither stops nor notices. It asks for PTRACE_MODE_ATTACH_REALCREDS:
CAP_SYS_PTRACE, whoever the user is.
Pids and descriptors are reused, so nothing is touched before the cookie was compared.
A duplicate keeps the connection open when its program closes it, so one is held at a time, as briefly as possible.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from socket import IPPROTO_MPTCP, IPPROTO_TCP, SO_PROTOCOL, SOL_SOCKET, TCP_INFO
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.arming import LOOKED, RESULT, Access
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported, remedy
from keepaliveD.model.keepalive import Own
from keepaliveD.model.sockets import Column, TcpState
from keepaliveD.platforms import processes, touching
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.arming import options
from keepaliveD.platforms.linux.arming.duplicate import Duplicate, duplicate
from keepaliveD.platforms.linux.arming.options import Brought, Four
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.platforms.linux.sysctl import INTERVAL, PROBES, TIME, ProcSys
from keepaliveD.platforms.touching import Kind

SO_COOKIE = 57  # include/uapi/asm-generic/socket.h

MOST = 256  # sockets open at once; a service may have 1024 descriptors

OPEN = (TcpState.ESTABLISHED,)  # states in which a socket is armed ...
CLOSING = (*OPEN, TcpState.FIN_WAIT1, TcpState.FIN_WAIT2, TcpState.CLOSE_WAIT)  # ... and may be disarmed

ACCESS = {Brought.ABOUT: Access.DONE, Brought.NOT: Access.FAILED, Brought.LATE: Access.CHANGED_MEANWHILE}
DONE = Access.DONE.value
OF_EACH = np.array([Own.IDLE, Own.INTERVAL, Own.PROBES], np.int32)
NOT_REACHED = (0, 0, 0, 0)

Done = TypeVar("Done")


class PidfdArmer:
    """Arms sockets whose owners are known."""

    by_cookie = False

    def __init__(self, root: Path, holders: Holders) -> None:
        self._root = root
        self._holders = holders
        self._systems = _Systems(root)

    def read(self, targets: Column, *, closing: bool) -> Column:
        """Return what stands in the first of these sockets. Raises Unsupported, NotPermitted."""
        _probe()
        targets = targets[:MOST]
        self._systems.forget()
        looks = self._each(targets, lambda sock, _: _look(sock), closing=closing)
        rows = [self._row(looks.get(cookie, Access.FAILED), netns) for cookie, netns, _ in targets.tolist()]
        looked = np.array(rows, LOOKED)
        looked["inherited"] = _inherited(looked["stands"], looked["system"])
        return looked

    def change(self, changes: Column, *, closing: bool) -> Column:
        """Set each socket in which there still stands what is expected.

        Raises the same, and KernelError if a process hangs: then it is not known what stands in its sockets.
        """
        _probe()
        columns = (changes[name].tolist() for name in ("cookie", "expected", "after"))
        orders = {cookie: (tuple(before), tuple(after)) for cookie, before, after in zip(*columns, strict=True)}
        results = self._each(changes, lambda sock, cookie: _set(sock, *orders[cookie]), closing=closing)
        rows = [_result(results.get(cookie), before) for cookie, (before, _) in orders.items()]
        return np.array(rows, RESULT)

    def close(self) -> None:
        """Do nothing: nothing stays open."""

    def _each(
        self, targets: Column, do: Callable[[Duplicate, int], Done], *, closing: bool
    ) -> Mapping[int, Done | Access]:
        """Do this to each socket; return by cookie what it returned, or why the socket was not reached.

        If a process has closed one meanwhile, look for another holder, once. Sockets of a process that hangs are left
        out.
        """
        wanted = [_Target(*each) for each in zip(*(targets[name].tolist() for name in _Target._fields), strict=True)]
        visit = _Visit(self._root, CLOSING if closing else OPEN, do)
        visit.ask_holders(wanted, self._holders)
        if lost := [target for target in wanted if visit.done.get(target.cookie) is Access.CLOSED]:
            self._holders.find_another([target.inode for target in lost])
            visit.ask_holders(lost, self._holders)
        return visit.done

    def _row(self, look: _Look | Access, netns: int) -> tuple[int, Four, Four, int, int, int]:
        """Return a row of LOOKED, but for what is inherited: the kernel tells only what the times are."""
        if isinstance(look, Access):
            return look.value, NOT_REACHED, NOT_REACHED, 0, 0, 0
        return DONE, look.stands, self._systems.of(netns), 0, look.user_timeout, look.unanswered


class _Look(NamedTuple):
    """What stands in a socket."""

    stands: Four
    user_timeout: int
    unanswered: int


def _look(sock: Duplicate) -> _Look | Access:
    try:
        return _Look(options.read(sock), options.user_timeout(sock), options.unanswered(sock))
    except OSError:  # getsockopt may be forbidden, or fail for want of memory
        return Access.FAILED


def _set(sock: Duplicate, before: Four, after: Four) -> tuple[int, Four]:
    """Return a row of RESULT."""
    brought = options.bring_about(sock, before, after, processes.go_on)
    if brought is Brought.ABOUT:
        return DONE, after
    with contextlib.suppress(OSError):
        return ACCESS[brought].value, options.read(sock)
    return ACCESS[brought].value, before


def _result(result: tuple[int, Four] | Access | None, before: Four) -> tuple[int, Four]:
    """Return a row of RESULT for a socket that may not have been reached. Raises KernelError."""
    if result is None:
        raise KernelError("a process hangs while its sockets are set")
    return (result.value, before) if isinstance(result, Access) else result


class _Target(NamedTuple):
    """One row of TARGET."""

    cookie: int
    netns: int
    inode: int


class _Visit(Generic[Done]):
    """Does something to sockets of other programs, by one duplicate at a time.

    Anybody can lock a socket of his own for as long as he likes, so that whoever touches it waits: he must not hold
    another one meanwhile, which then would not end when its program closes it.
    """

    def __init__(self, root: Path, states: Collection[int], do: Callable[[Duplicate, int], Done | Access]) -> None:
        self._root = root
        self._states = states
        self._do = do
        self.done: dict[int, Done | Access] = {}  # by cookie

    def ask_holders(self, targets: Iterable[_Target], holders: Holders) -> None:
        """Visit these sockets, as far as it is known who holds them.

        Raises KernelError where that is known of none, for want of memory or descriptors.
        """
        by_pid: dict[int, list[tuple[_Target, int]]] = defaultdict(list)
        for target in targets:
            if holder := holders.known(target.inode):
                by_pid[holder.pid].append((target, holder.fd))
                self.done.pop(target.cookie, None)
            else:
                self.done[target.cookie] = Access.OWNER_NOT_VISIBLE if holders.barred else Access.OWNER_NOT_FOUND
        if holders.shortage and not by_pid:
            short = holders.shortage
            raise KernelError(f"owners of sockets cannot be found: {short.strerror}{remedy(short)}")
        processes.ask(by_pid, lambda pid: self._ask(pid, by_pid[pid]))

    def _ask(self, pid: int, wanted: Iterable[tuple[_Target, int]]) -> None:
        """Visit sockets of one process."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            reason = Access.CLOSED if error.errno == errno.ESRCH else Access.FAILED
            self.done.update((target.cookie, reason) for target, _ in wanted)
            return
        try:
            for target, number in wanted:
                processes.go_on()
                self.done[target.cookie] = self._visit(pid, pidfd, number, target)
        finally:
            os.close(pidfd)

    def _visit(self, pid: int, pidfd: int, number: int, target: _Target) -> Done | Access:
        """Do it, unless the descriptor is another socket by now or in another state."""
        try:
            sock = duplicate(pidfd, number)
        except OSError as error:
            return self._reason(pid, error.errno)
        try:
            return _mistaken(sock, target, self._states) or self._do(sock, target.cookie)
        finally:
            sock.close()

    def _reason(self, pid: int, code: int | None) -> Access:
        if code in (errno.EBADF, errno.ESRCH):
            return Access.CLOSED
        if code not in (errno.EPERM, errno.EACCES):
            return Access.FAILED
        with contextlib.suppress(OSError):
            if os.stat(f"{self._root}/proc/{pid}/ns/user").st_ino != os.stat(f"{self._root}/proc/self/ns/user").st_ino:
                return Access.OTHER_USER_NAMESPACE
        return Access.NOT_PERMITTED


def _mistaken(sock: Duplicate, target: _Target, states: Collection[int]) -> Access | None:
    """Return why this is not the socket that is wanted, in one of these states; None where it is."""
    try:
        cookie = int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
        if cookie == target.cookie and sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] in states:
            return None
        same_inode = os.fstat(sock.fileno()).st_ino == target.inode
        if same_inode and sock.getsockopt(SOL_SOCKET, SO_PROTOCOL) == IPPROTO_MPTCP:
            return Access.SUBFLOW
    except OSError:
        pass  # no socket any more, or of another family, which knows neither
    return Access.CLOSED


def _inherited(stands: Column, system: Column) -> Column:
    """Return which of the times are those of the network namespace, where these are known."""
    same: Column = (stands[:, :3] == system[:, :3]) & (system[:, 3:] != 0)
    return same @ OF_EACH


class _Systems:
    """The keepalive settings of network namespaces, each read once for all sockets."""

    def __init__(self, root: Path) -> None:
        self._sysctl = ProcSys(root)
        self._root = root
        self._known: dict[int, Four] = {}
        self._paths: dict[int, str] = {}

    def forget(self) -> None:
        """Read them again from now on."""
        self._known.clear()

    def of(self, netns: int) -> Four:
        """Return the settings of this namespace; the last number is 0 if they cannot be read."""
        try:
            return self._known[netns]
        except KeyError:
            return self._known.setdefault(netns, self._read(netns))

    def _read(self, netns: int) -> Four:
        touching.now(Kind.NAMESPACE, netns)
        try:
            here = netns in namespaces.only_here(self._root)
            values = self._sysctl.read() if here else self._read_inside(netns)
        except (OSError, KeyError, Refusal):
            return NOT_REACHED
        return values[TIME], values[INTERVAL], values[PROBES], 1

    def _read_inside(self, netns: int) -> Mapping[str, int]:
        """Return the settings by the path at which the namespace was last found: to find it again costs more."""
        with contextlib.suppress(OSError, KeyError):
            return namespaces.inside(self._paths[netns], netns, self._sysctl.read)
        self._paths = namespaces.everywhere(self._root)
        return namespaces.inside(self._paths[netns], netns, self._sysctl.read)


def _probe() -> None:
    """Raise if descriptors cannot be duplicated here; tried with a descriptor that does not exist."""
    try:
        duplicate(-1, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise Unsupported(
                "sockets of other programs cannot be armed: "
                f"pidfd_getfd requires Linux {requirements.ARM.linux} or later"
            ) from None
        if error.errno != errno.EBADF:
            raise NotPermitted(
                "sockets of other programs cannot be armed: the sandbox must allow SystemCallFilter=pidfd_getfd"
            ) from None
