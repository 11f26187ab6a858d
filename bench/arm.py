"""Arming: what a socket costs once its owner is known, what finding owners costs, and what quiet scans cost."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path as File
from statistics import median

from bench.hold import holding
from bench.rows import ASSUMED, Row, show
from keepaliveD.daemon.arming import SocketArming
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import Arm
from keepaliveD.model.connections import Connection, Owner
from keepaliveD.model.errors import Refusal
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, OnDrift, Path, Rules, Wish
from keepaliveD.platforms import detect, unsupported
from keepaliveD.platforms.base import Armer, Session
from keepaliveD.platforms.linux.arming.pidfd import PidfdArmer
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.platforms.requests import directly
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.records.arming import ArmingRecord

SOCKETS, PROCESSES = 10_000, 100
SCANS = 15
ROUNDS = 7
ROOT = File("/")

RULE = ArmRule("bench", ArmAction.ENABLE, 180, 20, 31)
PATH = Path("default", 240.0, ASSUMED)


def scan(watcher: SocketWatcher, decider: ScanDecider) -> tuple[list[Arm], float, Judgement]:
    """What is to be armed, and the seconds that it took to decide."""
    table = watcher.scan(time.monotonic())
    start = time.perf_counter()
    judgement, actions = decider.observe(table)
    return [action for action in actions if isinstance(action, Arm)], time.perf_counter() - start, judgement


class Known:
    """Owners that are known already: to find them is measured apart."""

    def __init__(self, holders: Holders | None) -> None:
        self._holders = holders

    def find(self, inodes: Sequence[int], _cgroups: Sequence[int]) -> list[Owner]:
        """As far as it matters here."""
        if self._holders is None:
            return [Owner()] * len(inodes)
        holders = [self._holders.known(inode) for inode in inodes]
        return [Owner(holder.pid if holder else 0) for holder in holders]

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        """Nobody asks."""
        raise NotImplementedError


class Bench:
    """Arms as the daemon does, with a record of its own."""

    def __init__(self, armer: Armer, directory: File, holders: Holders | None = None) -> None:
        self._session = Session(SocketWatcher(all_namespaces=False), Known(holders), armer)
        platform = detect("linux", ROOT)
        self.record = ArmingRecord(directory, "b00t")
        settings = SystemSettings(platform.tuner, None)
        self._arming = SocketArming(unsupported.NoAtConnect(), settings, self.record)

    def arm(self, action: Arm) -> tuple[Arming, ...]:
        """What became of each."""
        return directly(self._arming.arm(action), self._session)

    def disarm(self, judgement: Judgement) -> None:
        """Put back all that was armed."""
        directly(self._arming.disarm(judgement, only_mine=True), self._session)


def arm(
    connections: Sequence[Connection], scanned: Judgement, wish: Wish, holders: Holders, directory: str
) -> list[float]:
    """Seconds a socket of each round; after each everything is put back, but for the last."""
    armer = PidfdArmer(ROOT, holders)
    seconds: list[float] = []
    for number in range(ROUNDS):
        bench = Bench(armer, File(directory) / str(number), holders)
        start = time.process_time()
        armings = bench.arm(Arm(tuple(connections), (wish,)))
        seconds.append((time.process_time() - start) / len(connections))
        if any(arming.result is not ArmingResult.ARMED for arming in armings):
            raise SystemExit(f"not armed: { {arming.result.value for arming in armings} }")
        if number < ROUNDS - 1:
            bench.disarm(scanned)
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
        watcher, decider, holders = SocketWatcher(all_namespaces=False), ScanDecider(rules), Holders(ROOT)
        actions, deciding, judgement = scan(watcher, decider)
        connections = [connection for action in actions for connection in action.connections]
        if len(connections) != SOCKETS:
            raise SystemExit(f"{len(connections)} sockets are to be armed, not {SOCKETS}")
        inodes = {connection.inode for connection in connections}
        finding, again = timed(holders, inodes), timed(holders, inodes)
        costs = arm(connections, judgement, actions[0].wishes[0], holders, directory)
        quiet = [(len(actions), cost) for actions, cost, _ in (scan(watcher, decider) for _ in range(SCANS))]
        idle = ScanDecider(Rules(wanted={}, on_drift=OnDrift.WARN, paths=(PATH,), ignore=(), warn_before=60.0))
        scan(watcher, idle)
        without = median(scan(watcher, idle)[1] for _ in range(SCANS))
    return show(
        f"arming {SOCKETS:,} bare sockets of {PROCESSES} processes",
        [
            Row(f"arming a socket, median of {ROUNDS} rounds", median(costs) * 1e6, "us", at_most=50),
            Row("finding all holders", finding, "s", at_most=1),
            Row("finding them again", again, "s"),
            Row("deciding at first", deciding * 1e3, "ms"),
            Row("asked for in quiet scans", sum(asked for asked, _ in quiet), at_most=0),
            Row("quiet scan / without rules", median(cost for _, cost in quiet) / without, at_most=1.5),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
