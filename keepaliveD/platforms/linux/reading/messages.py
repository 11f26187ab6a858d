"""TCP sockets in messages of NETLINK_SOCK_DIAG, decoded in place into rows of sockets.SOCKET.

Source: include/uapi/linux/inet_diag.h, sock_diag.h, netlink.h, tcp.h.
A message is `struct nlmsghdr`, `struct inet_diag_msg`, then attributes whose number and length
depend on kernel, family and socket.
Sockets of one kind give messages of one layout, so a layout is found once and a whole batch is
read through it as a NumPy array; what is laid out otherwise becomes a batch of its own.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Column, Sockets, TcpState, Timer

SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_DUMP_INTR = 0x010

INET_DIAG_INFO = 2
INET_DIAG_ULP_INFO = 19  # who has taken over the socket; older kernels show it to CAP_NET_ADMIN alone
INET_DIAG_CGROUP_ID = 21
ATTRIBUTE_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK
NEEDED = {INET_DIAG_INFO: 144, INET_DIAG_ULP_INFO: 12, INET_DIAG_CGROUP_ID: 8}  # bytes, for an attribute to be of use

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
DONE_LENGTH = HEADER.size + 4  # it carries an int
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
ULP_NAME = 2 * ATTRIBUTE.size  # the first attribute in INET_DIAG_ULP_INFO is INET_ULP_INFO_NAME
BODY = HEADER.size  # struct inet_diag_msg begins here
ATTRIBUTES = BODY + 72

MESSAGE_FIELDS = {  # of struct inet_diag_msg: type, offset
    "state": ("u1", 1),
    "timer": ("u1", 2),
    "local_port": (">u2", 4),
    "remote_port": (">u2", 6),
    "interface": ("u4", 40),
    "expires": ("u4", 52),
    "uid": ("u4", 64),
    "inode": ("u4", 68),
}
ADDRESSES = {"local": BODY + 8, "remote": BODY + 24}
COOKIE = BODY + 44
INFO_FIELDS = {  # of struct tcp_info; the segment counters came with Linux 4.2
    "retransmits": ("u1", 2),
    "probes": ("u1", 3),
    "since_sent": ("u4", 44),
    "since_received": ("u4", 52),
    "since_acked": ("u4", 56),
    "segments_out": ("u4", 136),
    "segments_in": ("u4", 140),
}
UNTOLD = ("keepidle", "keepintvl", "keepcnt", "keepalive", "own", "user_timeout")  # sock_diag has no attribute for them
UNKNOWN = ("since_packet", "slack")
MILLISECONDS = ("expires", "since_sent", "since_received", "since_acked")

LOOK_AHEAD = 16  # messages
MAX_ERRNO = 4095  # include/linux/err.h

WANTED = np.isin(np.arange(256), list(TcpState))  # by the number of a state
MPTCP = b"mptcp"
V4_MAPPED = 0xFFFF_0000_0000  # RFC 4291, 2.5.5.2

Messages = npt.NDArray[np.uint8]  # (messages, length of each)


class Run(NamedTuple):
    """Messages of one length, type and flags, one after the other."""

    start: int
    length: int
    number: int

    @property
    def end(self) -> int:
        """Return where the next message begins."""
        return self.start + self.length * self.number


class Malformed(KernelError):
    """These bytes are not what a kernel sends."""


def survey(data: memoryview) -> tuple[list[Messages], bool, bool]:
    """Return the sockets, those in messages of one length together; do they end the dump; is it undisturbed by changes.

    Raises KernelError where the kernel refuses, Malformed where these are no such messages.
    """
    undisturbed, end = True, 0
    runs: list[Run] = []
    while end < len(data):
        length, kind, flags, _, _ = _header(data, end)
        undisturbed = undisturbed and not flags & NLM_F_DUMP_INTR
        if kind == NLMSG_DONE and _result(data[end : end + length]) >= 0:
            return _by_length(data[:end], runs), True, undisturbed
        if kind in (NLMSG_DONE, NLMSG_ERROR):
            raise _refusal(data[end : end + length])
        if kind != SOCK_DIAG_BY_FAMILY:
            raise Malformed(f"sock_diag: a message of unknown type {kind}")
        runs.append(Run(end, _aligned(length), _alike(data[end:])))
        end = runs[-1].end
    return _by_length(data, runs), False, undisturbed


def _refusal(message: memoryview) -> KernelError:
    """The kernel's error message as an exception."""
    reason = os.strerror(min(-_result(message), MAX_ERRNO))
    return KernelError(f"sock_diag: {reason}: is the kernel's module tcp_diag there?")


def _result(message: memoryview) -> int:
    """The negative errno in NLMSG_ERROR, and in NLMSG_DONE, where a dump that fails puts it."""
    if len(message) < DONE_LENGTH:
        raise Malformed("sock_diag: an answer without its result")
    (code,) = struct.unpack_from("=i", message, HEADER.size)
    return int(code)


def _header(data: memoryview, offset: int) -> tuple[int, int, int, int, int]:
    left = len(data) - offset
    if left < HEADER.size:
        raise Malformed(f"sock_diag: {left} bytes are no message")
    header: tuple[int, int, int, int, int] = HEADER.unpack_from(data, offset)
    if not HEADER.size <= header[0] or _aligned(header[0]) > left:
        raise Malformed(f"sock_diag: a message of {header[0]} bytes where {left} are left")
    return header


def _aligned(length: int) -> int:
    """NLMSG_ALIGN, and NLA_ALIGN."""
    return (length + 3) & ~3


def _alike(data: memoryview) -> int:
    """How many messages at the front have the first one's length, type and flags."""
    stride = _aligned(HEADER.unpack_from(data)[0])
    heads: Column = np.ndarray((len(data) // stride,), np.uint64, data, strides=(stride,))
    ahead = LOOK_AHEAD  # first a little: where lengths alternate, looking at all each time would be quadratic
    while True:
        same = heads[:ahead] == heads[0]
        if not same.all():
            return int(same.argmin())
        if ahead >= len(heads):
            return len(heads)
        ahead *= LOOK_AHEAD


def decode(batches: Iterable[Messages], netns: int, sockets: Sockets) -> int:
    """Append the sockets in these messages, and return how many the kernel counts of them.

    Those in other states than TcpState are counted only. The kernel chooses by their state and reads it again to
    tell it, without a lock: some have gone on.
    """
    met = 0
    for messages in batches:
        full = _without_timewait(messages)
        met += len(full)
        rest = _in_wanted_states(full)
        while len(rest):
            attributes = _attributes(rest[0].data)
            same = _same_layout(rest, attributes)
            _append(rest if same.all() else rest[same], attributes, netns, sockets)
            rest = rest[~same]
    return met


def _in_wanted_states(messages: Messages) -> Messages:
    wanted = WANTED[messages[:, BODY + 1]]
    return messages if wanted.all() else messages[wanted]


def _without_timewait(messages: Messages) -> Messages:
    """The same without those that are a mere timer: no program holds them, and no attributes come with them.

    The kernel lists them under the state they were in, FIN_WAIT2 (inet_twsk_diag_fill, net/ipv4/inet_diag.c).
    """
    if messages.shape[1] < ATTRIBUTES:
        raise Malformed(f"sock_diag: a socket of {messages.shape[1]} bytes, at least {ATTRIBUTES} expected")
    if messages.shape[1] > ATTRIBUTES + NEEDED[INET_DIAG_INFO]:
        return messages  # they have attributes
    timewait = _field(messages, BODY + 2, "u1") == Timer.TIMEWAIT
    return messages[~timewait] if timewait.any() else messages


def _by_length(data: memoryview, runs: Sequence[Run]) -> list[Messages]:
    """Return the messages of equal length as the rows of one array."""
    octets = np.frombuffer(data, np.uint8)
    if len(runs) == 1:
        return [octets.reshape(-1, runs[0].length)]
    starts: dict[int, list[int]] = {}
    for run in runs:
        starts.setdefault(run.length, []).extend(range(run.start, run.end, run.length))
    return [octets[np.array(of_one)[:, None] + np.arange(length)] for length, of_one in starts.items()]


def _attributes(message: memoryview) -> dict[int, int]:
    """Offset of each attribute that is long enough to be of use, by type; of two, the last."""
    found: dict[int, int] = {}
    offset = ATTRIBUTES
    while offset + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, offset)
        left = len(message) - offset
        if not ATTRIBUTE.size <= length <= left:
            raise Malformed(f"sock_diag: attribute {kind} of {length} bytes where {left} are left")
        if length - ATTRIBUTE.size >= NEEDED.get(kind & ATTRIBUTE_TYPE_MASK, 0):
            found[kind & ATTRIBUTE_TYPE_MASK] = offset
        offset += _aligned(length)
    if INET_DIAG_INFO not in found:
        raise Malformed("sock_diag: a socket without INET_DIAG_INFO")
    return found


def _same_layout(messages: Messages, attributes: dict[int, int]) -> npt.NDArray[np.bool_]:
    """Which messages are of the first one's family and have their attributes where it has them."""
    same: npt.NDArray[np.bool_] = messages[:, BODY] == messages[0, BODY]
    for offset in attributes.values():
        heads = _field(messages, offset, "u4")
        same &= heads == heads[0]
    return same


def _field(messages: Messages, offset: int, kind: str) -> Column:
    """One field of every message, in place."""
    column: Column = np.ndarray((len(messages),), kind, messages, offset, (messages.strides[0],))
    return column


def _append(messages: Messages, attributes: dict[int, int], netns: int, sockets: Sockets) -> None:
    """Append messages of one layout."""
    new = sockets.extend(len(messages))
    for name, (kind, offset) in MESSAGE_FIELDS.items():
        new[name][:] = _field(messages, BODY + offset, kind)
    info = attributes[INET_DIAG_INFO] + ATTRIBUTE.size
    for name, (kind, offset) in INFO_FIELDS.items():
        new[name][:] = _field(messages, info + offset, kind)
    for name in MILLISECONDS:
        new[name] *= np.float32(0.001)
    cgroup = attributes.get(INET_DIAG_CGROUP_ID)
    new["cgroup"][:] = 0 if cgroup is None else _field(messages, cgroup + ATTRIBUTE.size, "u8")
    new["cookie"][:] = _field(messages, COOKIE, "u4") | _field(messages, COOKIE + 4, "u4").astype("u8") << np.uint64(32)
    new["netns"][:] = netns
    ulp = attributes.get(INET_DIAG_ULP_INFO)
    new["subflow"][:] = 0 if ulp is None else _field(messages, ulp + ULP_NAME, f"S{len(MPTCP)}") == MPTCP
    for name in UNTOLD:
        new[name][:] = 0
    for name in UNKNOWN:
        new[name][:] = np.nan
    _append_addresses(messages, new)


def _append_addresses(messages: Messages, new: dict[str, Column]) -> None:
    """Both halves of both; AF_INET sockets fill only the first 4 bytes, and are written v4-mapped."""
    for side, offset in ADDRESSES.items():
        high, low = new[f"{side}_high"], new[f"{side}_low"]
        if messages[0, BODY] == socket.AF_INET:
            high[:], low[:] = 0, _field(messages, offset, ">u4")
            low |= np.uint64(V4_MAPPED)
        else:
            high[:], low[:] = _field(messages, offset, ">u8"), _field(messages, offset + 8, ">u8")
