"""Hold N established TCP sockets open on loopback until standard input ends.

usage: hold.py N        prints the number held once they stand
"""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

SPARE = 100  # descriptors that a process needs for itself
MOST = 20_000  # sockets a process: half as many local ports toward one listener, of some 28,000


@contextlib.contextmanager
def holding(sockets: int) -> Iterator[None]:
    """While inside, `sockets` are held by processes that end with this one, however it ends."""
    with subprocess.Popen(
        [sys.executable, __file__, str(sockets)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        if said(holder) != sockets:
            raise SystemExit(f"could not hold {sockets} sockets")
        yield


def said(holder: subprocess.Popen[bytes]) -> int:
    """How many sockets it holds, once they stand; 0 where it failed."""
    return int(holder.stdout.readline() or 0) if holder.stdout else 0


def pairs(count: int, address: str) -> list[socket.socket]:
    """`count` connections to a listener at `address`, both ends."""
    with socket.create_server((address, 0), backlog=1024) as listener:
        held: list[socket.socket] = []
        for _ in range(count):
            client = socket.create_connection(listener.getsockname())
            server = listener.accept()[0]
            talk(client, server)
            held += client, server
    return held


def talk(one: socket.socket, other: socket.socket) -> None:
    """As in real life: both have spoken, and one of them keeps the connection alive."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"hello")
        receiver.recv(5)


def hold(sockets: int, address: str) -> None:
    """Make them, say so, and keep them until standard input ends."""
    kept = pairs(sockets // 2, address)
    print(len(kept), flush=True)
    sys.stdin.read()


def share(sockets: int) -> Iterator[int]:
    """Shares for one process each: the kernel limits its descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    each = min(hard - SPARE, MOST) // 2 * 2
    yield from (min(each, sockets - start) for start in range(0, sockets, each))


def main() -> None:
    """Hold, or have it held by as many processes as it takes."""
    sockets = int(sys.argv[1])
    if len(sys.argv) > 2:
        hold(sockets, sys.argv[2])
        return
    holders = [
        subprocess.Popen(
            [sys.executable, __file__, str(part), f"127.0.{number}.1"], stdin=sys.stdin, stdout=subprocess.PIPE
        )
        for number, part in enumerate(share(sockets), start=1)
    ]
    print(sum(map(said, holders)), flush=True)
    for holder in holders:
        holder.wait()


if __name__ == "__main__":
    main()
