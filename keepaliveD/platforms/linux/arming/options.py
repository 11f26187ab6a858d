"""Keepalive as the options of a socket (tcp(7), socket(7)): read, set, read back."""

from __future__ import annotations

import contextlib
import enum
import functools
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
    SocketType,
)

from keepaliveD.model.keepalive import Keepalive, SocketKeepalive


def read(sock: SocketType) -> SocketKeepalive:
    """What stands in it. Raises OSError."""
    option = sock.getsockopt
    idle, interval = option(IPPROTO_TCP, TCP_KEEPIDLE), option(IPPROTO_TCP, TCP_KEEPINTVL)
    return _keepalive(option(SOL_SOCKET, SO_KEEPALIVE) != 0, idle, interval, option(IPPROTO_TCP, TCP_KEEPCNT))


def user_timeout(sock: SocketType) -> int:
    """Return its TCP_USER_TIMEOUT in milliseconds, 0 for none. Raises OSError."""
    return sock.getsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT)


@functools.lru_cache(maxsize=1024)  # most sockets have the same, and to make it again costs more than to find it
def _keepalive(on: bool, idle: int, interval: int, probes: int) -> SocketKeepalive:
    return SocketKeepalive(on, Keepalive(idle, interval, probes))


def _stands(sock: SocketType, wanted: SocketKeepalive) -> bool:
    """The same as comparing what read makes of it, in half the time."""
    option, times = sock.getsockopt, wanted.times
    return (
        option(IPPROTO_TCP, TCP_KEEPIDLE) == times.idle
        and option(IPPROTO_TCP, TCP_KEEPINTVL) == times.interval
        and option(IPPROTO_TCP, TCP_KEEPCNT) == times.probes
        and option(SOL_SOCKET, SO_KEEPALIVE) == wanted.on
    )


class Brought(enum.Enum):
    """What came of setting a socket."""

    ABOUT = "set and read back"
    NOT = "failed, and what stood there before stands again, as far as that could be set"
    LATE = "not tried: something else stands there by now"


def bring_about(sock: SocketType, before: SocketKeepalive, after: SocketKeepalive) -> Brought:
    """Set all of it and read it back, where what stood there `before` still does."""
    with contextlib.suppress(OSError):
        if not _stands(sock, before):
            return Brought.LATE
        _set(sock, after)
        if _stands(sock, after):
            return Brought.ABOUT
    _set_back(sock, before)
    return Brought.NOT


def _set(sock: SocketType, wanted: SocketKeepalive) -> None:
    """All four, also where they stand: what is not the socket's own would follow its network namespace.

    The idle time comes last: it arms the timer anew, but only while SO_KEEPALIVE is on, and then less the
    time that the connection has been idle for (tcp_sock_set_keepidle_locked, net/ipv4/tcp.c).
    """
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, wanted.times.interval)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, wanted.times.probes)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, wanted.on)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, wanted.times.idle)


def _set_back(sock: SocketType, before: SocketKeepalive) -> None:
    """Each that differs, as far as it can be."""
    for level, option, value in (
        (IPPROTO_TCP, TCP_KEEPINTVL, before.times.interval),
        (IPPROTO_TCP, TCP_KEEPCNT, before.times.probes),
        (SOL_SOCKET, SO_KEEPALIVE, before.on),
        (IPPROTO_TCP, TCP_KEEPIDLE, before.times.idle),
    ):
        with contextlib.suppress(OSError):
            if sock.getsockopt(level, option) != value:
                sock.setsockopt(level, option, value)
