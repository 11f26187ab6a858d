"""usage: script/torture [--seed SEED] [--short] [KIND]...        (default: the whole of all kinds)

Prints what each kind came to, and ends with status 1 if anything failed, or nothing was tried.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time

from tests.torture.kind import HEADING, torture
from tests.torture.kinds import KINDS


def main() -> int:
    """Run what was asked for."""
    names = [kind.name for kind in KINDS]
    parser = argparse.ArgumentParser(prog="script/torture", description="Torture the daemon, and count what it did.")
    parser.add_argument("kinds", metavar="KIND", nargs="*", choices=[*names, []], help=f"of {', '.join(names)}")
    parser.add_argument("--seed", help="one case of one kind, as a failure names it")
    parser.add_argument("--short", action="store_true", help="the cases that the test suite runs")
    options = parser.parse_args()
    chosen = [kind for kind in KINDS if not options.kinds or kind.name in options.kinds]
    if options.seed and len(chosen) != 1:
        parser.error("a seed is that of one kind: name it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is under way is ended as by SIGINT
    tallies = []
    for kind in chosen:
        tallies.append(torture(kind, short=options.short, only=options.seed or ""))
        print(tallies[-1], flush=True)
    print(f"\n{machine()}\n\n{HEADING}")
    print("\n".join(map(str, tallies)))
    return int(any(tally.failures or not tally.cases for tally in tallies))


def machine() -> str:
    """Where and when it ran."""
    cores, python = os.cpu_count(), platform.python_version()
    return (
        f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()} {platform.machine()}, {cores} cores, Python {python}"
    )


if __name__ == "__main__":
    sys.exit(main())
