"""Arming by BPF: what a socket costs in the kernel, and with all that is decided and told of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path as File
from statistics import median
from typing import TypeVar

from bench.arm import PATH, RULE, scan
from bench.hold import holding
from bench.rows import Row, show
from keepaliveD.model import Armed, Fate
from keepaliveD.platforms.base import Order
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.watcher import SocketWatcher
from keepaliveD.policy.engine import Engine, Rules
from keepaliveD.policy.sysctls import OnDrift

SOCKETS, PROCESSES = 100_000, 10
ROUNDS = 5  # armed, then put back

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
    with holding(SOCKETS, PROCESSES, bare=True):
        actions, _ = scan(SocketWatcher(all_namespaces=False), Engine(rules))
        orders = [Order(one, action.wishes[0]) for action in actions for one in action.connections]
        armer = BpfArmer(File("/"))
        start = time.process_time()
        armer.load()
        loading = time.process_time() - start
        passes, totals = [], []
        untimed = armer._pass
        for _ in range(ROUNDS):
            kept: dict[int, Armed] = {}
            watch = Watch()
            armer._pass = watch.over(untimed)  # type: ignore[method-assign]
            start = time.process_time()
            armings = armer.arm(orders, {}, kept.update)
            totals.append(time.process_time() - start)
            passes.append(watch.seconds)
            if [(len(arming.connections), arming.fate) for arming in armings] != [(SOCKETS, Fate.ARMED)]:
                raise SystemExit(f"not armed: { {arming.fate.value for arming in armings} }")
            armer.disarm([order.connection for order in orders], kept)
    return show(
        f"arming {SOCKETS:,} bare sockets by BPF, medians of {ROUNDS} rounds",
        [
            Row("looking and setting, a socket", median(passes) / SOCKETS * 1e6, "us", at_most=4),
            Row("with deciding and telling", median(totals) / SOCKETS * 1e6, "us", at_most=4),
            Row("loading, once", loading * 1e3, "ms"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
