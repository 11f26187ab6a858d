"""The rig itself."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.patience import has_ended
from tests.support.processes import program
from tests.support.rig import Rig

RIG_WITH_PROGRAM = """
import time
from tests.support.processes import program
from tests.support.rig import Rig
with Rig() as rig, program(rig) as running:
    print(rig.client.pid, rig.firewall.pid, rig.server.pid, running.pid, flush=True)
    time.sleep(60)
"""
ROOT = Path(__file__).parents[2]


def test_two_rigs_stand_side_by_side_and_each_takes_less_than_a_second() -> None:
    """The same addresses live in both."""
    with ExitStack() as stack:
        start = processor_time()
        rigs = [stack.enter_context(Rig()) for _ in range(2)]
        assert processor_time() - start < 2
        for rig in rigs:
            assert stack.enter_context(program(rig)).speak() == "answered"


def processor_time() -> float:
    """What this process and its children that have ended have worked: seconds."""
    return sum(os.times()[:4])


def test_a_killed_pytest_leaves_nothing_behind() -> None:
    """Neither processes nor, therefore, namespaces."""
    with subprocess.Popen([sys.executable, "-c", RIG_WITH_PROGRAM], stdout=subprocess.PIPE, cwd=ROOT) as pytest:
        assert pytest.stdout
        pids = [int(pid) for pid in pytest.stdout.readline().split()]
        ends = [os.pidfd_open(pid) for pid in pids]
        pytest.kill()
    assert all(map(has_ended, ends))
    assert len(pids) == 4
