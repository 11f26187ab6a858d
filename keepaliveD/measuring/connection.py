"""A connection of our own: how long it has been quiet, and what becomes of one keepalive probe.

A probe is the kernel's: SO_KEEPALIVE and a TCP_KEEPIDLE that has passed already send it at once.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

ESTABLISHED = 1  # tcpi_state (include/net/tcp_states.h)
INFO_LENGTH = 144  # bytes of struct tcp_info up to tcpi_segs_in (include/uapi/linux/tcp.h, Linux 4.2)
AGES = struct.Struct("44xI4xII")  # tcpi_last_data_sent, _last_data_recv, _last_ack_recv: milliseconds
SEGMENTS = struct.Struct("136xII")  # tcpi_segs_out, tcpi_segs_in
RTT = struct.Struct("68xI")  # tcpi_rtt: microseconds
MOST_PROBES = 127  # a smaller TCP_KEEPCNT would end the connection at once if as many probes were unanswered
FOREVER_MS = 2**31 - 1  # TCP_USER_TIMEOUT: no number of unanswered probes ends the connection
QUIET_MS = 30_000  # TCP_USER_TIMEOUT of a silence, in which nothing is sent: nobody arms a socket that it would end
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
IP_MINTTL = 21  # include/uapi/linux/in.h
IPV6_MINHOPCOUNT = 73  # include/uapi/linux/in6.h
MOST_HOPS = 255
JIFFY = 0.01  # seconds, at most: the kernel counts the time since a packet in whole ones
READS = 64  # of arrived data at a time: a peer may send faster than it is read


def clock() -> float:
    """Return seconds of the clock that goes on while the machine sleeps, as a firewall's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class State(NamedTuple):
    """What TCP_INFO shows. `packets` counts all that arrived, also a peer's keepalive probe, which ends no `quiet`."""

    established: bool
    packets: int
    quiet: float
    since_data: float
    rtt: float


class Connection:
    """An established connection that sends nothing by itself."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._local, self._remote = sock.getsockname(), sock.getpeername()
        self.error = 0  # the errno that ended it
        self.stop_probing()
        state = self.state()
        self._packets = state.packets
        self.unbroken = state.quiet  # the silence at the last look that showed no packet
        self.started = clock() - state.quiet
        self.vague = state.since_data - state.quiet + JIFFY  # seconds by which the silence may have begun earlier

    @property
    def cookie(self) -> int:
        """Return the socket's cookie, which is unique until the next boot."""
        return int.from_bytes(self.sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)

    @property
    def remote(self) -> tuple[str, int]:
        """Return address and port of the other end."""
        return self._remote[0], self._remote[1]

    @property
    def local_address(self) -> tuple[str, int]:
        """Return address and port of this end, also after it was closed; of IPv6 with the interface, for bind()."""
        address: tuple[str, int] = self._local
        return address

    def state(self) -> State:
        """Return how the kernel sees it now."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_LENGTH)
        packets: int = SEGMENTS.unpack_from(info)[1]
        sent, received, acknowledged = (age / 1000 for age in AGES.unpack_from(info))
        since_data = min(sent, received)
        rtt = RTT.unpack_from(info)[0] / 1e6
        return State(info[0] == ESTABLISHED, packets, min(since_data, acknowledged), since_data, rtt)

    def restart(self) -> None:
        """Begin a new silence now.

        For the path it may have begun with the last data, if nothing else counts there. The kernel keeps no time of a
        keepalive probe that it answers.
        """
        state = self.state()
        self._packets = state.packets
        self.unbroken = 0.0
        self.started = clock()
        self.vague = state.since_data + JIFFY

    @property
    def quiet(self) -> float:
        """Return how long no packet has passed, at least, unless one did since the last restart()."""
        return clock() - self.started

    @property
    def quiet_at_most(self) -> float:
        """Return how long nothing has passed that the path counts, at most."""
        return self.quiet + self.vague

    def heard(self) -> bool:
        """Whether a packet has arrived since the last restart()."""
        quiet = self.quiet
        if self.state().packets != self._packets:
            return True
        self.unbroken = quiet
        return False

    def has_answered(self) -> bool:
        """Whether a packet has arrived since the last restart() besides the reset that ended it."""
        return self.state().packets - self._packets > self.was_reset

    def ended(self) -> bool:
        """Whether it is over: reset, timed out, or closed by the far end. Arrived data is thrown away."""
        try:
            for _ in range(READS):
                if not self.sock.recv(4096):
                    return True
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.error = error.errno or errno.EIO
            return True
        return not self.state().established

    @property
    def was_reset(self) -> bool:
        """Whether a reset ended it."""
        return self.error in (errno.ECONNRESET, errno.EPIPE, errno.ECONNREFUSED)

    def probe(self) -> None:
        """Have the kernel send a keepalive probe now, and again each second until an answer. Raises OSError."""
        set_keepalive(self.sock, idle=1, interval=1)

    def keep(self, interval: int, hops: int | None = None) -> None:
        """Have the kernel probe every so many seconds, over at most so many hops. Raises OSError."""
        if hops is not None:
            self.set_hops(hops)
        set_keepalive(self.sock, idle=interval, interval=interval)

    def stop_probing(self) -> None:
        """Send no probes, and let tcp-keepalived send none. Raises OSError."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, QUIET_MS)

    def set_hops(self, hops: int) -> None:
        """Let packets of this connection pass at most so many hops. Raises OSError."""
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)  # IPv4 passes a socket of IPv6, too (ipv6(7))

    def refuse_from_afar(self, hops_left: int) -> None:
        """Ignore packets that arrive with fewer hops left. Raises OSError."""
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, hops_left)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, hops_left)

    def close(self, *, silently: bool = False) -> None:
        """Close it; `silently` leaves nothing of it in this kernel that would send any more."""
        if silently:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Introduce = Callable[
    [Connection], Awaitable[None]
]  # what is done with each new one; its silence does not wait for that


async def to_nobody(connection: Connection) -> None:
    """Introduce a connection to nobody."""
    del connection


def set_keepalive(sock: socket.socket, *, idle: int, interval: int) -> None:
    """Switch keepalive on; the idle time, set last, credits the silence before. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, FOREVER_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, MOST_PROBES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
