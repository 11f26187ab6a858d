"""What a scan costs a socket, from few sockets to many, and what the bare dump does."""

from __future__ import annotations

import contextlib
import sys

from bench.hold import holding
from bench.rows import Row, show
from bench.scan import ROUNDS, floor, in_turns, ours
from keepaliveD.platforms.linux.selection import NETLINK

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
FROM, TO = 10_000, 100_000


def main() -> int:
    """Measure while ever more are held, and show."""
    costs: dict[int, tuple[float, float]] = {}
    with contextlib.ExitStack() as stack:
        dump, scan = stack.enter_context(floor()), ours(NETLINK)
        for size in SIZES:
            stack.enter_context(holding(size - max(costs, default=0)))
            us, least = in_turns(scan, dump)
            costs[size] = us * 1e6 / size, least * 1e6 / size
    growth, floor_growth = (many / few for many, few in zip(costs[TO], costs[FROM], strict=True))
    return show(
        f"cost of a scan by number of sockets, medians of {ROUNDS} rounds",
        [
            *(Row(f"ours, a socket of {size:,}", us, "us") for size, (us, _) in costs.items()),
            *(Row(f"floor, a socket of {size:,}", least, "us") for size, (_, least) in costs.items()),
            Row(f"ours: of {TO:,} / of {FROM:,}", growth),
            Row(f"floor: of {TO:,} / of {FROM:,}", floor_growth),
            Row("growth of ours / of floor", growth / floor_growth, at_most=1.25),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
