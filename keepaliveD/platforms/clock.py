"""The clock of all instants."""

from __future__ import annotations

import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # a firewall's clock runs on while this host sleeps


def now() -> float:
    """Return the instant, in seconds."""
    return time.clock_gettime(CLOCK)
