"""The machine itself: what it is made of goes with whoever started it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.install.machine import SOON, Machine
from tests.install.packages import PROJECT

START = "import sys; from pathlib import Path; from tests.install.machine import Machine; "
START += "m = Machine('any', Path(sys.argv[1])); print(m.init, flush=True); input()"


def cgroups() -> set[str]:
    """Those of machines, as the whole host sees them."""
    look = "mount -t cgroup2 cgroup2 /mnt && ls /mnt"
    seen = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", look], capture_output=True, text=True, check=True
    )
    return {name for name in seen.stdout.split() if name.startswith("tcp-keepalived-test-")}


def running(pid: int) -> bool:
    """A zombie does not: in a container without an init, pytest inherits it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def gone_after(inits: list[int]) -> Iterator[None]:
    """Afterwards neither these processes nor a new cgroup are there."""
    before = cgroups()
    yield
    end = time.monotonic() + SOON
    while cgroups() - before or any(running(init) for init in inits):
        assert time.monotonic() < end, f"left behind: {cgroups() - before} {inits}"
        time.sleep(0.1)


def test_a_machine_that_ends_leaves_nothing(suite: str, tarball: Path) -> None:
    """Neither PID 1 nor its cgroup."""
    inits: list[int] = []
    with gone_after(inits), Machine(suite, tarball) as machine:
        inits.append(machine.init)


@pytest.mark.usefixtures("suite")
def test_a_machine_whose_test_is_killed_leaves_nothing(tarball: Path) -> None:
    """SIGKILL lets nobody tidy up; the end of a pipe tells."""
    inits: list[int] = []
    with gone_after(inits):
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", START, str(tarball)]
        with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True) as test:
            assert test.stdout
            inits.append(int(test.stdout.readline()))
            assert Path(f"/proc/{inits[0]}").exists()
            test.kill()
