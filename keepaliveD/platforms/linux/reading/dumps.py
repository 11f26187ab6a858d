"""Dumps of NETLINK_SOCK_DIAG: a netlink socket asks for all TCP sockets of a family, and receives them."""

from __future__ import annotations

import socket
import struct

from keepaliveD.model.errors import KernelError, NotPermitted, Unsupported, is_shortage
from keepaliveD.model.sockets import Sockets, TcpState
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux import capabilities
from keepaliveD.platforms.linux.reading.messages import (
    HEADER,
    INET_DIAG_INFO,
    SOCK_DIAG_BY_FAMILY,
    Malformed,
    decode,
    survey,
)

NETLINK_SOCK_DIAG = 4
NLM_F_REQUEST = 0x001
NLM_F_DUMP = 0x300
KERNEL = (0, 0)  # netlink port id, multicast groups

SYN_SENT, LAST_ACK, LISTEN, CLOSING = 2, 9, 10, 11  # include/net/tcp_states.h: others that the kernel counts
STATES = sum(1 << state for state in (*TcpState, SYN_SENT, LAST_ACK, LISTEN, CLOSING))

DATAGRAM = 32 * 1024  # the most that the kernel sends of a dump at once (net/netlink/af_netlink.c)
BATCH = 96 * DATAGRAM  # enough to make the cost of a NumPy call disappear


def connect() -> socket.socket:
    """Return a socket to the sock_diag of the calling thread's network namespace, which does not wait.

    A netlink socket opened with CAP_NET_ADMIN is also shown TCP-MD5 keys. Any user may set more of them than fit
    into a message, and there a dump ends without an error (inet_diag_dump_icsk, net/ipv4/inet_diag.c).
    Raises NotPermitted, Unsupported, KernelError.
    """
    try:
        with capabilities.without(capabilities.NET_ADMIN):
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        netlink.connect(KERNEL)  # from now on nobody else's messages are let in
    except PermissionError as error:
        raise NotPermitted(f"netlink: {error.strerror}: the sandbox must allow AF_NETLINK sockets") from error
    except OSError as error:
        if is_shortage(error):
            raise KernelError(f"netlink: a socket cannot be opened: {error.strerror}") from error
        raise Unsupported(f"netlink: {error.strerror}: watching sockets requires NETLINK_SOCK_DIAG") from error
    netlink.setblocking(False)  # the kernel answers at once, and a timeout would cost a poll(2) a datagram
    return netlink


class Dumps:
    """A netlink socket that sees one network namespace: that of the thread which opened it."""

    def __init__(self) -> None:
        """Raises NotPermitted, Unsupported, KernelError."""
        self._socket = connect()
        self._sequence = 0

    def close(self) -> None:
        """Let go of the namespace, which an open socket keeps alive."""
        self._socket.close()

    def receive(self, family: int, netns: int, sockets: Sockets, scratch: bytearray) -> tuple[int, bool]:
        """Append all sockets of a family; return how many it met, and false where it raced with changes.

        `netns` goes into the column of that name; `scratch`, of BATCH bytes, is overwritten.
        Raises KernelError where the kernel refuses, Malformed where its answer makes no sense.
        """
        self._request(family)
        space = memoryview(scratch)
        met, done, whole = 0, False, True
        while not done:
            filled = self._fill(space)
            if not filled:
                raise KernelError("sock_diag: the dump is incomplete")
            batches, done, undisturbed = survey(space[:filled])
            met += decode(batches, netns, sockets)
            whole = whole and undisturbed
        return met, whole

    def _request(self, family: int) -> None:
        self._sequence += 1
        body = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), STATES)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        header = HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, self._sequence, 0)
        try:
            self._socket.send(header + body)
        except OSError as error:
            raise KernelError(f"sock_diag: {error.strerror}") from error

    def _fill(self, scratch: memoryview) -> int:
        """Receive until `scratch` is full or nothing is left; how many bytes that are.

        The kernel makes the next part of a dump while it hands out the one before
        (netlink_recvmsg, net/netlink/af_netlink.c), so something is left until the dump is done.
        """
        filled = 0
        while filled + DATAGRAM <= len(scratch) and (size := self._receive(scratch[filled : filled + DATAGRAM])):
            touching.on()
            if HEADER.unpack_from(scratch, filled)[3] == self._sequence:  # else left over from a dump given up
                filled += size
        return filled

    def _receive(self, space: memoryview) -> int:
        """The size of the next datagram, 0 if there is none."""
        try:
            size = self._socket.recv_into(space, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise KernelError(f"sock_diag: {error.strerror}") from error
        if not HEADER.size <= size <= len(space):
            raise Malformed(f"sock_diag: a datagram of {size} bytes")
        return size
