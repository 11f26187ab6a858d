"""Hold N established TCP sockets open on loopback until standard input ends.

usage: hold.py N [PROCESSES [bare]]        prints the number held once they stand

Half of them have keepalive on, or none if they are to be bare.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

SPARE = 100  # descriptors that a process needs for itself
HOLDER = "--hold"  # what a process that holds some is started with
MOST = 20_000  # sockets a process: half as many local ports toward one listener, of some 28,000


@contextlib.contextmanager
def holding(sockets: int, processes: int = 1, *, bare: bool = False) -> Iterator[None]:
    """While inside, `sockets` are held by at least so many processes, which end with this one, however it ends."""
    with subprocess.Popen(
        [sys.executable, __file__, str(sockets), str(processes), *(["bare"] if bare else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        if said(holder) != sockets:
            raise SystemExit(f"could not hold {sockets} sockets")
        yield


def said(holder: subprocess.Popen[bytes]) -> int:
    """How many sockets it holds, once they stand; 0 where it failed."""
    return int(holder.stdout.readline() or 0) if holder.stdout else 0


def pairs(count: int, address: str, *, bare: bool) -> list[socket.socket]:
    """`count` connections to a listener at `address`, both ends."""
    with socket.create_server((address, 0), backlog=1024) as listener:
        held: list[socket.socket] = []
        for _ in range(count):
            client = socket.create_connection(listener.getsockname())
            server = listener.accept()[0]
            if not bare:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            talk(client, server)
            held += client, server
    return held


def talk(one: socket.socket, other: socket.socket) -> None:
    """As in real life: both have spoken."""
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"hello")
        receiver.recv(5)


def hold(sockets: int, address: str, *, bare: bool) -> None:
    """Make them, say so, and keep them until standard input ends."""
    kept = pairs(sockets // 2, address, bare=bare)
    print(len(kept), flush=True)
    sys.stdin.read()


def share(sockets: int, processes: int) -> Iterator[int]:
    """Shares for one process each: the kernel limits its descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    each = min(hard - SPARE, MOST, sockets // processes) // 2 * 2
    yield from (min(each, sockets - start) for start in range(0, sockets, each))


def main() -> None:
    """Hold, or have it held by as many processes as it takes."""
    sockets, processes, bare = int(sys.argv[1]), int((sys.argv[2:] or ["1"])[0]), "bare" in sys.argv
    if HOLDER in sys.argv:
        hold(sockets, sys.argv[-1], bare=bare)
        return
    holders = [
        subprocess.Popen(
            [sys.executable, "-S", __file__, str(part), "1", *sys.argv[3:], HOLDER, f"127.0.{number}.1"],
            stdin=sys.stdin,
            stdout=subprocess.PIPE,
        )
        for number, part in enumerate(share(sockets, processes), start=1)
    ]
    print(sum(map(said, holders)), flush=True)
    for holder in holders:
        holder.wait()


if __name__ == "__main__":
    main()
