"""A scan beside its peers: the bare dump, `ss`, pyroute2; all see the same sockets, in turns."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path as File
from statistics import median

from bench.hold import holding
from bench.rows import ASSUMED, Row, show
from keepaliveD.model.rules import IPNetwork, OnDrift, Path, Rules
from keepaliveD.platforms.linux import selection
from keepaliveD.platforms.linux.bpf.walker import BpfWalker
from keepaliveD.platforms.linux.reading.messages import INET_DIAG_INFO
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.scans import ScanDecider

SOCKETS = 100_000
WARM_UP = 2  # rounds that are not counted
ROUNDS = 15
PYROUTE2_ROUNDS = 1  # it takes long, and is far from its limit

PATHS = (
    Path("default", 240.0, ASSUMED),
    Path("office", 3600.0, ASSUMED, networks=(ipaddress.ip_network("127.0.2.0/24"),)),
    Path("cloud", 350.0, ASSUMED, networks=(ipaddress.ip_network("fd00::/8"), ipaddress.ip_network("10.0.0.0/8"))),
    Path("database", 600.0, ASSUMED, ports=(5432, 3306)),
)


LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))  # where all of them are


def ours(wanted: str) -> Callable[[], float]:
    """What the daemon does at each scan with this `watch.engine`: receive, decode, judge by all that went before."""
    chosen, _ = selection.select_engine(wanted, File("/"), ())
    watcher = SocketWatcher(engine=chosen, all_namespaces=False)
    decider = ScanDecider(Rules(wanted={}, on_drift=OnDrift.WARN, paths=PATHS, ignore=(), warn_before=60.0))

    def scan() -> float:
        start = time.perf_counter()
        decider.observe(watcher.scan(time.monotonic()))
        return time.perf_counter() - start

    return scan


def bpf(*ignore: IPNetwork) -> Callable[[], float]:
    """The other engine: receive and decode, without sockets to `ignore`."""
    watcher = SocketWatcher(engine=BpfWalker(ignore=ignore), all_namespaces=False)

    def scan() -> float:
        start = time.perf_counter()
        watcher.scan(time.monotonic())
        return time.perf_counter() - start

    return scan


@contextlib.contextmanager
def floor() -> Iterator[Callable[[], float]]:
    """What every reader of sock_diag pays: a C program receives and discards."""
    with tempfile.TemporaryDirectory() as directory:
        program = f"{directory}/floor"
        subprocess.run(["gcc", "-O2", "-o", program, File(__file__).with_name("floor.c")], check=True)
        with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield lambda: ask(process)


def ask(process: subprocess.Popen[str]) -> float:
    """The seconds that it answers with to a line."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def ss() -> float:
    """The usual tool, writing to nowhere."""
    start = time.perf_counter()
    subprocess.run(["ss", "-tinoH"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def pyroute2() -> float:
    """The usual library."""
    from pyroute2 import DiagSocket

    with DiagSocket() as diag:
        start = time.perf_counter()
        for family in (socket.AF_INET, socket.AF_INET6):
            diag.get_sock_stats(family=family, extensions=1 << (INET_DIAG_INFO - 1))
        return time.perf_counter() - start


def in_turns(*ways: Callable[[], float]) -> list[float]:
    """Median seconds of each; noise hits all of them alike."""
    rounds = [[way() for way in ways] for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    return [median(times) for times in zip(*rounds, strict=True)]


def main() -> int:
    """Measure and show."""
    with holding(SOCKETS):
        with floor() as dump:
            ways = (ours(selection.AUTO), ours(selection.NETLINK), bpf(), bpf(*LOOPBACK), dump, ss)
            us, netlink, everything, nothing, least, tool = in_turns(*ways)
        library = median(pyroute2() for _ in range(PYROUTE2_ROUNDS))
    return show(
        f"scan of {SOCKETS:,} sockets, medians of {ROUNDS} rounds (pyroute2: {PYROUTE2_ROUNDS})",
        [
            Row("ours: receive, decode, judge", us * 1e3, "ms"),
            Row("ours by netlink", netlink * 1e3, "ms"),
            Row("BPF: receive, decode", everything * 1e3, "ms"),
            Row("BPF: all ignored", nothing * 1e3, "ms"),
            Row("floor: receive and discard, in C", least * 1e3, "ms"),
            Row("ss -tinoH", tool * 1e3, "ms"),
            Row("pyroute2 get_sock_stats", library * 1e3, "ms"),
            Row("ours / floor", us / least, at_most=1.5),
            Row("ours by netlink / floor", netlink / least, at_most=1.5),
            Row("BPF / floor", everything / least, at_most=0.8),
            Row("BPF, all ignored / floor", nothing / least, at_most=0.5),
            Row("ss / ours", tool / us, at_least=5),
            Row("ss / ours by netlink", tool / netlink, at_least=5),
            Row("pyroute2 / ours by netlink", library / netlink, at_least=50),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
