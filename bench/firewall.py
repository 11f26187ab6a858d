"""What it costs a scan to ask this host's own firewall about the connections near their cut."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path as File

import numpy as np

from bench.hold import holding
from bench.rows import Row, show
from bench.scan import ROUNDS, SOCKETS, in_turns, ours
from keepaliveD.model.actions import Outcome
from keepaliveD.model.firewall import ENTRY, FLOW
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path
from keepaliveD.platforms.linux import selection
from keepaliveD.platforms.linux.bpf.conntrack import BpfConntrack
from keepaliveD.platforms.linux.reading.conntrack import nothing_faster
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.firewall import learn, to_ask
from keepaliveD.policy.verdicts.judge import judge

TRACK = "table inet track {\nchain in {\ntype filter hook input priority filter\nct state established accept\n}\n}\n"
NEAR = Path("near", 60.0, Origin(Source.CONFIGURED, "bench"))  # all of them are


def asking(load: Callable[[], BpfConntrack | None]) -> Callable[[], float]:
    """Decide whom to ask about, ask, and learn from the answers: all connections are near their cut."""
    engine, _ = selection.select_engine(selection.AUTO, File("/"), ())
    watcher = SocketWatcher(engine=engine, all_namespaces=False, load_conntrack=load)
    judgement = judge(watcher.scan(time.clock_gettime(time.CLOCK_BOOTTIME)), nothing_known(), (NEAR,), ())

    def ask() -> float:
        start = time.perf_counter()
        (action,), memory = to_ask(judgement, judgement.activity, NEAR.timeout)
        answers = watcher.ask(action.flows)
        learn(memory, Outcome(action, looked=answers))
        seconds = time.perf_counter() - start
        if not answers["found"].all():
            raise SystemExit("not all connections are tracked")
        return seconds

    return ask


def asking_about_all() -> Callable[[], float]:
    """Ask about all connections by BPF."""
    engine, _ = selection.select_engine(selection.AUTO, File("/"), ())
    sockets = SocketWatcher(engine=engine, all_namespaces=False).scan(0.0).sockets
    flows = np.zeros(len(sockets), FLOW)
    for name in FLOW.names or ():
        flows[name] = sockets[name]
    conntrack = BpfConntrack()

    def ask() -> float:
        start = time.perf_counter()
        answers = np.zeros(len(flows), ENTRY)
        conntrack.ask(flows, answers)
        seconds = time.perf_counter() - start
        if not answers["found"].all():
            raise SystemExit("not all connections are tracked")
        return seconds * SOCKETS / len(flows)

    return ask


def main() -> int:
    """Measure and show."""
    subprocess.run(["nft", "--file", "-"], input=TRACK, text=True, check=True)
    with holding(SOCKETS):
        scan, ask, ask_bpf, ask_all = in_turns(
            ours(selection.AUTO), asking(nothing_faster), asking(BpfConntrack), asking_about_all()
        )
    return show(
        f"asking this host's own firewall, {SOCKETS:,} sockets, medians of {ROUNDS} rounds",
        [
            Row("scan: receive, decode, judge", scan * 1e3, "ms"),
            Row("ask about the most urgent", ask * 1e3, "ms"),
            Row("ask / scan", ask / scan, at_most=0.05),
            Row("ask about the most urgent by BPF", ask_bpf * 1e3, "ms"),
            Row("ask by BPF / scan", ask_bpf / scan, at_most=0.05),
            Row("ask about all by BPF", ask_all * 1e3, "ms", at_most=60.0),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
