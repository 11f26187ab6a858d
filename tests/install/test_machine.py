"""The machine itself: what it is made of goes with whoever started it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.install.machine import Machine
from tests.install.packages import PROJECT
from tests.support.patience import SOON

START = "import sys; from pathlib import Path; from tests.install.machine import Machine; "
START += "m = Machine('any', Path(sys.argv[1])); print(m.init, flush=True); input()"


def cgroups(owner: int) -> set[str]:
    """Those of the machines of a process, as the whole host sees them."""
    look = "mount -t cgroup2 cgroup2 /mnt && ls /mnt"
    seen = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", look], capture_output=True, text=True, check=True
    )
    return {name for name in seen.stdout.split() if name.startswith(f"tcp-keepalived-test-{owner}-")}


def running(pid: int) -> bool:
    """A zombie does not: in a container without an init, pytest inherits it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def gone_after(inits: list[int], owners: list[int]) -> Iterator[None]:
    """Afterwards neither these processes nor a new cgroup of these owners are there."""
    before = cgroups(os.getpid())

    def left() -> list[object]:
        found = set().union(*map(cgroups, owners)) - before
        return [*found, *filter(running, inits)]

    yield
    end = time.monotonic() + SOON
    while left():
        assert time.monotonic() < end, f"left behind: {left()}"
        time.sleep(0.1)


def test_a_machine_that_ends_leaves_nothing(suite: str, system: Path) -> None:
    """Neither PID 1 nor its cgroup."""
    inits: list[int] = []
    with gone_after(inits, [os.getpid()]), Machine(suite, system) as machine:
        inits.append(machine.init)


@pytest.mark.usefixtures("suite")
def test_a_machine_whose_test_is_killed_leaves_nothing(system: Path) -> None:
    """SIGKILL lets nobody tidy up; the end of a pipe tells."""
    inits: list[int] = []
    owners: list[int] = []
    with gone_after(inits, owners):
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", START, str(system)]
        with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True) as test:
            owners.append(test.pid)
            assert test.stdout
            inits.append(int(test.stdout.readline()))
            assert Path(f"/proc/{inits[0]}").exists()
            test.kill()
