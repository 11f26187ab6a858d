"""Programs that make it hard to find and hold what they have: usage: hostile.py FORGOTTEN LASTING BEHAVIOUR ...

The first two are peers as ADDRESS:PORT.
For each line of standard input they print which of their connections have keepalive; they end with it.
"""

import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

FORGOTTEN, LASTING = ((address, int(port)) for address, port in (peer.split(":") for peer in sys.argv[1:3]))
MANY = 20_000  # descriptors
A_FORTNIGHT = 1_000_000  # seconds
A_WHILE = 5.0  # seconds: several scans
A_MOMENT = 0.001  # seconds
PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def plain() -> None:
    """Nothing special: for a special environment."""
    report(socket.create_connection(FORGOTTEN))


def evil_name() -> None:
    """Its name is no text for a terminal."""
    with open("/proc/self/comm", "wb") as comm:
        comm.write(b"a\n\x1b[31mb\xff\\")
    plain()


def many_descriptors() -> None:
    """The connection is the last of them, or of as many as are allowed here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    while os.dup(0) < min(MANY, most) - 10:
        pass
    plain()


def wanderer(seconds: str) -> None:
    """For so long, a process forks and ends as fast as it can; then the last one stays."""
    connection = socket.create_connection(FORGOTTEN)
    settled = time.monotonic() + float(seconds)
    while time.monotonic() < settled and not select.select([0], [], [], 0)[0]:
        if os.fork():
            os._exit(0)
    report(connection)


def juggler(count: str) -> None:
    """Each of so many descriptors is now that of a connection at risk, now that of another."""
    at_risk = [socket.create_connection(FORGOTTEN) for _ in range(int(count))]
    slots = [connection.fileno() for connection in at_risk]
    at_risk = [moved(connection) for connection in at_risk]
    lasting = [moved(socket.create_connection(LASTING)) for _ in slots]

    def juggle() -> None:
        while True:
            for balls in (at_risk, lasting):
                for slot, ball in zip(slots, balls, strict=True):
                    os.dup2(ball.fileno(), slot)

    threading.Thread(target=juggle, daemon=True).start()
    report(*at_risk, *lasting)


def changer() -> None:
    """On the first line another program takes over, and another connection that descriptor."""
    connection = socket.create_connection(FORGOTTEN)
    number = connection.fileno()
    sys.stdin.readline()
    connection = moved(connection)
    other = socket.create_connection(LASTING)
    for each in (connection, other):
        each.set_inheritable(True)
    assert other.fileno() == number
    numbers = (str(each.fileno()) for each in (connection, other))
    os.execv(sys.executable, [sys.executable, "-S", *sys.argv[:3], "inheritor", *numbers])


def inheritor(*numbers: str) -> None:
    """It has these descriptors from whom it took over."""
    report(*(socket.socket(fileno=int(number)) for number in numbers))


def receiver(path: str) -> None:
    """On the first line it receives the connection that was passed to it there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        with listener.accept()[0] as channel:
            sys.stdin.readline()
            _, (descriptor,), _, _ = socket.recv_fds(channel, 1, 1)
    report(socket.socket(fileno=descriptor))


def churner(count: str) -> None:
    """So many connections at any time, each of which lives for a moment only; how many there were, at each line."""
    alive: deque[socket.socket] = deque()
    opened = 0
    while True:
        alive.append(socket.create_connection(FORGOTTEN))
        opened += 1
        if len(alive) > int(count):
            alive.popleft().close()
        if not opened % 100 and select.select([0], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            print(opened, flush=True)


def lingerer() -> None:
    """A connection that is closed as soon as it has keepalive: whoever closes it last lingers.

    If that is this program, it tries again with another one.
    """
    is_last = True
    while is_last:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _close_at_once(writing)
        os.close(writing)
        with open(reading, "rb", buffering=0) as steps:
            steps.read(1)
            is_last = not select.select([reading, 0], [], [], A_WHILE)[0]
        if not is_last:
            sys.stdin.read(1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _close_at_once(steps: int) -> None:
    """Write a byte to `steps` before the socket is closed, and one after that, which never comes if this lingers."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.create_server((FORGOTTEN[0], 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, A_FORTNIGHT))
        while not connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            time.sleep(A_MOMENT)  # nothing tells of it; who sleeps is given a processor before those who work
        os.write(steps, b"x")
        connection.close()
        os.write(steps, b"x")
        time.sleep(A_FORTNIGHT)


def moved(connection: socket.socket) -> socket.socket:
    """The same under a higher number."""
    with connection:
        return socket.socket(fileno=fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, 100))


def report(*connections: socket.socket) -> None:
    """For each line of input, which of them have keepalive."""
    for _ in sys.stdin:
        print(
            *(connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for connection in connections), flush=True
        )


BEHAVIOURS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (plain, evil_name, many_descriptors, wanderer, juggler, changer, inheritor, receiver, churner, lingerer)
}

if __name__ == "__main__":
    BEHAVIOURS[sys.argv[3]](*sys.argv[4:])
