"""What `keepalivectl status` beside a daemon, `keepalivectl why` and a scrape cost, with 10,000 connections."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path as File
from statistics import median

from bench.daemon import CONFIGURATION, check
from bench.hold import holding
from bench.journal import full_of_deaths
from bench.rows import Row, show
from keepaliveD.cli.metrics.scraped import FRESH

CONNECTIONS = 10_000
RUNS = 9
DEATHS = 20_000  # of the peer of a connection, in the journal
MOST = {"status": 0.15, "why": 0.3}  # seconds from start to end
WORK = 0.15  # seconds of processor time for either
SCRAPE = 0.05  # seconds that one may take
GET = b"GET /metrics HTTP/1.1\r\n\r\n"
NAME = "bench-cli"  # of this process, which holds few connections
CTL = "from keepaliveD.__main__ import ctl; ctl()"


@contextlib.contextmanager
def daemon(directory: str, **environment: str) -> Iterator[int]:
    """One that answers on its control socket in this directory, unless the environment says otherwise; its id."""
    File(directory, "notify").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{directory}/notify")
        manager.settimeout(30)
        command = [sys.executable, "-m", "keepaliveD", "--config", f"{directory}/config.toml", *state(directory)]
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env=os.environ | {"NOTIFY_SOCKET": f"{directory}/notify", "RUNTIME_DIRECTORY": directory} | environment,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                check(manager)
                yield process.pid
            finally:
                process.terminate()


@contextlib.contextmanager
def exporter(directory: str) -> Iterator[int]:
    """One that serves the daemon's metrics at a socket in this directory; its process id."""
    command = [sys.executable, "-c", CTL, "metrics", "--listen", f"{directory}/metrics"]
    environment = os.environ | {"RUNTIME_DIRECTORY": directory}
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], env=environment) as process:
        try:
            while not File(directory, "metrics").exists():
                time.sleep(0.01)
            yield process.pid
        finally:
            process.terminate()


def scrape(directory: str, *processes: int) -> tuple[float, float]:
    """Return the seconds of one scrape, and the seconds of processor time of these processes in it."""
    time.sleep(FRESH)  # so that the daemon is asked
    before, began = sum(map(served, processes)), time.monotonic()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{directory}/metrics")
        client.sendall(GET)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    took = time.monotonic() - began
    if b"\ntcp_keepalive_up 1\n" not in answer:
        raise SystemExit(f"a scrape says {answer!r}")
    return took, sum(map(served, processes)) - before


def served(pid: int) -> float:
    """Seconds of processor time that the threads of a process have had."""
    threads = File(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def state(directory: str) -> list[str]:
    """Return the option that both programs get: with --config, keepalivectl would not ask the daemon."""
    return ["--state-dir", f"{directory}/state"]


def run(directory: str, *words: str) -> tuple[float, float]:
    """Seconds of one run, and its seconds of processor time, its worker's included."""
    surroundings = os.environ | {"RUNTIME_DIRECTORY": directory}
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)  # a package installs its modules compiled
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CTL, *words, *state(directory)],
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not done.stdout:
        raise SystemExit(f"keepalivectl {' '.join(words)} says {done.stdout!r} {done.stderr!r}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure and show."""
    with tempfile.TemporaryDirectory() as directory, holding(CONNECTIONS):
        File("/proc/self/comm").write_text(NAME)
        File(directory, "config.toml").write_text(CONFIGURATION)
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
            end = f"127.0.0.1:{one.getsockname()[1]}"
            words = {
                "status": ["status"],
                "why PROCESS": ["why", str(os.getpid())],
                "why HOST:PORT": ["why", end],
                "why NAME": ["why", NAME],
            }
            with daemon(directory) as pid:
                took = {
                    what: [median(each) for each in zip(*(run(directory, *typed) for _ in range(RUNS)), strict=True)]
                    for what, typed in words.items()
                }
                with full_of_deaths(DEATHS, "127.0.0.1") as is_full:
                    if is_full:
                        runs = zip(*(run(directory, "why", end) for _ in range(RUNS)), strict=True)
                        took[f"why HOST:PORT, {DEATHS:,} deaths on record"] = [median(each) for each in runs]
                with exporter(directory) as serving:
                    scrapes = [scrape(directory, pid, serving) for _ in range(RUNS)]
    walls, works = zip(*scrapes, strict=True)
    return show(
        f"keepalivectl beside a daemon, {CONNECTIONS:,} connections, medians of {RUNS} runs",
        [
            *(
                row
                for what, (wall, work) in took.items()
                for row in (
                    Row(f"{what}, wall time", wall * 1e3, "ms", at_most=MOST["why" if "why" in what else what] * 1e3),
                    Row(f"{what}, processor time", work * 1e3, "ms", at_most=WORK * 1e3),
                )
            ),
            Row("a scrape, wall time", median(walls) * 1e3, "ms", at_most=SCRAPE * 1e3),
            Row("a scrape, both processes' time", median(works) * 1e3, "ms", at_most=SCRAPE * 1e3),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
