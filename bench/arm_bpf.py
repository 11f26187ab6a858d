"""Arming by BPF: what a socket costs in the kernel, and with all that is decided and told of it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path as File
from statistics import median
from typing import TypeVar

from bench.arm import PATH, RULE, scan
from bench.hold import holding
from bench.rows import Row, show
from keepaliveD.model.results import Armed, Fate
from keepaliveD.platforms.base import Order
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.decider import Decider, Rules
from keepaliveD.policy.sysctls import OnDrift
from keepaliveD.records.arming import ArmingRecord

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


def main() -> int:
    """Measure and show."""
    rules = Rules(wanted={}, on_drift=OnDrift.WARN, paths=(PATH,), ignore=(), warn_before=60.0, arm=(RULE,))
    with holding(SOCKETS, PROCESSES, bare=True), tempfile.TemporaryDirectory() as directory:
        actions, _ = scan(SocketWatcher(all_namespaces=False), Decider(rules))
        orders = [Order(one, action.wishes[0]) for action in actions for one in action.connections]
        connections = [order.connection for order in orders]
        armer, loading, kernel = BpfArmer(File("/")), Watch(), Watch()
        programs = loading.over(armer.load)()
        programs.put_all = kernel.over(programs.put_all)  # type: ignore[method-assign]
        programs.drop_all = kernel.over(programs.drop_all)  # type: ignore[method-assign]
        armer._pass = kernel.over(armer._pass)  # type: ignore[method-assign]
        in_kernel: list[float] = []
        told: list[float] = []
        recorded: list[float] = []
        for number in range(ROUNDS):
            kept: dict[int, Armed] = {}
            for keep, costs in ((kept.update, told), (ArmingRecord(File(directory), str(number)).keep, recorded)):
                whole, kernel.seconds = Watch(), 0.0
                armings = whole.over(armer.arm)(orders, {}, keep)
                costs.append(whole.seconds)
                in_kernel.append(kernel.seconds)
                if [(arming.fate, len(arming.connections)) for arming in armings] != [(Fate.ARMED, SOCKETS)]:
                    raise SystemExit(f"not armed: { {arming.fate.value for arming in armings} }")
                armer.disarm(connections, kept)
    return show(
        f"arming {SOCKETS:,} bare sockets by BPF, medians of {ROUNDS} rounds",
        [
            Row("looking and setting, a socket", median(in_kernel) / SOCKETS * 1e6, "us", at_most=4),
            Row("with deciding and telling", median(told) / SOCKETS * 1e6, "us", at_most=4),
            Row("and with the record on file", median(recorded) / SOCKETS * 1e6, "us", at_most=4),
            Row("loading, once", loading.seconds * 1e3, "ms"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
