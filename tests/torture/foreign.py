"""Somebody else who sets the keepalive sysctls, as sysctl(8) does: usage: foreign.py RECORDS [MOMENT KEY VALUE]...

Prints "ready" and waits for a line, then writes each value at its moment: so many seconds later, or, with an `r`
before the number, so many seconds after something next changes in the directory RECORDS.
Says of each write: KEY VALUE BEFORE AFTER, with the time (of the epoch) before and after it.
"""

import os
import sys
import time

PATIENCE = 1.0  # seconds to wait for a change of the records


def version(directory: str) -> list[tuple[str, int, int]]:
    """Changes with every file that is made, written, replaced or removed in there."""
    try:
        with os.scandir(directory) as files:
            return sorted((file.name, file.inode(), file.stat().st_mtime_ns) for file in files)
    except FileNotFoundError:
        return []


def await_change(directory: str) -> None:
    """Return as soon as something changes, or never will."""
    before, deadline = version(directory), time.monotonic() + PATIENCE
    while version(directory) == before and time.monotonic() < deadline:
        time.sleep(0.00005)


def main() -> None:
    """Write all."""
    records, plan = sys.argv[1], sys.argv[2:]
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.monotonic()
    for moment, key, value in zip(plan[::3], plan[1::3], plan[2::3], strict=True):
        if moment.startswith("r"):
            await_change(records)
            time.sleep(float(moment[1:]))
        else:
            time.sleep(max(0.0, begin + float(moment) - time.monotonic()))
        with open(f"/proc/sys/{key.replace('.', '/')}", "w", encoding="ascii") as file:
            before = time.time()
            file.write(f"{value}\n")
            file.flush()
            print(key, value, before, time.time(), flush=True)


if __name__ == "__main__":
    main()
