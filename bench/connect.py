"""What arming at connect costs: processor time of connections with the program attached and without."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path as File
from statistics import median

from bench.rows import ASSUMED, Row, show
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.platforms.linux.bpf.connect import ConnectArmer, cgroup_root
from keepaliveD.platforms.linux.owners.cgroups import Cgroups
from keepaliveD.policy.arming.connect import plan

ALL = plan([ArmRule("all", ArmAction.ENABLE, 180, 20, 31)], (), [NetworkPath("default", 240.0, ASSUMED)])

LIVES = 1_000  # connections that live from opening to closing, between each two readings of the clock
PAIRS = 101  # of a client and a server, one after another: how fast one is depends on where in memory it lies

RESETS = 2_000  # connections that are opened, accepted and reset
ROUNDS = 31
WARM_UP = 2  # of these rounds, not counted
NO_LINGER = struct.pack("ii", 1, 0)

# nothing waits for a process on another processor, and TIME_WAIT ends with the namespace
APART = ("taskset", "--cpu-list", str(max(os.sched_getaffinity(0))), "unshare", "--net")
PREPARE = ("sh", "-c", 'ip link set lo up && exec "$@"', "bench")


def reset(cgroup: str) -> None:
    """In that cgroup, for each line: open, accept and drop connections, and tell the seconds of processor time.

    All of a connection over loopback is done in these, and what else the machine does is not in them.
    """
    File(cgroup, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for _ in sys.stdin:
            start = time.process_time()
            for _ in range(RESETS):
                with socket.socket() as near:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                    near.connect(address)
                    listener.accept()[0].close()
            print(time.process_time() - start, flush=True)


@contextlib.contextmanager
def worker(*command: str, to: Sequence[str] = ()) -> Iterator[tuple[File, subprocess.Popen[str]]]:
    """This command, which is told of a cgroup of its own, then `to`."""
    cgroup = cgroup_root(File("/")) / f"keepalived-bench-{os.getpid()}"
    cgroup.mkdir()
    try:
        pipe = subprocess.PIPE
        with subprocess.Popen([*command, str(cgroup), *to], stdin=pipe, stdout=pipe, text=True) as process:
            yield cgroup, process
    finally:
        cgroup.rmdir()


def ask(process: subprocess.Popen[str]) -> float:
    """The seconds of one round."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def compare(cgroup: File, process: subprocess.Popen[str]) -> tuple[float, float]:
    """The seconds of a round without the program, before and after, and of one with it."""
    before = ask(process)
    with contextlib.closing(ConnectArmer(cgroup, ALL, cgroups=Cgroups(File("/")))):
        armed = ask(process)
    return (before + ask(process)) / 2, armed


def lives() -> Iterator[tuple[float, float]]:
    """For each pair: the seconds of its connections without the program, and with it."""
    with tempfile.TemporaryDirectory() as directory:
        program = f"{directory}/lives"
        subprocess.run(["gcc", "-O2", "-o", program, File(__file__).with_name("lives.c")], check=True)
        for _ in range(PAIRS):
            with worker(*APART, *PREPARE, program, to=[str(LIVES)]) as (cgroup, process):
                ask(process)  # not counted: it is new
                yield compare(cgroup, process)


def resets() -> Iterator[tuple[float, float]]:
    """The same of connections that are reset, for each round."""
    with worker(sys.executable, "-m", "bench.connect") as (cgroup, process):
        rounds = [compare(cgroup, process) for _ in range(WARM_UP + ROUNDS)]
    yield from rounds[WARM_UP:]


def main() -> int:
    """Measure in turns, and show."""
    whole = list(lives())
    bare, armed = (median(times) / LIVES * 1e6 for times in zip(*whole, strict=True))
    ratio = median(without / with_it for without, with_it in whole)
    least, least_armed = (median(times) / RESETS * 1e6 for times in zip(*resets(), strict=True))
    return show(
        f"processor time of a connection at both ends, medians of {PAIRS} pairs and {ROUNDS} rounds",
        [
            Row("opened, used, closed", bare, "us"),
            Row("the same, armed", armed, "us"),
            Row("rate with / without", ratio, at_least=0.92),
            Row("opened and reset", least, "us"),
            Row("the same, armed", least_armed, "us"),
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        reset(sys.argv[1])
    else:
        sys.exit(main())
