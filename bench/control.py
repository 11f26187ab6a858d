"""What clients of the control socket cost the daemon's scans: many that monitor, and many that list and stop reading.

A connection is armed and disarmed all the time, so that there is something to monitor. Rounds without clients and
with clients take turns, so that the ratios depend less on what else the machine does.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path as File
from statistics import median

import psutil

from bench.cli import daemon, served
from bench.daemon import held
from bench.hold import holding
from bench.rows import Row, show
from keepaliveD.cli.asking.asking import ask, every
from keepaliveD.places import INTERFACE

CONNECTIONS = 10_000
CLIENTS = 100
ROUNDS = 24
SECONDS = 1.5  # of a round
INTERVAL = 0.2  # seconds between scans
PATIENCE = 60.0  # seconds for an answer
CONFIGURATION = f"""
[watch]
ignore = []
namespaces = "own"
interval = "{INTERVAL}s"
[keepalive]
apply = false
"""
MOST_DISTURBED = 1.05  # of the median without clients
MOST_MEMORY = 3.0  # MB
STARTS = 3  # of a daemon with a control socket, and of one without
WATCHERS = """
import selectors, socket, sys
path, count, call, reads = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode() + bytes(1), sys.argv[4] == "reads"
selector, kept = selectors.DefaultSelector(), []
for _ in range(count):
    its = socket.socket(socket.AF_UNIX)
    its.connect(path)
    its.sendall(call)
    kept.append(its)
    selector.register(its, selectors.EVENT_READ)
print(count, flush=True)
while reads:
    for key, _ in selector.select():
        if not key.fileobj.recv(1 << 20):
            sys.exit("let go")
sys.stdin.read()
"""


@contextlib.contextmanager
def clients(path: File, method: str, *, reading: bool) -> Iterator[None]:
    """Many clients in a process of their own that call this method, and read what comes or nothing."""
    call = json.dumps({"method": f"{INTERFACE}.{method}", "more": True})
    words = [str(path), str(CLIENTS), call, "reads" if reading else "stops"]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-S", "-c", WATCHERS, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            if process.stdout and not process.stdout.readline():
                raise SystemExit("the clients have failed")
            yield
            if process.poll() is not None:
                raise SystemExit("the clients were let go")
        finally:
            process.kill()


class Measured:
    """What scans took: the wall time of each, and of each round the mean processor time of the worker in one."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.used: list[float] = []

    def round(self, path: File, cookie: int, daemon: int) -> None:
        """Measure for a while."""
        before, scanned = used(daemon), number(path)
        self.took += scans(path, cookie)
        self.used.append((used(daemon) - before) / max(1, number(path) - scanned))


def used(daemon: int) -> float:
    """Seconds of processor time that the daemon's worker has had."""
    children = File(f"/proc/{daemon}/task/{daemon}/children").read_text(encoding="ascii").split()
    return sum(served(int(child)) for child in children)


def number(path: File) -> int:
    """Return how many scans the daemon has made."""
    metrics = {each["name"]: each["samples"] for each in ask(path, "Metrics", patience=PATIENCE)["metrics"]}
    return int(metrics["tcp_keepalive_scan_duration_seconds"][1]["value"])


def scans(path: File, cookie: int) -> list[float]:
    """Return how long each scan of a round took, while a connection is armed and disarmed."""
    took, end = [], time.monotonic() + SECONDS
    while time.monotonic() < end:
        next(every(path, "Arm", {"cookie": cookie}, PATIENCE))
        next(every(path, "Disarm", {"cookie": cookie}, PATIENCE))
        took.append(ask(path, "Status", patience=PATIENCE)["scan"]["took"])
        time.sleep(INTERVAL / 2)
    return took


def ratio(these: list[float], those: list[float]) -> float:
    """Return how many times as long these took, by their medians."""
    return median(these) / median(those)


def listing(path: File) -> float:
    """Return the seconds that one client takes to list all connections."""
    began = time.monotonic()
    found = sum(len(reply["connections"]) for reply in every(path, "ListConnections", {}, PATIENCE))
    if found < CONNECTIONS:
        raise SystemExit(f"{found} connections are listed")
    return time.monotonic() - began


def memory(daemon: int) -> float:
    """MB of the daemon and its worker, after another scan."""
    process = psutil.Process(daemon)
    time.sleep(2 * INTERVAL)
    return held([process, *process.children()]) / 1e6


def of_socket(directory: str) -> float:
    """MB that a daemon with a control socket has more than one without, once somebody has asked for everything."""
    with_it, without = [], []
    for _ in range(STARTS):
        with daemon(directory, RUNTIME_DIRECTORY="") as pid:
            without.append(memory(pid))
        with daemon(directory) as pid:
            path = File(directory, "control")
            for method in ("Status", "ListPaths", "ListDeaths", "Metrics"):
                ask(path, method, patience=PATIENCE)
            listing(path)
            with_it.append(memory(pid))
    return median(with_it) - median(without)


def main() -> int:
    """Measure and show."""
    alone, monitored, stalled = Measured(), Measured(), Measured()
    with tempfile.TemporaryDirectory() as directory, holding(CONNECTIONS, bare=True):
        File(directory, "config.toml").write_text(CONFIGURATION)
        of_itself = of_socket(directory)
        with daemon(directory) as pid:
            path = File(directory, "control")
            cookie = next(every(path, "ListConnections", {}, PATIENCE))["connections"][0]["cookie"]
            alone.round(path, cookie, pid)
            before = memory(pid)
            with clients(path, "Monitor", reading=True):
                monitored.round(path, cookie, pid)
                of_clients = memory(pid) - before
            for _ in range(ROUNDS):
                alone.round(path, cookie, pid)
                with clients(path, "Monitor", reading=True):
                    monitored.round(path, cookie, pid)
                with clients(path, "ListConnections", reading=False):
                    stalled.round(path, cookie, pid)
            listed = median(listing(path) for _ in range(ROUNDS))
    return show(
        f"scans of {CONNECTIONS:,} connections, {INTERVAL} s apart, medians of {len(alone.took)}, "
        f"{len(monitored.took)}, {len(stalled.took)}; processor time of the worker, medians of {ROUNDS} rounds",
        [
            Row("scan without clients", median(alone.took) * 1e3, "ms"),
            Row(f"with {CLIENTS} that monitor", ratio(monitored.took, alone.took), "x", at_most=MOST_DISTURBED),
            Row(f"with {CLIENTS} that stop reading", ratio(stalled.took, alone.took), "x"),
            Row("without clients, processor time", median(alone.used) * 1e3, "ms"),
            Row(f"with {CLIENTS} that monitor", ratio(monitored.used, alone.used), "x", at_most=MOST_DISTURBED),
            Row(f"with {CLIENTS} that stop reading", ratio(stalled.used, alone.used), "x"),
            Row("listing all connections", listed * 1e3, "ms"),
            Row("memory for the socket, asked all", of_itself, "MB", at_most=MOST_MEMORY),
            Row(f"memory for {CLIENTS} that monitor", of_clients, "MB", at_most=MOST_MEMORY),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
