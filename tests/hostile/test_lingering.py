"""Whoever makes our close of his socket the last one, which lingers, hangs a thread of a worker and nobody else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.loopback import Host, ends_at_once, forgetful, near_end
from tests.support.patience import SOON, family
from tests.support.processes import ENABLE, tell
from tests.support.rig import DIE_WITH_US

# Each option takes 100 ms to set, in place of microseconds: who waits for keepalive is then quick enough to close the
# socket before the worker has set the next option, however busy the machine is. With -D the daemon is our child, and
# not the tracer's.
SLOWLY = ("strace", "-D", "-f", "-qq", "--seccomp-bpf", "--trace=setsockopt", "--inject=setsockopt:delay_exit=100000")
LINGERS = "wait_woken"  # of sk_stream_wait_close(), net/core/stream.c
NO_GOODBYE = "table ip lost { chain out { type filter hook output priority 0; tcp flags & fin == fin drop; }; }"


def await_lingering(daemon: int) -> None:
    """Wait until a thread of a worker waits for the peer of a socket that it closes (/proc/PID/wchan, proc(5))."""
    deadline = time.monotonic() + SOON
    while not any(read(file) == LINGERS for pid in family(daemon) for file in tasks(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(file: Path) -> str:
    """What is in it, nothing where its thread has ended."""
    with contextlib.suppress(OSError):
        return file.read_text(encoding="ascii")
    return ""


def tasks(pid: int) -> Iterator[Path]:
    """What each thread waits for."""
    return Path("/proc").glob(f"{pid}/task/*/wchan")


def test_a_close_that_lingers_for_days_delays_nobody_for_long(host: Host) -> None:
    """The peer never hears that they are closed, so the kernel lets whoever closes last wait for its answer."""
    host.namespace.nft(NO_GOODBYE)
    program = host.program("lingerer")
    slowly = (*SLOWLY, f"--output={host.directory}/trace", *DIE_WITH_US)
    with host.daemon(forgetful(ENABLE, apply=True), through=slowly) as daemon:
        await_lingering(daemon.pid)
        daemon.expect("armed", within=SOON, **near_end(host.connection()))
        ends_at_once(host, daemon)
    tell(program)
    assert program.wait(SOON) == 0
