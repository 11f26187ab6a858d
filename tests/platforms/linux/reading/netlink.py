"""Netlink messages made by hand, and a kernel that sends them.

Layouts: include/uapi/linux/netlink.h, inet_diag.h, tcp.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.reading.sock_diag import SockDiag

DONE, ERROR, SOCKET = 3, 2, 20
MULTI, DUMP_INTR = 0x002, 0x010
INFO, SHUTDOWN, TOS, MARK, CGROUP = 2, 8, 5, 15, 21
V4, V6 = socket.AF_INET, socket.AF_INET6
TCP_INFO = 248  # bytes of struct tcp_info in Linux 6.18


def message(kind: int, payload: bytes, *, flags: int = MULTI, sequence: int = 1) -> bytes:
    """One netlink message, padded."""
    length = 16 + len(payload)
    return struct.pack("=IHHII", length, kind, flags, sequence, 4711) + payload + bytes(-length % 4)


def done(code: int = 0, *, flags: int = MULTI, sequence: int = 1) -> bytes:
    """The end of a dump, with its result."""
    return message(DONE, struct.pack("=i", code), flags=flags, sequence=sequence)


def error(code: int) -> bytes:
    """A refusal, with the request that it refuses."""
    return message(ERROR, struct.pack("=i", code) + bytes(72), flags=0)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def info(
    *,
    sent: int = 0,
    received: int = 0,
    acked: int = 0,
    segments_out: int = 0,
    segments_in: int = 0,
    size: int = TCP_INFO,
) -> bytes:
    """INET_DIAG_INFO; ages are milliseconds. What is not given is 0xEE, so that a wrong offset shows."""
    tcp_info = bytearray(b"\xee" * size)
    fields = ((44, sent), (52, received), (56, acked), (136, segments_out), (140, segments_in))
    for offset, value in fields:
        if offset + 4 <= size:
            struct.pack_into("=I", tcp_info, offset, value)
    return attribute(INFO, bytes(tcp_info))


def cgroup(inode: int) -> bytes:
    """INET_DIAG_CGROUP_ID."""
    return attribute(CGROUP, struct.pack("=Q", inode))


USUAL = (attribute(SHUTDOWN, b"\0"), attribute(TOS, b"\0"), info(), cgroup(1), attribute(MARK, bytes(4)))


def connection(
    *attributes: bytes,
    family: int = V4,
    state: int = 1,
    timer: int = 0,
    expires: int = 0,
    local: tuple[str, int] = ("192.0.2.1", 40000),
    remote: tuple[str, int] = ("198.51.100.1", 22),
    interface: int = 0,
    cookie: int = 1,
    uid: int = 0,
    inode: int = 0,
    flags: int = MULTI,
    sequence: int = 1,
) -> bytes:
    """One socket, with these attributes in this order (without any: the usual ones); `expires` is milliseconds."""
    body = struct.pack("=BBBB", family, state, timer, 0)
    body += struct.pack(">HH", local[1], remote[1])
    body += _address(family, local[0]) + _address(family, remote[0])
    body += struct.pack("=III", interface, cookie & 0xFFFFFFFF, cookie >> 32)
    body += struct.pack("=IIIII", expires, 0, 0, uid, inode)
    return message(SOCKET, body + b"".join(attributes or USUAL), flags=flags, sequence=sequence)


def _address(family: int, text: str) -> bytes:
    packed = socket.inet_pton(family, text)
    return packed + b"\xdd" * (16 - len(packed))  # AF_INET sets 4 bytes only


def timewait(**fields: int) -> bytes:
    """What is left of a socket that its program closed while the peer did not: no attributes but a mark.

    It is dumped among those in FIN_WAIT2 (inet_twsk_diag_fill, net/ipv4/inet_diag.c).
    """
    return connection(attribute(MARK, bytes(4)), state=5, timer=3, **fields)  # type: ignore[arg-type]


Datagrams = Sequence[bytes]


class Kernel:
    """A netlink socket that answers each request with the next of its family's scripts.

    A datagram gets the sequence number of the request, one in `stale` that of the one before.
    """

    def __init__(self, v4: Sequence[Datagrams] = (), v6: Sequence[Datagrams] = ()) -> None:
        self.scripts: dict[int, list[Datagrams]] = {V4: list(v4), V6: list(v6)}
        self.requests: list[bytes] = []
        self.stale: set[bytes] = set()
        self.queue: list[bytes] = []
        self.open = True

    def connect(self, address: tuple[int, int]) -> None:
        assert address == (0, 0)

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def send(self, request: bytes) -> int:
        self.requests.append(request)
        sequence = struct.unpack_from("=I", request, 8)[0]
        scripts = self.scripts[request[16]]
        for datagram in scripts.pop(0) if scripts else [done()]:
            stamp = struct.pack("=I", sequence - 1 if datagram in self.stale else sequence)
            self.queue.append(datagram[:8] + stamp + datagram[12:])
        return len(request)

    def recv_into(self, space: memoryview, size: int, flags: int) -> int:
        assert (size, flags) == (0, socket.MSG_TRUNC)
        if not self.queue:
            raise BlockingIOError
        datagram = self.queue.pop(0)
        fits = min(len(datagram), len(space))
        space[:fits] = datagram[:fits]
        return len(datagram)

    def close(self) -> None:
        self.open = False


@contextmanager
def talking_to(kernel: Kernel, counts: str = "/nonexistent") -> Iterator[SockDiag]:
    """A SockDiag whose socket is this kernel's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keepaliveD.platforms.linux.reading.dumps.socket.socket", lambda *_: kernel)
        diag = SockDiag(counts)
    yield diag
    diag.close()


def cookies(sockets: Sockets) -> list[int]:
    """In ascending order: that of a dump has no meaning."""
    return sorted(sockets["cookie"].tolist())
