"""Play many connection lifetimes and print how many words of the daemon were not true.

usage: python -m tests.kernel.verdicts [--lifetimes N] [--seed N] [--examples N]
PYTHONPATH names another checkout whose daemon is to be judged instead.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections import Counter

from tests.kernel.verdicts.stage import Watch, play
from tests.kernel.verdicts.stories import SPAN, WALLS, plan
from tests.kernel.verdicts.table import table
from tests.kernel.verdicts.truth import NEVER, Kind, judge, timeline

RATE = 0.7  # connections a second at each firewall: fewer live at once than there are paths


def main() -> int:
    """Return 1 where a word was wrong that never may be."""
    options = parser().parse_args()
    count = -(-options.lifetimes // len(WALLS))
    span = max(SPAN, count / RATE)
    print(f"seed {options.seed}: {count * len(WALLS)} lifetimes in {span:.0f} s and a little more", flush=True)
    played = play({wall: plan(options.seed, wall, count, span) for wall in WALLS})
    judged = [each for stage in played for each in judge(stage)]
    faults = [fault for each in judged for fault in each.faults()]
    shown: Counter[Kind] = Counter()
    for fault in faults:
        shown[fault.kind] += 1
        if shown[fault.kind] <= options.examples:
            print(timeline(fault))
    print(table(judged, faults))
    print(f"the machine kept us waiting for {sum(pause.end - pause.begin for pause in played[0].pauses):.1f} s")
    late = sorted(lateness(watch) for stage in played for watch in stage.watches)
    print(f"the latest scan of each daemon came {late[0]:.2f} to {late[-1]:.2f} s late")
    return 1 if any(fault.kind in NEVER for fault in faults) else 0


def lateness(watch: Watch) -> float:
    """By how many seconds more than the interval the longest pause between two scans lasted."""
    pauses = (after.begin - before.end for before, after in itertools.pairwise(watch.scans))
    return max(pauses, default=0.0) - watch.wall.interval


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="verdicts", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lifetimes", type=int, default=2000, help="how many connections (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what they do (default: at random)")
    parser.add_argument("--examples", type=int, default=0, help="timelines of each kind to print (default: none)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
