"""Capabilities of a thread: what is effective changes for a moment, or for good, and what is permitted stays."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.linux import capabilities
from keepaliveD.threads import Task
from tests.support.patience import SOON


def effective() -> int:
    """Those of the calling thread, a bit each."""
    status = Path("/proc/thread-self/status").read_text(encoding="ascii")
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))


def test_a_daemon_keeps_few_capabilities_and_its_worker_has_all_again() -> None:
    def change() -> tuple[int, int, int]:
        before = effective()
        capabilities.keep_those_of_main_process()
        few = effective()
        capabilities.make_all_effective()
        return before, few, effective()

    before, few, after = Task(change).result(within=SOON)
    assert few == before & sum(1 << each for each in capabilities.OF_MAIN_PROCESS)
    assert after == before


def test_where_bpf_has_a_capability_of_its_own_nothing_else_is_raised_for_it() -> None:
    def change() -> tuple[int, int]:
        capabilities.keep_those_of_main_process()
        before = effective()
        with capabilities.for_bpf():
            return before, effective()

    before, raised = Task(change).result(within=SOON)
    assert raised == before
