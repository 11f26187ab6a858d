"""Ends of connections that this host gave up, without BPF: sock_diag tells of sockets when they are destroyed.

That is when their program has closed them, too, and no error comes with it. So only those are taken of which packets
were lost at last: an ordinary close and a reset look alike. Only our own network namespace is seen.
Source: net/core/sock_diag.c, include/uapi/linux/inet_diag.h, tcp.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

import numpy as np

from keepaliveD.model.deaths import DEATH, Deaths, Reset
from keepaliveD.model.errors import NotPermitted, Unsupported
from keepaliveD.model.sockets import Bools, Column
from keepaliveD.platforms.linux.deaths import filters
from keepaliveD.platforms.linux.reading.sock_diag import ATTRIBUTE, ATTRIBUTES, INET_DIAG_INFO, NETLINK_SOCK_DIAG

GROUPS = 1 << 0 | 1 << 2  # SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5
MOST = 4096  # that are read at once
LENGTH = 512  # bytes of a message that are read
GAVE_UP = 2  # this many retransmissions or probes without an answer: a reset may have answered the first

MESSAGE = np.dtype(  # struct inet_diag_msg after struct nlmsghdr, with the first attribute, which is struct tcp_info
    {
        "names": ["family", "local_port", "remote_port", "local", "remote", "cookie", "uid"],
        "formats": ["u1", ">u2", ">u2", (">u4", 4), (">u4", 4), ("u4", 2), "u4"],
        "offsets": [16, 20, 22, 24, 40, 60, 80],
        "itemsize": LENGTH,
    }
)
INFO = {  # of struct tcp_info: type, offset
    "retransmits": ("u1", 2),
    "probes": ("u1", 3),
    "rto": ("u4", 8),
    "since_sent": ("u4", 44),
    "since_received": ("u4", 52),
    "since_acked": ("u4", 56),
    "bytes_acked": ("u8", 120),
    "bytes_received": ("u8", 128),
    "unsent": ("u4", 144),
    "bytes_sent": ("u8", 200),
    "bytes_retransmitted": ("u8", 208),
    "window": ("u4", 228),
}
ENDS_AT = 232  # bytes of struct tcp_info: Linux 5.4
SEEN = frozenset(
    {
        *("cookie", "local_high", "local_low", "remote_high", "remote_low", "ended_at", "netns", "uid"),
        *("bytes_received", "bytes_acked", "unacked", "unsent", "window", "timeout", "retransmits", "probes"),
        *("since_sent", "since_received", "since_acked", "silence", "local_port", "remote_port", "error"),
    }
)
NAN = ("since_lost", "since_fin", "since_peer_probe", "since_syn", "silence")
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2


class DestroyedReader:
    """Tells at once of what is destroyed. It waits for nothing."""

    def __init__(self, hindered: str) -> None:
        """Listen; `hindered` is why BPF cannot be used. Raises Unsupported, NotPermitted."""
        self.hindered = f"only what this host gave up, in its own network namespace, is seen: {hindered}"
        self._netns = os.stat("/proc/thread-self/ns/net").st_ino
        self._lost = 0
        try:
            self._socket = _listen()
        except PermissionError as error:
            raise NotPermitted(f"netlink: {error.strerror}: the sandbox must allow AF_NETLINK sockets") from error
        except OSError as error:
            raise Unsupported(f"netlink: {error.strerror}: ends of sockets cannot be seen") from error

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def due(self) -> float | None:
        """Return None: nothing waits here."""
        return None

    def take(self, now: float) -> Deaths:
        """Return the sockets that were destroyed since the last time."""
        messages, lost = self._receive()
        return Deaths(
            _decode(messages, now, self._netns),
            lost=lost,
            seen_by="netlink",
            unknown=frozenset(DEATH.names or ()) - SEEN,
        )

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _receive(self) -> tuple[Column, int]:
        """Return what has come, a row of octets each, and how often more came than there was room for."""
        octets, lost, count = np.zeros((MOST, LENGTH), np.uint8), 0, 0
        while count < MOST:
            try:
                self._socket.recv_into(memoryview(octets[count]))
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS
                lost += 1
                continue
            count += 1
        return octets[:count], lost


def _listen() -> socket.socket:
    netlink = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_SOCK_DIAG
    )
    try:
        filters.attach(netlink, _with_losses())
        netlink.bind((0, GROUPS))
    except OSError:
        netlink.close()
        raise
    return netlink


def _with_losses() -> list[filters.Instruction]:
    """Accept a message whose tcp_info has retransmissions or probes that were not answered."""
    return [
        (filters.LOAD, 0, 0, ATTRIBUTES),
        (filters.LOAD_X, 0, 0, INET_DIAG_INFO),
        (filters.LOAD_WORD, 0, 0, filters.FIND_ATTRIBUTE),
        (filters.JUMP_IF, 3, 0, 0),
        (filters.A_TO_X, 0, 0, 0),
        (filters.LOAD_HALF_AT, 0, 0, ATTRIBUTE.size + INFO["retransmits"][1]),
        (filters.JUMP_IF, 0, 1, 0),
        (filters.RETURN, 0, 0, 0),
        (filters.RETURN, 0, 0, LENGTH),
    ]


def _decode(octets: Column, now: float, netns: int) -> Column:
    """Return these messages as rows of DEATH."""
    starts = np.array([_find_info(row.tobytes()) for row in octets[:1]])
    if not len(starts) or not starts[0]:
        return np.zeros(0, DEATH)
    info = int(starts[0])  # all are laid out alike: they are of one kernel, and no attribute comes before
    messages = octets.view(MESSAGE)[:, 0]
    of_info = {
        name: np.ndarray((len(octets),), kind, octets, info + offset, (LENGTH,))
        for name, (kind, offset) in INFO.items()
    }
    rows = np.zeros(len(octets), DEATH)
    for name in ("local_port", "remote_port", "uid"):
        rows[name] = messages[name]
    for name in ("retransmits", "probes", "bytes_acked", "bytes_received", "unsent", "window"):
        rows[name] = of_info[name]
    for name in NAN:
        rows[name] = np.nan
    rows["netns"] = netns
    rows["cookie"] = messages["cookie"][:, 0] | messages["cookie"][:, 1].astype("u8") << np.uint64(32)
    _fill_addresses(rows, messages)
    sent = of_info["bytes_sent"].astype("i8") - of_info["bytes_retransmitted"].astype("i8")
    unacked = sent - of_info["bytes_acked"].astype("i8")  # one less where this host connected: the SYN counts there
    rows["unacked"] = np.where(rows["retransmits"] != 0, np.maximum(unacked, 1), 0)
    gave_up = (rows["retransmits"] >= GAVE_UP) | (rows["probes"] >= GAVE_UP)
    rows["error"] = np.where(gave_up, errno.ETIMEDOUT, errno.ECONNRESET)
    rows["reset"] = np.where(gave_up, Reset.NONE.value, Reset.UNSEEN.value)
    _fill_times(rows, of_info, now, unacked > 0)
    return rows


def _fill_times(rows: Column, info: dict[str, Column], now: float, had_data: Bools) -> None:
    """Tell when it ended: one timeout after the last retransmission; each timeout is twice the one before.

    A FIN does not count as sent; then the program had closed before.
    """
    times = {name: info[name] / 1000 for name in ("since_sent", "since_received", "since_acked")}
    last = info["rto"] / 1e6
    data = rows["retransmits"] != 0
    closed_after = np.where(data & had_data, np.maximum(times["since_sent"] - last, 0), 0)
    for name, ages in times.items():
        rows[name] = np.maximum(ages - closed_after, 0)
    first = last / 2.0 ** rows["retransmits"]
    unanswered = 2 * last - first
    heard = np.minimum(rows["since_received"], rows["since_acked"])
    rows["timeout"] = first
    rows["silence"] = np.where(data, np.maximum(heard - unanswered, 0), np.nan)
    rows["ended_at"] = now - closed_after


def _fill_addresses(rows: Column, messages: Column) -> None:
    v4 = messages["family"] == socket.AF_INET
    for side in ("local", "remote"):
        words = messages[side].astype("u8")
        high, low = (words[:, n] << np.uint64(32) | words[:, n + 1] for n in (0, 2))
        rows[f"{side}_high"] = np.where(v4, 0, high)
        rows[f"{side}_low"] = np.where(v4, words[:, 0] | np.uint64(V4_MAPPED), low)


def _find_info(message: bytes) -> int:
    """Return where struct tcp_info begins; 0 if it is missing, or older than what is read of it."""
    (length,) = struct.unpack_from("=I", message)
    at = ATTRIBUTES
    while at + ATTRIBUTE.size <= min(length, len(message)):
        size, kind = ATTRIBUTE.unpack_from(message, at)
        if kind == INET_DIAG_INFO and size >= ATTRIBUTE.size + ENDS_AT:
            return at + ATTRIBUTE.size
        at += max((size + 3) & ~3, ATTRIBUTE.size)
    return 0
