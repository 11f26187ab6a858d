"""Ends of connections without BPF: sock_diag tells of sockets when they are destroyed.

That is when their program has closed them, too, and no error comes with it. What this host gave up shows by its
retransmissions and probes. For all else it takes the packets that came (packets.py), and ICMP errors (icmp.py): a
reset that TCP accepted has the number that follows from the beginning of the connection and what was received since.
Whether this end sent a FIN shows by the numbers that it used (closes.py).
Only our own network namespace is seen.
Source: net/core/sock_diag.c, include/uapi/linux/inet_diag.h, tcp.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct

import numpy as np

from keepaliveD.model.deaths import DEATH, Deaths, Reset
from keepaliveD.model.errors import NotPermitted, Unsupported
from keepaliveD.model.sockets import Bools, Column, Floats, TcpState
from keepaliveD.platforms import clock
from keepaliveD.platforms.linux.deaths import closes, filters
from keepaliveD.platforms.linux.deaths.asleep import Asleep
from keepaliveD.platforms.linux.deaths.closes import LAST_ACK, Sent
from keepaliveD.platforms.linux.deaths.icmp import IcmpErrors, Unacked
from keepaliveD.platforms.linux.deaths.packets import KEY, Begun, Found, Key, Packets
from keepaliveD.platforms.linux.deaths.resets import NUMBERS, Span, fill_in_reset
from keepaliveD.platforms.linux.reading.dumps import NETLINK_SOCK_DIAG
from keepaliveD.platforms.linux.reading.messages import ATTRIBUTE, ATTRIBUTES, INET_DIAG_INFO

GROUPS = 1 << 0 | 1 << 2  # SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY
SO_MEMINFO = 55  # include/uapi/asm-generic/socket.h
MEMORY, DROPS = struct.Struct("=9I"), 8  # SK_MEMINFO_VARS and SK_MEMINFO_DROPS of include/uapi/linux/sock_diag.h
MOST = 4096  # that are read at once
SHORTEST_VARIANCE = 0.2  # seconds: TCP_RTO_MIN, which a timeout is longer than the round trip at least
SHORTEST_TIMEOUT = 0.001  # seconds; a socket that was never connected may have none
GAVE_UP = 2  # this many retransmissions or probes without an answer: a reset may have answered the first
LENGTH = 512  # bytes of a message that are read
ROOM = 4 << 20  # bytes that may wait: every connection that ends in our namespace is one of some hundred
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h

MESSAGE = np.dtype(  # struct inet_diag_msg after struct nlmsghdr, with the first attribute, which is struct tcp_info
    {
        "names": ["family", "local_port", "remote_port", "local", "remote", "cookie", "unread", "waiting", "uid"],
        "formats": ["u1", ">u2", ">u2", (">u4", 4), (">u4", 4), ("u4", 2), "u4", "u4", "u4"],
        "offsets": [16, 20, 22, 24, 40, 60, 72, 76, 80],
        "itemsize": LENGTH,
    }
)
INFO = {  # of struct tcp_info: type, offset
    "retransmits": ("u1", 2),
    "probes": ("u1", 3),
    "options": ("u1", 5),
    "rto": ("u4", 8),
    "rtt": ("u4", 68),
    "rttvar": ("u4", 72),
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
OPT_TIMESTAMPS = 1  # of tcpi_options
ENDS_AT = 232  # bytes of struct tcp_info: Linux 5.4
OF_SOCKETS = frozenset(
    {
        *("cookie", "local_high", "local_low", "remote_high", "remote_low", "ended_at", "netns", "uid"),
        *("bytes_received", "bytes_acked", "unacked", "unsent", "window", "timeout", "retransmits", "probes"),
        *("since_sent", "since_received", "since_acked", "silence", "local_port", "remote_port", "error", "unread"),
    }
)
OF_PACKETS = frozenset(
    {
        *("reset", "reset_flags", "reset_ttl", "reset_id", "reset_window", "reset_label", "reset_timestamps"),
        *("reset_local", "peer_ttl", "timestamps", "since_syn", "syn_ttl", "since_fin", "fin_first"),
    }
)
OF_ERRORS = frozenset({"router_high", "router_low", "icmp_type", "icmp_code"})
NAN = ("since_lost", "since_fin", "since_peer_probe", "peer_probe_gap", "since_syn", "silence")
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2
NOTHING = np.zeros((0, LENGTH), np.uint8)
SENT = np.dtype([(name, "i8") for name in Sent._fields])


class DestroyedReader:
    """Returns at once what was destroyed. It waits for nothing."""

    def __init__(self, hindered: str, *, packets: bool, idle: float = 0.0) -> None:
        """Listen; `hindered` is why BPF cannot be used, `idle` as in DeathWatch. Raises Unsupported, NotPermitted."""
        self._idle = idle
        self._netns = os.stat("/proc/thread-self/ns/net").st_ino
        self._packets = Packets(wanted=packets)
        self._errors = IcmpErrors()
        try:
            self._given_up = _listen(accept_without=0)
            self._others = _listen(accept_without=LENGTH) if self._packets.sockets else None
        except PermissionError as error:
            raise NotPermitted(f"netlink: {error.strerror}: the sandbox must allow AF_NETLINK sockets") from error
        except OSError as error:
            raise Unsupported(f"netlink: {error.strerror}: ends of sockets cannot be seen") from error
        seen = "resets and ends that this host gave up" if self._others else "ends that this host gave up"
        unread = self._packets.hindered
        if self._errors.hindered:  # for the same reason, which need not be said twice
            unread = unread.partition(": ")[0]
        reasons = filter(None, (hindered, unread, self._errors.hindered))
        self.hindered = f"only {seen} are seen, in this network namespace: {'; '.join(reasons)}"
        self._unknown = frozenset(DEATH.names or ()) - OF_SOCKETS
        self._unknown -= OF_PACKETS if self._others else frozenset()
        self._unknown -= frozenset() if self._errors.hindered else OF_ERRORS
        self._taken_at = clock.now()
        self._asleep = Asleep()
        self._unread = 0  # packets for which there was no room: each may have ended one of those still to come
        self._dropped = self._count_dropped()
        self._ready = select.epoll()
        for each in filter(None, (self._given_up, self._others, *self._packets.sockets)):
            self._ready.register(each, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that can be read from when there is something to take in."""
        return self._ready.fileno()

    def due(self) -> float | None:
        """Return None: nothing waits here. The clocks are looked at, as by every reader."""
        self._asleep.look()
        return None

    def take(self, now: float, *, early: bool = False) -> Deaths:
        """Return the sockets that were destroyed since the last time."""
        del early  # nothing waits here
        given_up = _receive(self._given_up)
        others = _receive(self._others) if self._others else NOTHING
        dropped_before, self._dropped = self._dropped, self._count_dropped()
        self._unread += self._packets.read()  # after the sockets: what ended one of them has come by now
        self._errors.read()
        rows, sent = _decode(np.concatenate([given_up, others]), now, self._netns)
        told, uncertain = self._explain(rows, sent, Span(self._taken_at, now))
        self._taken_at = now
        self._asleep.look()
        self._asleep.lengthen(rows)
        dropped = self._dropped - dropped_before
        unexplained = min(max(0, self._unread - dropped), int(uncertain.sum()))
        self._unread = max(0, self._unread - dropped - unexplained)
        return Deaths(
            rows[told],
            ordinary=len(rows) - int(told.sum()) - unexplained,
            lost=dropped + unexplained,
            seen_by="netlink",
            unknown=self._unknown,
        )

    def close(self) -> None:
        """Listen no more."""
        for each in (self._ready, self._given_up, self._others, self._packets, self._errors):
            if each:
                each.close()

    def _count_dropped(self) -> int:
        """Return of how many ends nothing is known because there was no room, since the start."""
        return sum(_dropped(each) for each in (self._given_up, self._others) if each)

    def _explain(self, rows: Column, sent: Column, destroyed: Span) -> tuple[Bools, Bools]:
        """Fill in what ended each connection, as far as packets tell.

        Return which did not end ordinarily, and of which nothing is known that ended it.
        """
        told: Bools = rows["error"] == errno.ETIMEDOUT
        if not self._others:
            rows["unread"][rows["unread"] == 1] = 0  # it may be the peer's FIN
            told |= rows["error"] == errno.ECONNRESET  # one retransmission may have brought about a reset
            return told, np.zeros(len(rows), np.bool_)
        uncertain: Bools = (rows["bytes_acked"] != 0) | (rows["bytes_received"] != 0)  # others were never established
        notable = (told | self._may_tell(rows)).tolist()  # all others are looked at only if a packet says so
        each = map(Sent._make, sent.tolist())
        for number, (key, numbers) in enumerate(zip(_keys(rows), each, strict=True)):
            found = self._packets.take(key)
            if notable[number] or found.resets or closes.used_no_fin(found, numbers):
                told[number] |= self._fill_in(rows[number], found, numbers, destroyed)
            if found.fin is not None:
                uncertain[number] = False  # a reset that is known may be a forger's
        return told, uncertain & ~told

    def _may_tell(self, rows: Column) -> Bools:
        """Return which sockets had unread data, more than a FIN, or were quiet for as long as is told of."""
        may: Bools = rows["unread"] > 1
        if self._idle:
            may |= np.minimum(rows["since_sent"], rows["since_received"]) >= self._idle
        return may

    def _fill_in(self, row: Column, found: Found, sent: Sent, destroyed: Span) -> bool:
        """Fill in the reset, the ICMP error or the close that ended a connection, a row of DEATH; return if any did.

        A close without a FIN may be a reset for which there was no room.
        """
        row["unread"] = closes.unread(row, found)
        timed_out = row["error"] == errno.ETIMEDOUT
        told = False
        if found.resets and not closes.had_closed(row, found, sent):
            told = fill_in_reset(row, found, destroyed, sent.unacked)
            if told and not found.fin and closes.sent_fin(found, sent):
                row["state"] = TcpState.FIN_WAIT1.value
        elif not timed_out and not self._unread:
            told = closes.fill_in_close(row, found, sent, destroyed, self._idle)
        if not sent.unacked and closes.had_both_closed(row, found, sent):  # nothing was written after the peer's FIN
            row["state"] = LAST_ACK
        if row["error"] == errno.ETIMEDOUT:
            self._errors.fill_in(row, _unacked(row, found.begun, sent.unacked))
        return told


def _unacked(row: Column, begun: Begun | None, count: int) -> Unacked | None:
    """Return which numbers the peer had not acknowledged, a keepalive probe's and a FIN's among them.

    They follow from the peer's answer to the SYN of this host; None where that was not seen.
    """
    if not begun or not begun.connects:
        return None
    first = begun.acknowledged - 1 + int(row["bytes_acked"])  # which counts the SYN, too
    return Unacked((first - 1) % NUMBERS, count + 2)


def _receive(source: socket.socket) -> Column:
    """Return what has come, a row of octets each; an error may be told each time."""
    octets, count = np.zeros((MOST, LENGTH), np.uint8), 0
    for _ in range(MOST):
        try:
            source.recv_into(memoryview(octets[count]))
        except BlockingIOError:
            break
        except OSError:  # ENOBUFS: more came than there was room for, which the kernel counts
            continue
        count += 1
    return octets[:count]


def _dropped(source: socket.socket) -> int:
    """Return how many messages found no room since the socket was opened."""
    numbers: tuple[int, ...] = MEMORY.unpack(source.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMORY.size))
    return numbers[DROPS]


def _listen(*, accept_without: int) -> socket.socket:
    """Return a socket for ends after losses, or with `accept_without` octets for those without any."""
    netlink = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_SOCK_DIAG
    )
    try:
        with contextlib.suppress(PermissionError):  # then there is room for some hundred
            netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        filters.attach(netlink, _by_losses(LENGTH - accept_without, accept_without))
        netlink.bind((0, GROUPS))
    except OSError:
        netlink.close()
        raise
    return netlink


def _by_losses(some: int, none: int) -> list[filters.Instruction]:
    """Accept so many octets of a message whose tcp_info has retransmissions or probes without an answer, or none."""
    return [
        (filters.LOAD, 0, 0, ATTRIBUTES),
        (filters.LOAD_X, 0, 0, INET_DIAG_INFO),
        (filters.LOAD_WORD, 0, 0, filters.FIND_ATTRIBUTE),
        (filters.JUMP_IF, 5, 0, 0),
        (filters.A_TO_X, 0, 0, 0),
        (filters.LOAD_HALF_AT, 0, 0, ATTRIBUTE.size + INFO["retransmits"][1]),
        (filters.JUMP_IF, 1, 0, 0),
        (filters.RETURN, 0, 0, some),
        (filters.RETURN, 0, 0, none),
        (filters.RETURN, 0, 0, 0),
    ]


def _keys(rows: Column) -> list[Key]:
    columns = ("local_port", "remote_port", "local_high", "local_low", "remote_high", "remote_low")
    return [KEY.pack(*each) for each in zip(*(rows[name].tolist() for name in columns), strict=True)]


def _decode(octets: Column, now: float, netns: int) -> tuple[Column, Column]:
    """Return these messages as rows of DEATH, and what had become of what was sent, in rows of SENT.

    `error` says by the losses alone what may have ended each.
    """
    starts = np.array([_find_info(row.tobytes()) for row in octets[:1]])
    if not len(starts) or not starts[0]:
        return np.zeros(0, DEATH), np.zeros(0, SENT)
    info = int(starts[0])  # all are laid out alike: they are of one kernel, and no attribute comes before
    messages = octets.view(MESSAGE)[:, 0]
    of_info = {
        name: np.ndarray((len(octets),), kind, octets, info + offset, (LENGTH,))
        for name, (kind, offset) in INFO.items()
    }
    rows = np.zeros(len(octets), DEATH)
    for name in ("local_port", "remote_port", "uid", "unread"):
        rows[name] = messages[name]
    for name in ("retransmits", "probes", "bytes_acked", "bytes_received", "unsent", "window"):
        rows[name] = of_info[name]
    for name in NAN:
        rows[name] = np.nan
    rows["netns"] = netns
    rows["cookie"] = messages["cookie"][:, 0] | messages["cookie"][:, 1].astype("u8") << np.uint64(32)
    rows["timestamps"] = of_info["options"] & OPT_TIMESTAMPS
    _fill_addresses(rows, messages)
    data = of_info["bytes_sent"].astype("i8") - of_info["bytes_retransmitted"].astype("i8")
    unacked = data - of_info["bytes_acked"].astype("i8")  # one less where this host connected: the SYN counts there
    lossy = rows["retransmits"] != 0
    rows["unacked"] = np.where(lossy, np.maximum(unacked, 1), 0)
    gave_up = (rows["retransmits"] >= GAVE_UP) | (rows["probes"] >= GAVE_UP)
    lost_one = ~gave_up & (lossy | (rows["probes"] != 0))
    rows["error"] = np.select([gave_up, lost_one], [errno.ETIMEDOUT, errno.ECONNRESET])
    rows["reset"] = np.where(lost_one, Reset.UNSEEN.value, Reset.NONE.value)
    _fill_times(rows, of_info, now, unacked > 0)
    sent = np.zeros(len(octets), SENT)
    sent["unacked"], sent["waiting"] = np.maximum(unacked, 0), messages["waiting"]
    sent["surplus"] = messages["waiting"].astype("i8") - rows["unsent"] - unacked
    return rows, sent


def _fill_times(rows: Column, info: dict[str, Column], now: float, had_data: Bools) -> None:
    """Tell when it ended: one timeout after the last retransmission.

    A FIN does not count as sent; then the program had closed before.
    """
    times = {name: info[name] / 1000 for name in ("since_sent", "since_received", "since_acked")}
    last = info["rto"] / 1e6
    data = rows["retransmits"] != 0
    closed_after = np.where(data & had_data, np.maximum(times["since_sent"] - last, 0), 0)
    closed_after[rows["error"] != errno.ETIMEDOUT] = 0
    for name, ages in times.items():
        rows[name] = np.maximum(ages - closed_after, 0)
    usual = info["rtt"] / 1e6 + np.maximum(4 * info["rttvar"] / 1e6, SHORTEST_VARIANCE)
    heard = np.minimum(rows["since_received"], rows["since_acked"])
    rows["timeout"] = last / 2.0 ** rows["retransmits"]
    unanswered = waited(usual, last, rows["retransmits"])
    rows["silence"] = np.where(data, np.maximum(heard - unanswered, 0), np.nan)
    rows["ended_at"] = now - closed_after


def waited(usual: Floats, last: Floats, retransmits: Column) -> Floats:
    """Return for how long this host waited for answers until it gave up, in seconds, by its last timeout.

    Each timeout is twice the one before, from `usual` on, but none is longer than the longest that the system has:
    where the last one is that, its length says nothing of the first.
    """
    last = np.maximum(last, SHORTEST_TIMEOUT)
    count, usual = retransmits.astype(np.float64), np.clip(usual, SHORTEST_TIMEOUT, last)
    limited = usual * 2.0**count > 1.5 * last
    doubled = np.minimum(np.floor(np.log2(last / usual)) + 1, count + 1)
    with_limit = usual * (2.0**doubled - 1) + last * (count + 1 - doubled)
    total: Floats = np.where(limited, with_limit, 2 * last - last / 2.0**count)
    return total


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
