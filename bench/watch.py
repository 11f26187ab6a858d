"""What `keepalivectl watch` costs at 100,000 connections: processor time, its worker's included."""

from __future__ import annotations

import contextlib
import os
import pty
import resource
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path as File

from bench.cli import daemon
from bench.daemon import CONFIGURATION, INTERVAL
from bench.hold import holding
from bench.rows import Row, show

CONNECTIONS = 100_000
SIZE = (50, 160)  # lines and columns
TICK = 0.1  # seconds between two looks at what the worker has used
QUIET, WORK = 2.0, 0.05  # seconds in which less than so many are computed when a scan and what follows has ended
LONGEST = 90.0  # seconds for which the next scan is waited for: watch pauses for a minute at most
SHARE = 10.0  # percent of a core
FILTER = "127.0."  # which all of them match: the longest search
CTL = "from keepaliveD.__main__ import ctl; ctl()"


@contextlib.contextmanager
def watching(directory: str, *, beside_daemon: bool) -> Iterator[tuple[int, int]]:
    """The process that watches, and the other end of its terminal; it asks a daemon only beside one."""
    process, terminal = pty.fork()
    if not process:
        os.environ["TERM"] = "xterm"
        if beside_daemon:
            os.environ |= {"RUNTIME_DIRECTORY": directory, "STATE_DIRECTORY": f"{directory}/state"}
        alone = [] if beside_daemon else ["--config", f"{directory}/config.toml"]
        os.execv(sys.executable, [sys.executable, "-c", CTL, "watch", *alone])
    try:
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", *SIZE, 0, 0))
        yield process, terminal
    finally:
        os.kill(process, signal.SIGTERM)
        read(terminal, 5.0, until=b"\x1b[?1049l")
        os.waitpid(process, 0)
        os.close(terminal)


def read(terminal: int, seconds: float, until: bytes = b"\0") -> bytes:
    """Take what is shown, for so many seconds or until this is in it."""
    shown, end = b"", time.monotonic() + seconds
    while until not in shown and (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                shown = shown[-1000:] + os.read(terminal, 1 << 16)
            except OSError:
                break
    return shown


def processor_time(process: int) -> float:
    """Seconds that it and its workers have used."""
    return sum(map(_used, [process, *_workers(process)]))


def _workers(process: int) -> list[int]:
    return list(map(int, File(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()))


def _used(process: int) -> float:
    fields = File(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(process: int, terminal: int, *, after_work: bool) -> None:
    """Wait until little is done, if need be after the worker has worked: a scan and what follows from it have ended.

    Whose connections they are, for which a filter asks, is a part of that.
    """
    end, idle = time.monotonic() + LONGEST, worked(process)
    while after_work and worked(process) - idle < WORK:
        if time.monotonic() > end:
            raise SystemExit("watch does not scan again")
        read(terminal, TICK)
    before, used = -WORK, processor_time(process)
    while used - before >= WORK and time.monotonic() < end:
        read(terminal, QUIET)
        before, used = used, processor_time(process)


def worked(process: int) -> float:
    """Seconds that the workers alone have used."""
    return sum(map(_used, _workers(process)))


class Meter:
    """What the command uses from the end of one scan to that of the next one."""

    def __init__(self, process: int, terminal: int) -> None:
        self._process, self._terminal = process, terminal
        settle(process, terminal, after_work=False)
        self._ended, self._used, self._once = time.monotonic(), processor_time(process), 0.0

    def type(self, text: str) -> float:
        """Type this, and return how many seconds of processor time it costs once, which a share does not count."""
        before = processor_time(self._process)
        os.write(self._terminal, text.encode())
        settle(self._process, self._terminal, after_work=True)
        self._once = processor_time(self._process) - before
        return self._once

    def share(self) -> tuple[float, float]:
        """Return percent of a core, and the seconds between the ends of both scans."""
        settle(self._process, self._terminal, after_work=True)
        took, used = time.monotonic() - self._ended, processor_time(self._process) - self._used - self._once
        self._ended, self._used, self._once = self._ended + took, self._used + used + self._once, 0.0
        return 100 * used / took, took


def beside(directory: str) -> tuple[float, float, float]:
    """What watch uses beside a daemon, and how much more the daemon uses then, in percent, and the seconds measured."""
    with daemon(directory) as pid:
        time.sleep(INTERVAL)  # what follows from the first scan
        before = used_by(pid, lambda: time.sleep(2 * INTERVAL))
        with watching(directory, beside_daemon=True) as (process, terminal):
            if b"judged by what the daemon" not in read(terminal, 60.0, until=b"judged by what the daemon"):
                raise SystemExit("watch does not ask the daemon")
            meter = Meter(process, terminal)
            shares: list[tuple[float, float]] = []

            def measure() -> None:
                end = time.monotonic() + 2 * INTERVAL
                while time.monotonic() < end:
                    shares.append(meter.share())

            more = used_by(pid, measure) - before
    took = sum(seconds for _, seconds in shares)
    return sum(share * seconds for share, seconds in shares) / took, more, took


def used_by(pid: int, work: Callable[[], object]) -> float:
    """Percent of a core that a process and its workers use while this work is done."""
    began, used = time.monotonic(), processor_time(pid)
    work()
    return 100 * (processor_time(pid) - used) / (time.monotonic() - began)


def main() -> int:
    """Measure and show."""
    with tempfile.TemporaryDirectory() as directory, holding(CONNECTIONS):
        File(directory, "config.toml").write_text(CONFIGURATION)
        asking, daemons, seconds = beside(directory)
        with watching(directory, beside_daemon=False) as (process, terminal):
            if b"connections: " not in read(terminal, 60.0, until=b"connections: "):
                raise SystemExit("watch shows nothing")
            meter = Meter(process, terminal)
            plain, between = meter.share()
            first = meter.type(FILTER)
            filtered, between_filtered = meter.share()
            memory = resource.getpagesize() * int(File(f"/proc/{process}/statm").read_text().split()[1]) / 1e6
    return show(
        f"keepalivectl watch at {CONNECTIONS:,} sockets, from the end of a scan to that of the next one",
        [
            Row("processor time", plain, "%", at_most=SHARE),
            Row("time between these scans", between, "s"),
            Row("the first time with a filter", first, "s"),
            Row("with a filter that all match", filtered, "%", at_most=SHARE),
            Row("time between these scans", between_filtered, "s"),
            Row("memory of the command", memory, "MB"),
            Row("processor time beside a daemon", asking, "%", at_most=SHARE),
            Row("the daemon's, more than before", daemons, "%", at_most=SHARE),
            Row("time measured beside it", seconds, "s"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
