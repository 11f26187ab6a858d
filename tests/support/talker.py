"""A program such as there are many: it connects, and is quiet until it has something to say.

usage: talker.py ADDRESS PORT [IDLE]       with keepalive after IDLE seconds, 0 for the system's
Prints that it is connected; then it says each line of standard input to the server, and prints what became of it.
On an empty line it says nothing: it waits for the server, however long, and prints what became of that.
"""

import errno
import fcntl
import socket
import struct
import sys
import termios
import time

PATIENCE = 6  # seconds to wait for an answer, or once more where the word has arrived: the machine is busy
MOST = 10  # times


def keep_alive(connection: socket.socket, idle: int) -> None:
    """Have the kernel probe after `idle` seconds, or when the system does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if idle:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)


def connected(address: str, port: int) -> socket.socket:
    """Connect, also where the way there was made just now: its neighbours do not know each other yet."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((address, port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def speak(connection: socket.socket, word: str) -> str:
    """Say it, if it is something, and wait for the answer."""
    connection.settimeout(PATIENCE if word else None)
    try:
        connection.sendall(word.encode())
        for _ in range(MOST):
            try:
                return "answered" if connection.recv(100) else "closed"
            except TimeoutError as error:
                if error.errno:  # the kernel's
                    raise
                if on_its_way(connection):
                    break
        return "silence"
    except OSError as error:  # that of settimeout() has no number
        return errno.errorcode[error.errno] if error.errno else "silence"


def on_its_way(connection: socket.socket) -> int:
    """Return how many octets the peer's host has not acknowledged."""
    (octets,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return int(octets)


def main() -> None:
    """Connect and listen to standard input."""
    with connected(sys.argv[1], int(sys.argv[2])) as connection:
        if len(sys.argv) > 3:
            keep_alive(connection, int(sys.argv[3]))
        print("connected", flush=True)
        for line in sys.stdin:
            print(speak(connection, line.strip()), flush=True)


if __name__ == "__main__":
    main()
