"""Cookies of sockets that have none yet: the kernel gives one when it is first asked (net/core/sock_diag.c).

Asked for one socket instead of all, NETLINK_SOCK_DIAG looks it up by its addresses
(inet_diag_find_one_icsk, net/ipv4/inet_diag.c).
"""

from __future__ import annotations

import socket
import struct
import sys

import numpy as np

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Column, Sockets, Timer
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux.reading.dumps import DATAGRAM, NLM_F_DUMP, NLM_F_REQUEST, STATES, connect
from keepaliveD.platforms.linux.reading.messages import (
    BODY,
    COOKIE,
    HEADER,
    MESSAGE_FIELDS,
    SOCK_DIAG_BY_FAMILY,
    V4_MAPPED,
)

REQUEST = np.dtype(  # struct nlmsghdr, struct inet_diag_req_v2
    [
        *(("length", "u4"), ("type", "u2"), ("flags", "u2"), ("sequence", "u4"), ("port", "u4")),
        *(("family", "u1"), ("protocol", "u1"), ("extensions", "u1"), ("padding", "u1"), ("states", "u4")),
        *(("local_port", ">u2"), ("remote_port", ">u2"), ("local", ">u8", 2), ("remote", ">u8", 2)),
        *(("interface", "u4"), ("cookie", "u8")),
    ]
)
ANY = (1 << 64) - 1  # INET_DIAG_NOCOOKIE
AT_ONCE = 64  # answers that a socket's buffer surely holds
TIMER, INODE = (BODY + MESSAGE_FIELDS[name][1] for name in ("timer", "inode"))


class Cookies:
    """Of the network namespace of the thread that makes this, which it keeps alive."""

    def __init__(self) -> None:
        """Raises NotPermitted, Unsupported."""
        self._socket = connect()
        self._space = bytearray(DATAGRAM)

    def close(self) -> None:
        """Let go of the namespace."""
        self._socket.close()

    def give_to_all(self) -> None:
        """Have the kernel give a cookie to each socket of the namespace, by a dump that is thrown away.

        For many that is ten times as fast as asking for each. A dump that asks for no attribute waits for no
        socket's lock. Some may be left out. Raises KernelError.
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            body = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, STATES)
            flags = NLM_F_REQUEST | NLM_F_DUMP
            try:
                self._socket.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body)
                while self._socket.recv_into(self._space):  # something is left until the dump is done
                    touching.on()
            except BlockingIOError:
                continue
            except OSError as error:
                self._forget_answers()
                raise KernelError(f"sock_diag: {error.strerror}") from error

    def of(self, sockets: Sockets) -> Column:
        """One a row, 0 where that socket is gone; interfaces are the kernel's indices. Raises KernelError."""
        requests = _requests(sockets)
        inodes = sockets["inode"].tolist()
        cookies = np.zeros(len(sockets), np.uint64)
        try:
            for start in range(0, len(requests), AT_ONCE):
                touching.on()
                some = requests[start : start + AT_ONCE]
                self._socket.send(some.tobytes())
                for _ in some:
                    self._socket.recv_into(self._space)
                    row = HEADER.unpack_from(self._space)[3]
                    if self._is_told(inodes[row]):
                        cookies[row] = self._number(COOKIE, 8)
        except OSError as error:
            self._forget_answers()
            raise KernelError(f"sock_diag: {error.strerror}") from error
        return cookies

    def _forget_answers(self) -> None:
        """Or they would be taken for those to the next requests."""
        for _ in range(2 * AT_ONCE):  # each answer, and an error for each
            try:
                self._socket.recv_into(self._space)
            except BlockingIOError:
                break
            except OSError:
                continue  # ENOBUFS, of which one is told once

    def _is_told(self, inode: int) -> bool:
        """Whether the answer is about that socket, and not that it is gone, or has left its addresses to another."""
        kind = HEADER.unpack_from(self._space)[1]
        return kind == SOCK_DIAG_BY_FAMILY and self._space[TIMER] != Timer.TIMEWAIT and self._number(INODE, 4) == inode

    def _number(self, offset: int, size: int) -> int:
        return int.from_bytes(self._space[offset : offset + size], sys.byteorder)


def _requests(sockets: Sockets) -> Column:
    """A message for each row, which is its number."""
    requests = np.zeros(len(sockets), REQUEST)
    requests["length"] = REQUEST.itemsize
    requests["type"] = SOCK_DIAG_BY_FAMILY
    requests["flags"] = NLM_F_REQUEST
    requests["sequence"] = np.arange(len(sockets))
    mapped = (sockets["local_high"] == 0) & (sockets["local_low"] >> np.uint64(32) == V4_MAPPED >> 32)
    requests["family"] = np.where(mapped, socket.AF_INET, socket.AF_INET6)
    requests["protocol"] = socket.IPPROTO_TCP
    requests["cookie"] = ANY
    requests["interface"] = sockets["interface"]
    for side in ("local", "remote"):
        high, low = sockets[f"{side}_high"], sockets[f"{side}_low"]
        requests[side][:, 0] = np.where(mapped, low << np.uint64(32), high)
        requests[side][:, 1] = np.where(mapped, 0, low)
        requests[f"{side}_port"] = sockets[f"{side}_port"]
    return requests
