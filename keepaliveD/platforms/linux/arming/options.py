"""Keepalive as the options of a socket (tcp(7), socket(7)): read, set, read back."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Sequence
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_INFO,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
)
from typing import Protocol, overload

TCPI_PROBES = 3  # where it is in struct tcp_info (include/uapi/linux/tcp.h)


class Options(Protocol):
    """The options of a socket, as socket.socket has them."""

    @overload
    def getsockopt(self, level: int, option: int, /) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option to a number. Raises OSError."""


Four = tuple[int, int, int, int]  # idle time, interval, probes, whether keepalive is on


def read(sock: Options) -> Four:
    """Return the settings of a socket. Raises OSError."""
    option = sock.getsockopt
    return (
        option(IPPROTO_TCP, TCP_KEEPIDLE),
        option(IPPROTO_TCP, TCP_KEEPINTVL),
        option(IPPROTO_TCP, TCP_KEEPCNT),
        option(SOL_SOCKET, SO_KEEPALIVE),
    )


def user_timeout(sock: Options) -> int:
    """Return its TCP_USER_TIMEOUT in milliseconds, 0 for none. Raises OSError."""
    return sock.getsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT)


def unanswered(sock: Options) -> int:
    """Return how many of its probes the peer has not answered yet. Raises OSError."""
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, TCPI_PROBES + 1)[TCPI_PROBES]


class Brought(enum.Enum):
    """The result of setting a socket."""

    ABOUT = "set and read back"
    NOT = "failed, and what stood there before stands again, as far as that could be set"
    LATE = "something else stands there by now, which stays"


# In the order in which they are set: level, option, place in Four. The idle time comes last: it arms the timer anew,
# but only while SO_KEEPALIVE is on, and then less the time that the connection has been idle for
# (tcp_sock_set_keepidle_locked, net/ipv4/tcp.c).
OPTIONS = (
    (IPPROTO_TCP, TCP_KEEPINTVL, 1),
    (IPPROTO_TCP, TCP_KEEPCNT, 2),
    (SOL_SOCKET, SO_KEEPALIVE, 3),
    (IPPROTO_TCP, TCP_KEEPIDLE, 0),
)
TIMES = tuple(option for option in OPTIONS if option[1] != SO_KEEPALIVE)


def bring_about(sock: Options, before: Four, after: Four, go_on: Callable[[], None] = lambda: None) -> Brought:
    """Set all of it and read it back, where what stood there `before` still does.

    Linux cannot compare and set at once: what a program sets within the microsecond between the two is overwritten.
    `go_on` is called before each option, and may raise: then what stood there is set back.
    """
    try:
        if read(sock) != before:
            return Brought.LATE
        if not _set(sock, before, after, go_on) or read(sock) != after:
            _set_back(TIMES, sock, before, after)  # keepalive stays on: its program may just have switched it on
            return Brought.LATE
    except OSError:
        _set_back(OPTIONS, sock, before, after)
        return Brought.NOT
    except BaseException:
        _set_back(OPTIONS, sock, before, after)
        raise
    return Brought.ABOUT


def _set(sock: Options, before: Four, after: Four, go_on: Callable[[], None]) -> bool:
    """Set all four, up to one that somebody else has set by now; return whether there was none.

    Also those that stand already: a value that is not the socket's own follows its namespace.
    """
    for level, option, place in _longer_first(before, after):
        go_on()
        if sock.getsockopt(level, option) != before[place]:
            return False
        sock.setsockopt(level, option, after[place])
    return True


def _longer_first(before: Four, after: Four) -> Sequence[tuple[int, int, int]]:
    """Return the options in the order in which to set them.

    A short interval with few probes would end the connection in a shorter outage than before or after: who is killed in
    between must not leave it behind.
    """
    both = sorted(OPTIONS[:2], key=lambda option: after[option[2]] < before[option[2]])
    return (*both, *OPTIONS[2:])


def _set_back(options: Sequence[tuple[int, int, int]], sock: Options, before: Four, after: Four) -> None:
    """Set each of these options back in which ours stands, as far as that is possible."""
    for level, option, place in options:
        with contextlib.suppress(OSError):
            if before[place] != after[place] == sock.getsockopt(level, option):
                sock.setsockopt(level, option, before[place])
