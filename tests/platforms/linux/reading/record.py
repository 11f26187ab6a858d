"""Records a real kernel's dump of a handful of sockets.

usage: unshare --net python3 -m tests.platforms.linux.reading.record

Writes data/v4.bin and data/v6.bin, the datagrams of both families end to end, and data/known.json,
what the sockets' own program knows of them without sock_diag.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from pathlib import Path

DATA = Path(__file__).parent / "data"
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
QUIET = 0.5  # seconds


def record() -> None:
    """Make the sockets, dump them, write down both."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    kept: list[socket.socket] = []
    known = []
    for name, address, keepalive in (
        ("bare", "127.0.0.1", None),
        ("keepalive", "127.0.0.2", 600),
        ("six", "::1", 1200),
        ("mapped", "::ffff:127.0.0.3", None),
    ):
        near, far = connect(address)
        near.send(b"12345")
        far.recv(5)
        if keepalive:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
        kept += [near, far]
        known.append(knowledge(name, near, keepalive))
    half, far = connect("127.0.0.4")
    half.shutdown(socket.SHUT_WR)
    kept += [half, far]
    known += [knowledge("half closed by us", half, None), knowledge("half closed by the peer", far, None)]
    orphan, far = connect("127.0.0.5")
    orphan.close()  # the kernel keeps a FIN_WAIT2 without a program, which is dumped too
    kept.append(far)
    known.append(knowledge("left alone by its peer", far, None))

    time.sleep(QUIET)
    for name, family in (("v4", socket.AF_INET), ("v6", socket.AF_INET6)):
        (DATA / f"{name}.bin").write_bytes(dump(family))
    (DATA / "known.json").write_text(json.dumps({"kernel": os.uname().release, "sockets": known}, indent=1) + "\n")


def connect(address: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection; to a v4-mapped address, from an IPv6 socket to one of IPv4."""
    family = socket.AF_INET6 if address == "::1" else socket.AF_INET
    with socket.create_server((address.removeprefix("::ffff:"), 0), family=family) as listener:
        near = socket.create_connection((address, listener.getsockname()[1]))
        return near, listener.accept()[0]


def knowledge(name: str, end: socket.socket, keepalive: int | None) -> dict[str, object]:
    """What getsockopt and the like tell."""
    return {
        "name": name,
        "cookie": struct.unpack("=Q", end.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0],
        "inode": os.fstat(end.fileno()).st_ino,
        "uid": os.geteuid(),
        "local": end.getsockname()[:2],
        "remote": end.getpeername()[:2],
        "keepalive": keepalive,
    }


def dump(family: int) -> bytes:
    """Every byte that the kernel answers; asked for by hand, not with the code under test."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:
        states = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8
        body = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 1 << (2 - 1), states)
        netlink.send(struct.pack("=IHHII", 16 + len(body), 20, 0x301, 1, 0) + body)
        answer = b""
        while True:
            datagram = netlink.recv(65536)
            answer += datagram
            if struct.unpack_from("=H", datagram, len(datagram) - 16)[0] == 3:
                return answer


if __name__ == "__main__":
    record()
