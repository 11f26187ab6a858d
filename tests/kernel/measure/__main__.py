"""Measure many times over real firewalls, and count what was found wrongly.

usage: script/measurements [--runs N] [--maps N] [--at-once N]
The output has the table of docs/paths.md. Ctrl-C prints what is known so far.
Each measurement waits most of the time, so many are made at once; only their starts keep a machine busy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from functools import partial

from tests.kernel.measure.stage import Found
from tests.kernel.measure.test_measure import STORIES, TIMEOUT
from tests.kernel.measure.test_where import CHAINS, found_over
from tests.kernel.measure.truth import Run, Truth, rows, wrong_hops

PAUSE = 5.0  # seconds between two starts

TRUTHS = {
    "drop": Truth(TIMEOUT),
    "reject": Truth(TIMEOUT, how="reset", reset_by="device"),
    "masquerade": Truth(TIMEOUT),
    "loose": Truth(TIMEOUT, revived_by=("this host",)),
    "only outbound refreshes": Truth(TIMEOUT, revived_by=(None, "this host")),
    "only data refreshes": Truth(TIMEOUT, helps=False),
    "two in a row": Truth(TIMEOUT, how="reset", reset_by="device"),
    "two by port": Truth(TIMEOUT, several_devices=True),
    "two by every second port": Truth(TIMEOUT, several_devices=True),
    "two by hash": Truth(TIMEOUT, several_devices=True),
    "outage": Truth(TIMEOUT),
    "stopped": Truth(TIMEOUT),
    "foreign": Truth(TIMEOUT),
    "foreign, closes first": Truth(closes=TIMEOUT),
}
MAPS = {f"map of {name}": devices for name, devices in CHAINS.items()}

Teller = Callable[[], Found]


def main() -> None:
    """Exit with 1 where a bracket or a map was wrong."""
    options = parser().parse_args()
    wanted = [
        *(one for _ in range(options.maps) for one in chains()),
        *(one for _ in range(options.runs) for one in stories()),
    ]
    runs: list[Run] = []
    threads = ThreadPoolExecutor(options.at_once)
    with suppress(KeyboardInterrupt):
        for run in played(wanted, threads):
            runs.append(run)
            print(f"{len(runs)} {run.name}: {_line(run)}", flush=True)
    wrong = summed_up(runs)
    os._exit(wrong)  # what an interrupted measurement has begun ends with us


def summed_up(runs: list[Run]) -> int:
    """Print the table; return 1 where a bracket or a map was wrong."""
    measured, maps = [run for run in runs if run.name in TRUTHS], [run for run in runs if run.name in MAPS]
    print(*rows(measured, TRUTHS), sep="\n")
    good = sum(not run.failed and not list(wrong_hops(MAPS[run.name], run.found)) for run in maps)
    print(f"{len(maps)} maps of {len(CHAINS)} chains: {good} right", flush=True)
    wrong = any("wrong" in TRUTHS[run.name].faults(run.found) for run in measured if not run.failed)
    return 1 if wrong or good < len(maps) else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="measurements", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=19, help="measurements of each path (default: %(default)s)")
    parser.add_argument("--maps", type=int, default=5, help="maps of each chain of hops (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=16, help="how many at the same time (default: %(default)s)")
    return parser


def stories() -> Iterator[tuple[str, Teller]]:
    """The paths to measure."""

    def tell(name: str) -> Found:
        with ExitStack() as stack:
            return STORIES[name](stack)

    yield from ((name, partial(tell, name)) for name in TRUTHS)


def chains() -> Iterator[tuple[str, Teller]]:
    """The chains of hops to map."""
    yield from ((name, partial(found_over, devices)) for name, devices in MAPS.items())


def played(wanted: list[tuple[str, Teller]], threads: ThreadPoolExecutor) -> Iterator[Run]:
    """Make these measurements, and yield each as it is done."""
    gate, ended = threading.Lock(), threading.Event()

    def tell(teller: Teller) -> tuple[Found, float]:
        with gate:
            if ended.wait(PAUSE):
                raise OSError("interrupted")
        began = time.monotonic()
        return teller(), time.monotonic() - began

    told = {threads.submit(tell, teller): name for name, teller in wanted}
    try:
        yield from (_run(told[each], each) for each in as_completed(told))
    finally:
        ended.set()
        threads.shutdown(wait=False, cancel_futures=True)


def _run(name: str, told: Future[tuple[Found, float]]) -> Run:
    try:
        return Run(name, *told.result())
    except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:  # one of many: go on
        return Run(name, {}, 0.0, failed=f"{type(error).__name__}: {error}")


def _line(run: Run) -> str:
    if run.failed:
        return f"failed: {run.failed}"
    faults = (
        [*TRUTHS[run.name].faults(run.found), *TRUTHS[run.name].untrue(run.found)]
        if run.name in TRUTHS
        else list(wrong_hops(MAPS[run.name], run.found))
    )
    ends = f"{run.found['survived']} to {run.found['forgotten']}"
    return f"{ends} in {run.took:.0f} s{''.join(f'; {fault}' for fault in faults)}"


if __name__ == "__main__":
    main()
