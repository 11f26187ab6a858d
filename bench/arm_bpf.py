"""Arming by BPF: what a socket costs in the kernel, and with the rules, the owner and the record."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path as File
from statistics import median
from typing import TypeVar

import psutil

from bench.arm import PATH, RULE, Bench, scan
from bench.hold import holding
from bench.rows import Row, show
from keepaliveD.daemon.memory import give_back
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.rules import OnDrift, Rules
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.scans import ScanDecider

SOCKETS, PROCESSES = 100_000, 10
ROUNDS = 5  # armed, then put back, without a file and with one

Result = TypeVar("Result")


class Watch:
    """Adds up the processor time that a function takes: the kernel works in it, other programs do not."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, work: Callable[..., Result]) -> Callable[..., Result]:
        """The same function, timed."""

        def timed(*arguments: object) -> Result:
            start = time.process_time()
            try:
                return work(*arguments)
            finally:
                self.seconds += time.process_time() - start

        return timed


def held() -> float:
    """Give free memory back, and return how many bytes this process alone still has."""
    give_back()
    return float(psutil.Process().memory_full_info().uss)


def main() -> int:
    """Measure and show."""
    rules = Rules(wanted={}, on_drift=OnDrift.WARN, paths=(PATH,), ignore=(), warn_before=60.0, arm=(RULE,))
    with holding(SOCKETS, PROCESSES, bare=True), tempfile.TemporaryDirectory() as directory:
        actions, _, judgement = scan(SocketWatcher(all_namespaces=False), ScanDecider(rules))
        (action,) = actions
        armer, loading, kernel = BpfArmer(File("/")), Watch(), Watch()
        programs = loading.over(armer.load)()
        programs.put_all = kernel.over(programs.put_all)  # type: ignore[method-assign]
        programs.drop_all = kernel.over(programs.drop_all)  # type: ignore[method-assign]
        armer._pass = kernel.over(armer._pass)  # type: ignore[method-assign]
        in_kernel: list[float] = []
        armed: list[float] = []
        left: list[float] = []
        for number in range(ROUNDS):
            bench, whole, kernel.seconds = Bench(armer, File(directory) / str(number)), Watch(), 0.0
            before = held()
            armings = whole.over(bench.arm)(action)
            armed.append(whole.seconds)
            in_kernel.append(kernel.seconds)
            if [(arming.result, len(arming.connections)) for arming in armings] != [(ArmingResult.ARMED, SOCKETS)]:
                raise SystemExit(f"not armed: { {arming.result.value for arming in armings} }")
            del armings
            left.append(held() - before)
            bench.disarm(judgement)
    return show(
        f"arming {SOCKETS:,} bare sockets by BPF, medians of {ROUNDS} rounds",
        [
            Row("looking and setting, a socket", median(in_kernel) / SOCKETS * 1e6, "us", at_most=4),
            Row("with rules, owners and the record", median(armed) / SOCKETS * 1e6, "us", at_most=4),
            Row("memory that stays, a socket", left[0] / SOCKETS, "B", at_most=100),
            Row("loading, once", loading.seconds * 1e3, "ms"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
