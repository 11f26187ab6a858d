"""Hold N established TCP sockets open on loopback until standard input ends.

usage: hold.py N        prints the number held once they stand
"""

import os
import resource
import socket
import subprocess
import sys

SPARE = 100  # descriptors that the process needs for itself


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


def main() -> None:
    """Share the work among processes: the kernel limits the descriptors of each."""
    wanted = int(sys.argv[1])
    if len(sys.argv) > 2:
        hold(wanted, sys.argv[2])
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    each = (hard - SPARE) // 2 * 2
    shares = [min(each, wanted - start) for start in range(0, wanted, each)]
    holders = [
        subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), str(share), f"127.0.{number}.1"],
            stdin=sys.stdin,
            stdout=subprocess.PIPE,
        )
        for number, share in enumerate(shares, start=1)
    ]
    print(sum(int(holder.stdout.readline()) for holder in holders if holder.stdout), flush=True)
    for holder in holders:
        holder.wait()


if __name__ == "__main__":
    main()
