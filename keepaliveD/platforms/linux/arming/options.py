"""Keepalive as the options of a socket (tcp(7), socket(7)): read, set, read back."""

from __future__ import annotations

import contextlib
import enum
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

Four = tuple[int, int, int, int]  # idle time, interval, probes, whether keepalive is on


def read(sock: SocketType) -> Four:
    """Return the settings of a socket. Raises OSError."""
    option = sock.getsockopt
    return (
        option(IPPROTO_TCP, TCP_KEEPIDLE),
        option(IPPROTO_TCP, TCP_KEEPINTVL),
        option(IPPROTO_TCP, TCP_KEEPCNT),
        option(SOL_SOCKET, SO_KEEPALIVE),
    )


def user_timeout(sock: SocketType) -> int:
    """Return its TCP_USER_TIMEOUT in milliseconds, 0 for none. Raises OSError."""
    return sock.getsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT)


class Brought(enum.Enum):
    """The result of setting a socket."""

    ABOUT = "set and read back"
    NOT = "failed, and what stood there before stands again, as far as that could be set"
    LATE = "not tried: something else stands there by now"


def bring_about(sock: SocketType, before: Four, after: Four) -> Brought:
    """Set all of it and read it back, where what stood there `before` still does."""
    try:
        if read(sock) != before:
            return Brought.LATE
        _set(sock, after)
        if read(sock) == after:
            return Brought.ABOUT
    except OSError:
        pass  # what was set of it is set back
    _set_back(sock, before)
    return Brought.NOT


def _set(sock: SocketType, wanted: Four) -> None:
    """Set all four, also those that stand already: a value that is not the socket's own follows its namespace.

    The idle time comes last: it arms the timer anew, but only while SO_KEEPALIVE is on, and then less the
    time that the connection has been idle for (tcp_sock_set_keepidle_locked, net/ipv4/tcp.c).
    """
    idle, interval, probes, on = wanted
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, interval)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, probes)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, on)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, idle)


def _set_back(sock: SocketType, before: Four) -> None:
    """Set each option that differs, as far as that is possible."""
    idle, interval, probes, on = before
    for level, option, value in (
        (IPPROTO_TCP, TCP_KEEPINTVL, interval),
        (IPPROTO_TCP, TCP_KEEPCNT, probes),
        (SOL_SOCKET, SO_KEEPALIVE, on),
        (IPPROTO_TCP, TCP_KEEPIDLE, idle),
    ):
        with contextlib.suppress(OSError):
            if sock.getsockopt(level, option) != value:
                sock.setsockopt(level, option, value)
