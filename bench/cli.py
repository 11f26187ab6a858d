"""What `keepalivectl status` beside a daemon and `keepalivectl why` cost on a host with 10,000 connections."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path as File
from statistics import median

from bench.daemon import CONFIGURATION, check
from bench.hold import holding
from bench.rows import Row, show

CONNECTIONS = 10_000
RUNS = 9
NAME = "bench-cli"  # of this process, which holds few connections
CTL = "import sys; from keepaliveD.__main__ import ctl; sys.exit(ctl())"


@contextlib.contextmanager
def daemon(directory: str) -> Iterator[None]:
    """One that answers on its control socket in this directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{directory}/notify")
        manager.settimeout(30)
        command = [sys.executable, "-m", "keepaliveD", *common(directory)]
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env=os.environ | {"NOTIFY_SOCKET": f"{directory}/notify", "RUNTIME_DIRECTORY": directory},
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                check(manager.recv(4096).decode())
                yield
            finally:
                process.terminate()


def common(directory: str) -> list[str]:
    """Return the options that both programs have."""
    return ["--config", f"{directory}/config.toml", "--state-dir", f"{directory}/state"]


def processor_time(directory: str, *words: str) -> float:
    """Seconds of processor time of one run, its worker's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", CTL, *words, *common(directory)],
        env=os.environ | {"RUNTIME_DIRECTORY": directory},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not done.stdout:
        raise SystemExit(f"keepalivectl {' '.join(words)} says {done.stdout!r} {done.stderr!r}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure and show."""
    with tempfile.TemporaryDirectory() as directory, holding(CONNECTIONS):
        File("/proc/self/comm").write_text(NAME)
        File(directory, "config.toml").write_text(CONFIGURATION)
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
            end = f"127.0.0.1:{one.getsockname()[1]}"
            words = {
                "status, beside a daemon": (["status"], 0.15),
                "why PROCESS, beside a daemon": (["why", str(os.getpid())], 0.3),
                "why HOST:PORT, beside a daemon": (["why", end], 0.3),
                "why NAME, beside a daemon": (["why", NAME], 0.3),
            }
            with daemon(directory):
                took = {
                    what: median(processor_time(directory, *typed) for _ in range(RUNS))
                    for what, (typed, _) in words.items()
                }
    return show(
        f"keepalivectl at {CONNECTIONS:,} connections, processor time, medians of {RUNS} runs",
        [Row(what, seconds * 1e3, "ms", at_most=words[what][1] * 1e3) for what, seconds in took.items()],
    )


if __name__ == "__main__":
    sys.exit(main())
