"""Run the daemon, and note of each scan between which instants it read, which no log says.

usage: python -P noting.py FILE [arguments of the daemon]
A line of FILE is a scan: its begin and its end in seconds of the epoch.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from functools import partial
from typing import Any, TextIO


def main() -> None:
    """Become the daemon that PYTHONPATH names, or that is installed."""
    os.environ.update(OPENBLAS_NUM_THREADS="1")  # as the daemon does before it loads NumPy
    from keepaliveD.policy.verdicts import judge

    notes = open(sys.argv.pop(1), "w", buffering=1, encoding="ascii")  # noqa: SIM115  # as long as the daemon runs
    vars(judge).update(observe=partial(note, notes, vars(judge)["observe"]))
    runpy.run_module("keepaliveD", run_name="__main__", alter_sys=True)


def note(notes: TextIO, observe: Any, before: Any, table: Any, *others: Any) -> Any:
    """Do as judge.observe does, which is called once for each scan."""
    epoch = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    if table.taken_at:  # else it is the empty one with which the daemon begins
        notes.write(f"{epoch + table.taken_at} {epoch + table.read_by}\n")
    return observe(before, table, *others)


if __name__ == "__main__":
    main()
