"""Whoever owns very many of something slows nobody down, and hides nothing but his own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import SHUT_RDWR, create_connection, create_server, socket

import psutil
import pytest

from tests.kernel.test_rescue import UNDER
from tests.support.attacks import LONG_NAME
from tests.support.loopback import FORGOTTEN, Host, by, everywhere, far_end, forgetful, near_end
from tests.support.patience import SOON, family
from tests.support.processes import ENABLE, SCAN, Daemon, next_line
from tests.support.rig import DIE_WITH_US, OWN_NETWORK, Stranger
from tests.support.versions import ITERATOR, since

ADDRESSES = 10_000
BACKLOG = 1000  # connections
A_WHILE = 12.0  # seconds
MOST_WHILES = 6
A_LITTLE = 4 << 20  # octets
LIMIT = 64  # open files
SOFT, HARD = 1024, 8192  # open files that are allowed, and what each process may have
MANY, SOME = 2000, 40  # network namespaces
NAMESPACES = """
import ctypes, os, sys
CLONE_NEWNET, CLONE_NEWUSER, PR_SET_PDEATHSIG, SIGKILL = 0x40000000, 0x10000000, 1, 9
libc = ctypes.CDLL(None)
os.setgroups([])
os.setresgid(4711, 4711, 4711)
os.setresuid(4711, 4711, 4711)
assert libc.unshare(CLONE_NEWUSER) == 0
reading, writing = os.pipe()
count, made, makers = int(sys.argv[1]), 0, 4
for _ in range(makers):
    if not os.fork():
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
        for _ in range(count // makers):
            if not os.fork():
                libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
                assert libc.unshare(CLONE_NEWNET) == 0
                os.write(writing, b"x")
                os.closerange(0, 100)
                break
        while True:
            libc.pause()
while made < count:
    made += len(os.read(reading, count))
print("made", flush=True)
sys.stdin.readline()
"""
HIDDEN = "network namespaces of other users' processes may not be watched: finding them requires CAP_SYS_PTRACE"
A_HALF = 0.5  # of a core
SOME_SCANS = 20 * SCAN
MUCH = 400 << 20  # octets
SHARING, DESCRIPTORS = 10, 4500  # of which strace(1) slows down the reading of each
BY_INTERFACE = '[[path]]\nname = "nowhere"\ninterface = "nowhere0"\ntimeout = "5min"\n'


def load(daemon: Daemon, seconds: float) -> float:
    """The part of a core that the daemon and its worker take for so long."""
    before, began = _worked(daemon), time.monotonic()
    time.sleep(seconds)
    return (_worked(daemon) - before) / (time.monotonic() - began)


def resident(daemon: Daemon) -> int:
    """The memory of the daemon and its worker, in octets."""
    return sum(psutil.Process(pid).memory_info().rss for pid in family(daemon.pid))


def growth(daemon: Daemon, seconds: float) -> int:
    """Return by how many octets the daemon and its worker grow in so long."""
    before = resident(daemon)
    time.sleep(seconds)
    return resident(daemon) - before


def _worked(daemon: Daemon) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in family(daemon.pid))


def test_whoever_has_ten_thousand_addresses_costs_nobody_any_time(host: Host) -> None:
    """They were all read at each scan, once a path had an interface: that took a second."""
    text = everywhere(forgetful()) + BY_INTERFACE
    with Stranger() as stranger, ExitStack() as stack:
        own = OWN_NETWORK.replace("127", "10", 1).split(".")[1]
        stranger.ip(*(f"address add 10.{own}.{n // 250}.{n % 250}/32 dev lo" for n in range(ADDRESSES)))
        listener = stack.enter_context(stranger.inside(lambda: create_server(("127.0.0.1", 0))))
        near = stack.enter_context(stranger.inside(lambda: create_connection(listener.getsockname())))
        with host.daemon(text) as daemon:
            # another test may have very many sockets for a while
            assert any(load(daemon, SOME_SCANS) < A_HALF for _ in range(MOST_WHILES))
            daemon.stop()
        near.close()


@contextlib.contextmanager
def namespaces(host: Host, number: int) -> Iterator[None]:
    """So many network namespaces of a user without privileges, each with a process."""
    with host.namespace.running(sys.executable, "-S", "-c", NAMESPACES, str(number)) as maker:
        assert maker.stdout
        assert maker.stdout.readline() == "made\n"
        yield


def is_any_process_hidden() -> bool:
    """Return whether there is a process that not even we may look into, such as a virtual machine's supervisor."""
    for process in psutil.pids():
        try:
            os.stat(f"/proc/{process}/ns/net")
        except PermissionError:
            return True
        except OSError:
            continue  # it has ended
    return False


def watched_namespaces(daemon: Daemon) -> int:
    """Return in how many the daemon says that it watches connections."""
    found = re.search(r"in (\d+) namespaces", daemon.expect("started")["MESSAGE"])
    return int(found[1]) if found else 1


@pytest.mark.parametrize(
    ("number", "soft", "hard", "is_watched"),
    [(MANY, SOFT, HARD, True), (SOME, LIMIT, LIMIT, False)],
    ids=["allowed", "too many"],
)
def test_very_many_network_namespaces_are_watched_as_far_as_descriptors_are_allowed(
    host: Host, number: int, soft: int, hard: int, is_watched: bool
) -> None:
    """Each takes some; where there are not enough the daemon keeps some for itself, and says what is not watched."""
    limited = ("prlimit", f"--nofile={soft}:{hard}")
    with namespaces(host, number), host.daemon(everywhere(forgetful(ENABLE)), through=limited) as daemon:
        daemon.expect("armed", within=SOON, **near_end(host.connection()))
        assert not is_watched or watched_namespaces(daemon) > number
        said = [entry["MESSAGE"] for entry in daemon.heard("unwatched")]
        if is_watched:
            assert said == ([HIDDEN] if is_any_process_hidden() else [])
        else:
            assert "LimitNOFILE" in said[0]
        daemon.stop()


def test_a_command_line_of_64_gib_is_not_read(host: Host) -> None:
    """A name of 15 bytes may be cut off, and what is cut off is in the command line: whoever looks there reads all."""
    with host.attacked("endless_command_line", FORGOTTEN) as attacker, host.daemon(forgetful(ENABLE)) as daemon:
        assert next_line(attacker) == "long\n"
        assert daemon.expect("armed", KEEPALIVE_PID=attacker.pid)["KEEPALIVE_PROCESS"] == LONG_NAME
        assert max(map(peak, family(daemon.pid))) < MUCH
        daemon.stop()


def peak(pid: int) -> int:
    """The most memory that a process ever had, in octets."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.parametrize(
    ("engine", "most"),
    [("netlink", 2 * DESCRIPTORS), pytest.param("bpf", DESCRIPTORS, marks=since(ITERATOR))],
)
def test_descriptors_that_ten_processes_share_are_read_once_or_by_the_kernel(
    host: Host, engine: str, most: int
) -> None:
    """Whoever looks for the holder of a socket reads them: each time for each process that took seconds."""
    with host.attacked("shared_table", str(SHARING), str(DESCRIPTORS)) as attacker:
        assert next_line(attacker) == "shared\n"
        trace = host.directory / "trace"
        strace = ("strace", "-fqqy", "--seccomp-bpf", "-e", "trace=readlinkat", f"--output={trace}", *DIE_WITH_US)
        plain = host.program("plain")  # whose turn is after theirs
        far = host.accept()
        with host.daemon(by(engine, forgetful(ENABLE)), through=strace) as daemon:
            assert daemon.expect("armed", **far_end(far))["KEEPALIVE_PID"] == plain.pid
            (traced,) = family(daemon.pid)[1:]
            os.kill(traced, signal.SIGTERM)
            daemon.ended()
        assert readings(trace, family(attacker.pid)) < most  # once, and some; for each process it would be more


def readings(trace: Path, pids: list[int]) -> int:
    """Return how often strace saw that a descriptor of these processes was read; a call has two lines beside others."""
    begun = re.compile(r"readlinkat\(\d+</proc/(\d+)/fd>")
    with trace.open(encoding="utf-8", errors="replace") as lines:
        return sum(1 for line in lines if (call := begun.search(line)) and int(call[1]) in pids)


@pytest.mark.parametrize("engine", ["netlink", pytest.param("bpf", marks=since(ITERATOR))])
def test_connections_that_come_and_go_leave_nothing_in_memory(host: Host, engine: str) -> None:
    """Each is armed, and everything that is known of it goes with it.

    What grows until it is full comes to an end, also where a busy machine lets it take its time; a leak does not.
    """
    alive: deque[socket] = deque()

    def take() -> None:
        with contextlib.suppress(OSError):  # the end of the test
            while True:
                alive.append(host.listeners[FORGOTTEN].accept()[0])
                if len(alive) > BACKLOG:
                    alive.popleft().close()

    churner = host.program("churner", str(BACKLOG // 2))
    taker = threading.Thread(target=take)
    taker.start()
    with host.daemon(forgetful(ENABLE).replace('"netlink"', f'"{engine}"'), through=UNDER[engine]) as daemon:
        daemon.expect("armed")
        grown = [growth(daemon, A_WHILE)]
        while grown[-1] >= A_LITTLE and len(grown) < MOST_WHILES:
            grown.append(growth(daemon, A_WHILE))
        assert grown[-1] < A_LITTLE, f"it grew by {grown} octets, one while after the other"
        daemon.stop()
    churner.kill()
    host.listeners[FORGOTTEN].shutdown(SHUT_RDWR)
    taker.join()
