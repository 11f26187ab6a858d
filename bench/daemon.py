"""The daemon with nothing to say: how soon it is ready, what it takes while it watches."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path as File
from statistics import median

import psutil

from bench.hold import holding
from bench.rows import Row, show

SOCKETS = 10_000
# neither the settings of the machine nor the sockets of other namespaces are ours
CONFIGURATION = '[keepalive]\napply = false\n[watch]\nignore = []\nnamespaces = "own"\n'
ARMING = '[[arm]]\naction = "enable"\n'
STARTS = 5
INTERVAL = 15.0  # seconds between scans: the default
SCANS = 2
AFTERWARDS = 1.0  # second, for the last scan to end in


@contextlib.contextmanager
def started(rules: str = "") -> Iterator[tuple[psutil.Process, float]]:
    """A daemon that is ready, and the seconds from its start until then; `rules` end its configuration."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        config = File(directory, "config.toml")
        config.write_text(CONFIGURATION + rules)
        manager.bind(f"{directory}/notify")
        manager.settimeout(10)
        command = [sys.executable, "-m", "keepaliveD", "--config", str(config), "--state-dir", f"{directory}/state"]
        surroundings = os.environ | {"NOTIFY_SOCKET": f"{directory}/notify"}
        surroundings.pop("PYTHONDONTWRITEBYTECODE", None)  # a package installs its modules compiled
        start = time.perf_counter()
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env=surroundings,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                check(manager)
                seconds = time.perf_counter() - start
                yield psutil.Process(process.pid), seconds
            finally:
                process.terminate()


def check(manager: socket.socket) -> None:
    """Wait until it is ready; fail unless it sees what it is to watch."""
    while "READY=1" not in (message := manager.recv(4096).decode()):
        pass  # it reads its configuration
    watched = re.search(r"Watching (\d+) connections", message)
    if not watched or int(watched[1]) < SOCKETS:
        raise SystemExit(f"the daemon says {message!r}")


def time_to_ready() -> float:
    """Seconds, of one start."""
    with started() as (_, seconds):
        return seconds


def idle() -> tuple[float, float]:
    """Bytes of memory of all processes together, and their share of one core, over some scans after the first."""
    with started() as (process, _):
        processes = [process, *process.children()]
        before, start = worked(processes), time.perf_counter()
        time.sleep(SCANS * INTERVAL + AFTERWARDS)
        share = (worked(processes) - before) / (time.perf_counter() - start)
        return held(processes), share


def after_arming() -> float:
    """Bytes of memory of all processes together, a scan after the one at which every bare socket was armed."""
    with started(ARMING) as (process, _):
        time.sleep(INTERVAL + AFTERWARDS)
        return held([process, *process.children()])


def held(processes: list[psutil.Process]) -> float:
    """Bytes of memory; what several have counts once."""
    return sum(each.memory_full_info().pss for each in processes)


def worked(processes: list[psutil.Process]) -> float:
    """Seconds of processor time."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def main() -> int:
    """Measure and show."""
    with holding(SOCKETS):
        ready = median(time_to_ready() for _ in range(STARTS))
        memory, share = idle()
        armed = after_arming()
    return show(
        f"the daemon at {SOCKETS:,} sockets, over {SCANS} scans {INTERVAL:.0f} s apart",
        [
            Row(f"start to READY, median of {STARTS}", ready, "s", at_most=1.5),
            Row("memory, daemon and worker", memory / 1e6, "MB", at_most=60),
            Row("memory, in a run that arms half", armed / 1e6, "MB", at_most=60),
            Row("share of one core", share * 100, "%", at_most=1),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
