"""What it costs to count silences and deaths of a path, and to conclude its idle timeout from them."""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np

from bench.rows import Row, show
from keepaliveD.config.catalogue import catalogue
from keepaliveD.policy.timeouts.path_evidence import Events, estimate, nothing_known, observe

EVENTS, PATHS, ROUNDS = 100_000, 8, 25


def main() -> int:
    """Measure and show."""
    rng = np.random.default_rng(1)
    events = Events(
        rng.integers(0, PATHS, EVENTS),
        np.exp(rng.normal(3, 1.5, EVENTS)),
        rng.random(EVENTS) < 0.05,
        rng.integers(0, 1000, EVENTS, np.uint64),
    )
    products = [preset.timeout for preset in catalogue().values()]
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        estimate(observe(nothing_known(PATHS), events), products)
        took.append(time.perf_counter() - start)
    return show(
        f"evidence of {EVENTS:,} events on {PATHS} paths, median of {ROUNDS} rounds",
        [Row("count and conclude", median(took) * 1e3, "ms", at_most=50)],
    )


if __name__ == "__main__":
    sys.exit(main())
