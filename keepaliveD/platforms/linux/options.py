"""Keepalive as the options of a socket (tcp(7), socket(7)): read, set, read back."""

from __future__ import annotations

import contextlib
import functools
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    SocketType,
)

from keepaliveD.model import Keepalive, SocketKeepalive


def read(sock: SocketType) -> SocketKeepalive:
    """What stands in it. Raises OSError."""
    option = sock.getsockopt
    idle, interval = option(IPPROTO_TCP, TCP_KEEPIDLE), option(IPPROTO_TCP, TCP_KEEPINTVL)
    return _keepalive(option(SOL_SOCKET, SO_KEEPALIVE) != 0, idle, interval, option(IPPROTO_TCP, TCP_KEEPCNT))


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


def bring_about(sock: SocketType, before: SocketKeepalive, after: SocketKeepalive) -> bool:
    """Set it and read it back; where that fails, what stood there before stands again."""
    with contextlib.suppress(OSError):
        _set(sock, before, after)
        if _stands(sock, after):
            return True
    with contextlib.suppress(OSError):
        _set(sock, read(sock), before)
    return False


def _set(sock: SocketType, before: SocketKeepalive, after: SocketKeepalive) -> None:
    """Never worse on the way than before, and the idle time last: that arms the timer anew.

    The timer is armed only while SO_KEEPALIVE is on, and then less the time that the connection has
    been idle for (tcp_sock_set_keepidle_locked, net/ipv4/tcp.c).
    """
    if after.times.interval != before.times.interval:
        sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, after.times.interval)
    if after.times.probes != before.times.probes:
        sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, after.times.probes)
    if after.on != before.on:
        sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, after.on)
    if after.on or after.times.idle != before.times.idle:
        sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, after.times.idle)
