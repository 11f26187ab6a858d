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
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path as File

from bench.daemon import CONFIGURATION
from bench.hold import holding
from bench.rows import Row, show

CONNECTIONS = 100_000
SIZE = (50, 160)  # lines and columns
SECONDS = 40.0
SETTLING = 20.0  # seconds in which the owner of each is looked for, once, because a filter searches all of them
SHARE = 10.0  # percent of a core
FILTER = "127.0."  # which all of them match: the longest search
CTL = "from keepaliveD.__main__ import ctl; ctl()"


@contextlib.contextmanager
def watching(directory: str) -> Iterator[tuple[int, int]]:
    """The process that watches, and the other end of its terminal."""
    process, terminal = pty.fork()
    if not process:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", CTL, "watch", "--config", f"{directory}/config.toml"])
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
    children = File(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    return sum(map(_used, [process, *map(int, children)]))


def _used(process: int) -> float:
    fields = File(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(process: int, terminal: int) -> float:
    """Percent of a core, over a minute."""
    began, before = time.monotonic(), processor_time(process)
    read(terminal, SECONDS)
    return 100 * (processor_time(process) - before) / (time.monotonic() - began)


def main() -> int:
    """Measure and show."""
    with tempfile.TemporaryDirectory() as directory, holding(CONNECTIONS):
        File(directory, "config.toml").write_text(CONFIGURATION)
        with watching(directory) as (process, terminal):
            if b"connections: " not in read(terminal, 60.0, until=b"connections: "):
                raise SystemExit("watch shows nothing")
            plain = share(process, terminal)
            before = processor_time(process)
            os.write(terminal, FILTER.encode())
            read(terminal, SETTLING)
            first = processor_time(process) - before
            filtered = share(process, terminal)
            memory = resource.getpagesize() * int(File(f"/proc/{process}/statm").read_text().split()[1]) / 1e6
    return show(
        f"keepalivectl watch at {CONNECTIONS:,} sockets, {SECONDS:.0f} s each",
        [
            Row("processor time", plain, "%", at_most=SHARE),
            Row("in the first 20 s of a filter", first, "s"),
            Row("with a filter that all match", filtered, "%", at_most=SHARE),
            Row("memory of the command", memory, "MB"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
