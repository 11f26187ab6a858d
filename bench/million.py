"""A daemon that finds a million bare sockets and arms them: how long that takes, how much memory, how long a scan.

A scan is timed in turns with the kernel's own netlink dump, which a C program receives and discards.

usage: python -m bench.million [SOCKETS]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File
from statistics import median

import psutil

from bench.daemon import ARMING, CONFIGURATION, INTERVAL
from bench.hold import holding
from bench.rows import Row, show
from bench.scan import floor, ours

SOCKETS, PROCESSES = 1_000_000, 50
EACH = 0.1  # seconds between two looks at the memory: a look costs some milliseconds
PATIENCE = 300.0  # seconds until all are armed, at most
SCANS = 2.0  # intervals after which what stays is measured, at least
LOOKS = 5  # scans that are timed; the first one, to which every socket is new, does not count


class Memory:
    """The memory of a daemon and its worker, looked at until it is stopped; what both have counts once."""

    def __init__(self, daemon: psutil.Process) -> None:
        self._daemon = daemon
        self.peak = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def now(self) -> float:
        """Bytes of all processes together."""
        return sum(map(_held, [self._daemon, *self._daemon.children()]))

    def stop(self) -> None:
        """End the looking."""
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(EACH):
            self.peak = max(self.peak, self.now())


def _held(process: psutil.Process) -> float:
    """Bytes of one process; none if it has ended."""
    try:
        return float(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0.0


@contextmanager
def started() -> Iterator[tuple[psutil.Process, File, float]]:
    """Start a daemon that arms; yield it, its log and the instant of its start."""
    with tempfile.TemporaryDirectory() as directory:
        config, log = File(directory, "config.toml"), File(directory, "log")
        config.write_text(CONFIGURATION + ARMING)
        command = [sys.executable, "-m", "keepaliveD", "--log-format=json", f"--config={config}"]
        with (
            log.open("w", encoding="utf-8") as errors,
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command, f"--state-dir={directory}/state"], stderr=errors
            ) as daemon,
        ):
            try:
                yield psutil.Process(daemon.pid), log, time.perf_counter()
            finally:
                daemon.kill()  # to disarm a million is not what is measured


def armed(log: File) -> int:
    """How many sockets the log says were armed."""
    whole, _, _ = log.read_text(encoding="utf-8").rpartition("\n")
    entries = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return sum(int(entry.get("KEEPALIVE_COUNT", 1)) for entry in entries if entry.get("KEEPALIVE_RESULT") == "armed")


def main() -> int:
    """Measure and show."""
    sockets = int(sys.argv[1]) if sys.argv[1:] else SOCKETS
    with holding(sockets, PROCESSES, bare=True), started() as (daemon, log, start):
        memory = Memory(daemon)
        try:
            while armed(log) < sockets:
                if time.perf_counter() > start + PATIENCE or not daemon.is_running():
                    raise SystemExit(f"{armed(log)} sockets were armed:\n{log.read_text(encoding='utf-8')}")
                time.sleep(EACH)
            seconds = time.perf_counter() - start
            time.sleep(SCANS * INTERVAL)
            stays = memory.now()
            used = sum(sum(each.cpu_times()[:2]) for each in [daemon, *daemon.children()])
        finally:
            memory.stop()
        with floor() as dump:
            scan = ours("bpf")
            _, *looks = ((scan(), dump()) for _ in range(1 + LOOKS))
    scanned, dumped = map(median, zip(*looks, strict=True))
    return show(
        f"a daemon that arms {sockets:,} bare sockets at its first look",
        [
            Row("start to the last one armed", seconds, "s", at_most=10),
            Row("processor time of both, in all", used, "s"),
            Row("memory, at most", memory.peak / 1e6, "MB", at_most=500),
            Row("memory that stays, two scans after", stays / 1e6, "MB", at_most=200),
            Row("a scan of all of them, median", scanned * 1000, "ms", at_most=400),
            Row("the kernel's own dump of them", dumped * 1000, "ms"),
            Row("a scan / this dump", scanned / dumped, at_most=0.5),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
