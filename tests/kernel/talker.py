"""A program such as there are many: it connects, and is quiet until it has something to say.

usage: talker.py ADDRESS PORT [IDLE]       with keepalive after IDLE seconds, 0 for the system's
Says each line of standard input to the server, and prints what became of it.
"""

import errno
import socket
import sys

PATIENCE = 1.5  # seconds to wait for an answer


def keep_alive(connection: socket.socket, idle: int) -> None:
    """Have the kernel probe after `idle` seconds, or when the system does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if idle:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)


def speak(connection: socket.socket, word: str) -> str:
    """Say it and wait for the answer."""
    try:
        connection.sendall(word.encode())
        return "answered" if connection.recv(100) else "closed"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def main() -> None:
    """Connect and listen to standard input."""
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
        if len(sys.argv) > 3:
            keep_alive(connection, int(sys.argv[3]))
        connection.settimeout(PATIENCE)
        for word in sys.stdin:
            print(speak(connection, word), flush=True)


if __name__ == "__main__":
    main()
