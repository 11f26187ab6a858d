"""Keepalive in the open sockets of other programs, by duplicates of their descriptors.

pidfd_getfd(2), Linux 5.6, gives a descriptor of the same socket: setsockopt(2) on it acts on the
real one, while its program neither stops nor notices. It asks for PTRACE_MODE_ATTACH_REALCREDS:
CAP_SYS_PTRACE, whoever the user is.
Pids and descriptors are reused, so nothing is touched before the cookie was compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import operator
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from socket import (
    AF_INET,
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    SO_PROTOCOL,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_INFO,
    SocketType,
)
from types import TracebackType
from typing import NamedTuple, Self

from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model.keepalive import NONE, Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, Fate
from keepaliveD.model.sockets import TcpState
from keepaliveD.platforms.base import Keep, Order, keys
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.arming import options
from keepaliveD.platforms.linux.arming.options import Brought
from keepaliveD.platforms.linux.owners import processes
from keepaliveD.platforms.linux.owners.holders import Holder, Holders
from keepaliveD.platforms.linux.sysctl import INTERVAL, PROBES, TIME, ProcSys
from keepaliveD.policy.settle import FIELDS, Found, settle, settle_back

SYS_PIDFD_GETFD = 438  # on every architecture
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
LIBC = ctypes.CDLL(None, use_errno=True)

BATCH = 256  # sockets open at once; a service may have 1024 descriptors

Choice = Armed | Fate

OPEN = (TcpState.ESTABLISHED,)  # states in which a socket is armed ...
WITH_HOLDER = (*OPEN, TcpState.FIN_WAIT1, TcpState.FIN_WAIT2, TcpState.CLOSE_WAIT)  # ... and may be disarmed


class PidfdArmer:
    """Arms sockets whose holders are known."""

    def __init__(self, root: Path, holders: Holders) -> None:
        self._root = root
        self._holders = holders

    def arm(self, orders: Sequence[Order], earlier: Mapping[int, Armed], keep: Keep | None) -> list[Arming]:
        """What became of each; raises Unsupported, NotPermitted where it cannot be done here at all."""
        order_of = {order.connection.cookie: order for order in orders}
        key_of = dict(zip(order_of, keys(list(order_of.values()), earlier), strict=True))
        chosen: dict[tuple[int, _Look, Keepalive | None], Choice] = {}

        def choose(connection: Connection, look: _Look, system: Keepalive | None) -> Choice:
            key = (key_of[connection.cookie], look, system)
            if (choice := chosen.get(key)) is None:
                choice = settle(_found(look, system), order_of[connection.cookie].request(earlier))
                chosen[key] = choice
            return choice

        return self._each([order.connection for order in orders], _Task(choose, keep, Fate.ARMED, OPEN))

    def disarm(self, connections: Sequence[Connection], earlier: Mapping[int, Armed]) -> list[Arming]:
        """Put back what stood there before, where nobody has set it since."""

        def choose(connection: Connection, look: _Look, system: Keepalive | None) -> Choice:
            back = settle_back(_found(look, system), earlier[connection.cookie])
            return back if isinstance(back, Fate) else Armed(look.stands, back)

        return self._each(connections, _Task(choose, lambda _: None, Fate.DISARMED, WITH_HOLDER))

    def close(self) -> None:
        """Nothing is held from one time to the next."""

    def _each(self, connections: Sequence[Connection], task: _Task) -> list[Arming]:
        """In batches; where a process let go of a socket meanwhile, another holder is looked for, once."""
        _probe()
        systems = _Systems(self._root)
        armings = self._once(connections, task, systems)
        lost = [one for arming in armings if arming.fate is Fate.GONE for one in arming.connections]
        if not lost:
            return armings
        self._holders.find(connection.inode for connection in lost)
        kept = [arming for arming in armings if arming.fate is not Fate.GONE]
        return kept + self._once(lost, task, systems)

    def _once(self, connections: Sequence[Connection], task: _Task, systems: _Systems) -> list[Arming]:
        armings: list[Arming] = []
        connections = sorted(connections, key=self._pid)  # a batch then opens few processes
        for start in range(0, len(connections), BATCH):
            with _Batch(self._root, self._holders, systems) as batch:
                armings += batch.do(connections[start : start + BATCH], task)
        return armings

    def _pid(self, connection: Connection) -> int:
        holder = self._holders.known(connection.inode)
        return holder.pid if holder else 0


class _Look(NamedTuple):
    """What a socket's options say; the TCP_USER_TIMEOUT in milliseconds."""

    stands: SocketKeepalive
    user_timeout: int


Choose = Callable[[Connection, _Look, Keepalive | None], Choice]  # what stands; what its namespace says


_Reached = tuple[SocketType, _Look] | Fate  # why it was not


class _Task(NamedTuple):
    """What to do with sockets in these states: choose, have it recorded, set it, which is then a `success`.

    Without a record nothing is set.
    """

    choose: Choose
    keep: Keep | None
    success: Fate
    states: Collection[int]


class _Batch:
    """Some sockets, each open here until the end of the block."""

    def __init__(self, root: Path, holders: Holders, systems: _Systems) -> None:
        self._root = root
        self._holders = holders
        self._systems = systems
        self._processes: dict[int, int] = {}  # pidfds by pid
        self._open: list[SocketType] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for sock in self._open:
            sock.close()
        for pidfd in self._processes.values():
            os.close(pidfd)

    def do(self, connections: Sequence[Connection], task: _Task) -> list[Arming]:
        """Look at all, have recorded what will be done, then do it."""
        armings: list[Arming] = []
        chosen: list[tuple[Connection, SocketType, SocketKeepalive, Armed]] = []
        for connection, reached in self._reach_all(connections, task.states):
            if isinstance(reached, Fate):
                armings.append(Arming((connection,), reached))
                continue
            sock, look = reached
            choice = task.choose(connection, look, self._systems.of(connection.netns))
            if isinstance(choice, Fate):
                armings.append(Arming((connection,), choice, look.stands, look.stands))
            else:
                chosen.append((connection, sock, look.stands, choice))
        if task.keep is None:
            return armings + [Arming((one,), Fate.WOULD, stands, armed.after) for one, _, stands, armed in chosen]
        task.keep({connection.cookie: armed for connection, _, _, armed in chosen})
        for connection, sock, stands, armed in chosen:
            brought = options.bring_about(sock, stands, armed.after)
            if brought is Brought.ABOUT:
                armings.append(Arming((connection,), task.success, stands, armed.after))
            else:
                armings.append(Arming((connection,), UNSET[brought], stands, _read_if_it_can(sock, stands)))
        return armings

    def _reach_all(
        self, connections: Sequence[Connection], states: Collection[int]
    ) -> Iterable[tuple[Connection, _Reached]]:
        """Each with its socket and what that says, or why there is none."""
        by_pid: dict[int, list[tuple[Connection, int]]] = defaultdict(list)
        for connection in connections:
            if holder := self._holders.known(connection.inode):
                by_pid[holder.pid].append((connection, holder.fd))
            else:
                yield connection, Fate.UNSEEN if self._holders.barred else Fate.UNHELD

        def reach(pid: int) -> list[_Reached]:
            return [self._reach_or_miss(connection, Holder(pid, fd), states) for connection, fd in by_pid[pid]]

        answers = processes.ask(by_pid, reach)
        for pid, its in by_pid.items():
            yield from zip((one for one, _ in its), answers.get(pid, [Fate.FAILED] * len(its)), strict=True)

    def _reach_or_miss(self, connection: Connection, holder: Holder, states: Collection[int]) -> _Reached:
        try:
            sock = self._reach(connection, holder, states)
            return sock, _read(sock)
        except _Missed as missed:
            return missed.fate

    def _reach(self, connection: Connection, holder: Holder, states: Collection[int]) -> SocketType:
        """A duplicate of the socket, if it still is this connection's, in one of these states."""
        pidfd = self._process(holder.pid)
        fd = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, holder.fd, 0)
        if fd < 0:
            raise _Missed(self._reason(holder.pid, ctypes.get_errno()))
        try:
            sock = SocketType(AF_INET, SOCK_STREAM, IPPROTO_TCP, fd)
        except OSError as error:
            os.close(fd)
            raise _Missed(Fate.GONE) from error  # no socket: the number is something else's by now
        self._open.append(sock)
        try:
            cookie = int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
            if cookie == connection.cookie and sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] in states:
                return sock
            same_inode = os.fstat(fd).st_ino == connection.inode
            if same_inode and sock.getsockopt(SOL_SOCKET, SO_PROTOCOL) == IPPROTO_MPTCP:
                raise _Missed(Fate.SUBFLOW)
        except OSError:
            pass  # of another family, which knows neither
        raise _Missed(Fate.GONE)

    def _process(self, pid: int) -> int:
        if pid not in self._processes:
            try:
                self._processes[pid] = os.pidfd_open(pid)
            except OSError as error:
                raise _Missed(Fate.GONE if error.errno == errno.ESRCH else Fate.FAILED) from error
        return self._processes[pid]

    def _reason(self, pid: int, code: int) -> Fate:
        if code in (errno.EBADF, errno.ESRCH):
            return Fate.GONE
        if code not in (errno.EPERM, errno.EACCES):
            return Fate.FAILED
        with contextlib.suppress(OSError):
            if os.stat(f"{self._root}/proc/{pid}/ns/user").st_ino != os.stat(f"{self._root}/proc/self/ns/user").st_ino:
                return Fate.OTHER_USER_NAMESPACE
        return Fate.NOT_PERMITTED


UNSET = {Brought.NOT: Fate.FAILED, Brought.LATE: Fate.CHANGED}


def _read(sock: SocketType) -> _Look:
    try:
        return _Look(options.read(sock), options.user_timeout(sock))
    except OSError as error:  # getsockopt may be forbidden, or fail for want of memory
        raise _Missed(Fate.FAILED) from error


def _read_if_it_can(sock: SocketType, instead: SocketKeepalive) -> SocketKeepalive:
    with contextlib.suppress(_Missed):
        return _read(sock).stands
    return instead


def _found(look: _Look, system: Keepalive | None) -> Found:
    """With those inherited that seem to follow the network namespace: the kernel tells only what they are."""
    if system is None:
        return Found(look.stands, NONE, None, look.user_timeout)
    same = (field for field, one, other in zip(FIELDS, look.stands.times, system, strict=True) if one == other)
    return Found(look.stands, functools.reduce(operator.or_, same, NONE), system, look.user_timeout)


class _Missed(Exception):
    """Why a socket was not reached."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(fate.value)
        self.fate = fate


class _Systems:
    """The keepalive settings of network namespaces, each read once."""

    def __init__(self, root: Path) -> None:
        self._sysctl = ProcSys(root)
        self._root = root
        self._known: dict[int, Keepalive | None] = {}

    def of(self, netns: int) -> Keepalive | None:
        """Those of this namespace; None where they cannot be read."""
        try:
            return self._known[netns]
        except KeyError:
            return self._known.setdefault(netns, self._read(netns))

    def _read(self, netns: int) -> Keepalive | None:
        try:
            if netns in namespaces.only_here(self._root):
                values = self._sysctl.read()
            else:
                values = namespaces.inside(namespaces.everywhere(self._root)[netns], netns, self._sysctl.read)
        except (OSError, KeyError, Refusal):
            return None
        return Keepalive(values[TIME], values[INTERVAL], values[PROBES])


def _probe() -> None:
    """Whether this can be done here: the call is made with a descriptor that is none."""
    LIBC.syscall(SYS_PIDFD_GETFD, -1, 0, 0)
    code = ctypes.get_errno()
    if code == errno.ENOSYS:
        raise Unsupported("sockets of other programs cannot be armed: pidfd_getfd requires Linux 5.6 or later")
    if code != errno.EBADF:
        raise NotPermitted(
            "sockets of other programs cannot be armed: the sandbox must allow SystemCallFilter=pidfd_getfd"
        )
