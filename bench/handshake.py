"""What arming at the handshake costs: connections a second, with the program attached and without."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path as File
from statistics import median

from bench.rows import Row, show
from keepaliveD.model import Keepalive
from keepaliveD.platforms.linux.bpf.handshake import Handshake, cgroup_root
from keepaliveD.policy.handshake import Opening

CONNECTIONS = 5_000  # a round
WARM_UP = 2  # rounds that are not counted
ROUNDS = 31
ALL = [Opening(None, 0, Keepalive(180, 20, 31))]
NO_LINGER = struct.pack("ii", 1, 0)  # a reset leaves no TIME_WAIT, which would use up the ports


def work(cgroup: str) -> None:
    """In that cgroup, for each line: open, accept and drop connections, and tell the seconds of processor time.

    All of a connection over loopback is done in these, and what else the machine does is not in them.
    """
    File(cgroup, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for _ in sys.stdin:
            start = time.process_time()
            for _ in range(CONNECTIONS):
                with socket.socket() as near:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                    near.connect(address)
                    listener.accept()[0].close()
            print(time.process_time() - start, flush=True)


@contextlib.contextmanager
def worker() -> Iterator[tuple[File, subprocess.Popen[str]]]:
    """One in a cgroup of its own."""
    cgroup = cgroup_root(File("/")) / f"keepalived-bench-{os.getpid()}"
    cgroup.mkdir()
    try:
        command = [sys.executable, "-m", "bench.handshake", str(cgroup)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield cgroup, process
    finally:
        cgroup.rmdir()


def ask(process: subprocess.Popen[str]) -> float:
    """The seconds of one round."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def main() -> int:
    """Measure in turns, and show."""
    with worker() as (cgroup, process):
        rounds = []
        for _ in range(WARM_UP + ROUNDS):
            without = ask(process)
            with contextlib.closing(Handshake(cgroup, ALL)):
                rounds.append((without, ask(process)))
    bare, armed = (median(times) for times in zip(*rounds[WARM_UP:], strict=True))
    ratio = median(without / with_it for without, with_it in rounds[WARM_UP:])
    return show(
        f"{CONNECTIONS:,} connections opened and accepted, medians of {ROUNDS} rounds",
        [
            Row("without", CONNECTIONS / bare, "/s"),
            Row("armed at the handshake", CONNECTIONS / armed, "/s"),
            Row("rate with / without", ratio, at_least=0.97),
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1])
    else:
        sys.exit(main())
