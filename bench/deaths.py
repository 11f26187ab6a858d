"""What seeing the ends of connections costs, by the kernel's own statistics (BPF_ENABLE_STATS), and what is lost.

The programs see the whole machine: what others do meanwhile is in the figures. Of several rounds the cheapest counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path as File
from typing import NamedTuple

from bench.rows import Row, show
from keepaliveD.config import load
from keepaliveD.model.causes import Cause
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.platforms.linux.bpf.connect import cgroup_root
from keepaliveD.platforms.linux.bpf.deaths import DROP, PACKET, STATE, BpfDeaths
from keepaliveD.platforms.linux.deaths.icmp import IcmpErrors
from keepaliveD.platforms.linux.deaths.reader import BpfReader
from keepaliveD.platforms.linux.netstat import OpenEnds
from keepaliveD.policy.autopsy.autopsy import Autopsy, AutopsyRules

STATISTICS = 51  # ns that they take themselves of each run: the least that empty programs took
ROUNDS = 5
CONNECTIONS, HELD, PACKETS = 2_000, 400, 20_000
AT_ONCE, PAIRS = 100_000, 9_000  # ends within a second; connections over loopback that are aborted for it at a time
NO_LINGER = struct.pack("ii", 1, 0)
AS_FAST_AS_POSSIBLE = 1.0  # seconds


class Spent(NamedTuple):
    """How often the programs ran, and the nanoseconds that this took, less those of the statistics."""

    runs: int
    time: float


def spent(deaths: BpfDeaths, *programs: str) -> Spent:
    """Since they were loaded."""
    runs, total = 0, 0
    for program in programs:
        fields = dict(
            line.split(":", 1)
            for line in File(f"/proc/self/fdinfo/{deaths.program_fd(program)}").read_text(encoding="ascii").splitlines()
        )
        runs, total = runs + int(fields["run_cnt"]), total + int(fields["run_time_ns"])
    return Spent(runs, total - STATISTICS * runs)


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """The kernel counts what programs take."""
    descriptor = ctypes.CDLL(libbpf.LIBRARY, use_errno=True).bpf_enable_stats(0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "bpf_enable_stats")
    try:
        yield
    finally:
        os.close(descriptor)


def cost(deaths: BpfDeaths, work: Callable[[], int], *programs: str) -> float:
    """Return the nanoseconds of these programs for each of what `work` returns the number."""
    figures = []
    for _ in range(ROUNDS):
        before = spent(deaths, *programs)
        number = work()
        after = spent(deaths, *programs)
        figures.append((after.time - before.time) / number)
        deaths.read()
    return min(figures)


def ordinary(listener: socket.socket) -> Callable[[], int]:
    """Open and close; return the number of ends."""

    def work() -> int:
        for _ in range(CONNECTIONS):
            close(*opened(listener))
        return 2 * CONNECTIONS

    return work


def opened(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new connection."""
    near = socket.create_connection(listener.getsockname())
    return near, listener.accept()[0]


def close(near: socket.socket, far: socket.socket) -> None:
    """Close it in the ordinary way."""
    near.close()
    far.close()


def closing(deaths: BpfDeaths, listener: socket.socket, *programs: str) -> float:
    """Return the nanoseconds of these programs for each end alone, of connections that have been opened before."""
    figures = []
    for _ in range(ROUNDS):
        pairs = [opened(listener) for _ in range(HELD)]
        before = spent(deaths, *programs)
        for pair in pairs:
            close(*pair)
        figures.append((spent(deaths, *programs).time - before.time) / (2 * HELD))
        deaths.read()
    return min(figures)


def aborted(listener: socket.socket) -> Callable[[], int]:
    """Open and abort; return the number of ends."""

    def work() -> int:
        for _ in range(CONNECTIONS):
            with socket.create_connection(listener.getsockname()):
                far = listener.accept()[0]
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                far.close()
        return 2 * CONNECTIONS

    return work


def talking(near: socket.socket, far: socket.socket) -> int:
    """Send small packets to and fro; return their number."""
    for _ in range(PACKETS // 2):
        near.send(b"x")
        far.recv(1)
        far.send(b"x")
        near.recv(1)
    return PACKETS


def per_run(deaths: BpfDeaths, near: socket.socket, far: socket.socket) -> float:
    """Return the nanoseconds for a received packet."""
    figures = []
    for _ in range(ROUNDS):
        before = spent(deaths, PACKET)
        talking(near, far)
        after = spent(deaths, PACKET)
        figures.append((after.time - before.time) / (after.runs - before.runs))
    return min(figures)


class Burst(NamedTuple):
    """What became of many ends at once."""

    unaccounted: int
    lost: int
    longest: float  # seconds of one look: take() and what follows of it
    memory: float  # MB more


def burst() -> Burst:
    """Abort many connections as fast as possible, while the reader takes what it is due."""
    reader = BpfReader(BpfDeaths(cgroup_root(File("/")), 10.0), IcmpErrors(), OpenEnds(File("/")))
    autopsy = Autopsy(AutopsyRules(frozenset(Cause), load().paths, ()))
    seen = lost = ended = 0
    longest, before = 0.0, _memory()
    own = os.stat("/proc/self/ns/net").st_ino

    def take(now: float) -> None:
        nonlocal seen, lost, longest
        began = time.monotonic()
        deaths = reader.take(now)
        autopsy.observe(deaths, now)
        longest = max(longest, time.monotonic() - began)
        seen += int((deaths.ended["netns"] == own).sum())
        lost += deaths.lost

    with contextlib.closing(reader), socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        while ended < AT_ONCE:
            pairs = []
            for _ in range(PAIRS):
                near = socket.create_connection(listener.getsockname())
                pairs.append((near, listener.accept()[0]))
            for _, far in pairs:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            for _, far in pairs:
                far.close()
            take(_now())
            for near, _ in pairs:
                near.close()
            ended += 2 * PAIRS
        take(_now() + 2)
        memory = _memory() - before
    return Burst(ended - seen - lost, lost, longest, memory)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _memory() -> float:
    pages = int(File("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    """Measure, and show."""
    deaths = BpfDeaths(cgroup_root(File("/")), 10.0)
    with contextlib.closing(deaths), statistics(), socket.create_server(("127.0.0.1", 0)) as listener:
        everything = (STATE, PACKET, DROP)
        end = closing(deaths, listener, *everything)
        life = cost(deaths, ordinary(listener), *everything)
        abort = cost(deaths, aborted(listener), *everything)
        with socket.create_connection(listener.getsockname()) as near:
            far = listener.accept()[0]
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            packet = per_run(deaths, near, far)
            far.close()
    result = burst()
    return show(
        f"BPF programs that see the ends of connections, the cheapest of {ROUNDS} rounds",
        [
            Row("ordinary end, with its packets", end, "ns", at_most=500),
            Row("opened and ended, with all packets", life, "ns"),
            Row("aborted end, with its packets", abort, "ns", at_most=5_000),
            Row("received packet", packet, "ns", at_most=90),
            Row(f"of {AT_ONCE} aborted, not accounted", result.unaccounted, at_most=0),
            Row("of these, counted as lost", result.lost),
            Row("longest look beside them", result.longest * 1e3, "ms", at_most=1_000),
            Row("more memory", result.memory, "MB", at_most=100),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
