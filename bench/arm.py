"""Arming: what a socket costs once its holder is known, what finding holders costs, and what quiet scans cost."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path as File
from statistics import median

from bench.hold import holding
from bench.rows import Row, show
from keepaliveD.model.actions import Arm
from keepaliveD.model.connections import Connection
from keepaliveD.model.results import Armed, Fate
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from keepaliveD.platforms.base import Order
from keepaliveD.platforms.linux.arming.pidfd import PidfdArmer
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.decider import Decider, Rules
from keepaliveD.policy.sysctls import OnDrift
from keepaliveD.records.arming import ArmingRecord

SOCKETS, PROCESSES = 10_000, 100
SCANS = 15
ROUNDS = 7
ROOT = File("/")

RULE = ArmRule("bench", ArmAction.ENABLE, 180, 20, 31)
PATH = Path("default", 240.0, "bench")


def scan(watcher: SocketWatcher, decider: Decider) -> tuple[list[Arm], float]:
    """What is to be armed, and the seconds that it took to decide."""
    table = watcher.snapshot(time.monotonic())
    start = time.perf_counter()
    _, actions = decider.observe(table)
    return [action for action in actions if isinstance(action, Arm)], time.perf_counter() - start


def arm(connections: Sequence[Connection], actions: Sequence[Arm], holders: Holders, directory: str) -> list[float]:
    """Seconds a socket of each round; after each everything is put back, but for the last."""
    (wish,) = {wish for action in actions for wish in action.wishes}
    armer = PidfdArmer(ROOT, holders)
    orders = [Order(connection, wish) for connection in connections]
    seconds: list[float] = []
    armed: dict[int, Armed] = {}
    for number in range(ROUNDS):
        record = ArmingRecord(File(directory), str(number))
        if number:
            armer.disarm(connections, armed)
        start = time.perf_counter()
        armings = armer.arm(orders, record.armed(), record.keep)
        seconds.append((time.perf_counter() - start) / len(orders))
        if any(arming.fate is not Fate.ARMED for arming in armings):
            raise SystemExit(f"not armed: { {arming.fate.value for arming in armings} }")
        armed = record.armed()
    return seconds


def timed(holders: Holders, inodes: set[int]) -> float:
    """Seconds to find who holds these."""
    start = time.perf_counter()
    if len(holders.find(inodes)) != len(inodes):
        raise SystemExit("not all holders were found")
    return time.perf_counter() - start


def main() -> int:
    """Measure and show."""
    rules = Rules(wanted={}, on_drift=OnDrift.WARN, paths=(PATH,), ignore=(), warn_before=60.0, arm=(RULE,))
    with holding(SOCKETS, PROCESSES, bare=True), tempfile.TemporaryDirectory() as directory:
        watcher, decider, holders = SocketWatcher(all_namespaces=False), Decider(rules), Holders(ROOT)
        actions, deciding = scan(watcher, decider)
        connections = [connection for action in actions for connection in action.connections]
        if len(connections) != SOCKETS:
            raise SystemExit(f"{len(connections)} sockets are to be armed, not {SOCKETS}")
        inodes = {connection.inode for connection in connections}
        finding, again = timed(holders, inodes), timed(holders, inodes)
        costs = arm(connections, actions, holders, directory)
        quiet = [scan(watcher, decider) for _ in range(SCANS)]
        idle = Decider(Rules(wanted={}, on_drift=OnDrift.WARN, paths=(PATH,), ignore=(), warn_before=60.0))
        scan(watcher, idle)
        without = median(scan(watcher, idle)[1] for _ in range(SCANS))
    return show(
        f"arming {SOCKETS:,} bare sockets of {PROCESSES} processes",
        [
            Row(f"arming a socket, median of {ROUNDS} rounds", median(costs) * 1e6, "us", at_most=15),
            Row("finding all holders", finding, "s", at_most=1),
            Row("finding them again", again, "s"),
            Row("deciding at first", deciding * 1e3, "ms"),
            Row("asked for in quiet scans", sum(len(actions) for actions, _ in quiet), at_most=0),
            Row("quiet scan / without rules", median(cost for _, cost in quiet) / without, at_most=1.5),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
