"""What keepalive settings mean for real connections: arithmetic, for `keepalivectl check`."""

from __future__ import annotations

import math

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import MAX_IDLE, TIMER_SLACK, Keepalive

PROBE_BYTES = 54 + 12  # Ethernet, IPv4 and TCP headers, and TCP timestamps; an answer has as many
ENOUGH = 2  # probes that should fit before a path forgets, so that one may be lost


@dataclass(frozen=True, slots=True)
class Meaning:
    """Seconds after the last packet, if not said otherwise; each may come later by the timers' slack."""

    first_probe: float
    first_probe_latest: float
    last_probe: float  # of a series that nobody answers
    dead_after: float  # when a dead peer is noticed
    outage: float  # seconds without any packet that an idle connection survives, whenever they begin
    period: float  # seconds between probes that are answered


def explain(keepalive: Keepalive) -> Meaning:
    """Return what the settings mean.

    The outage that is survived for certain begins just before a first probe: any of the probes
    that follow, the last of them at (probes - 1) x interval, may still be answered.
    The period is that of net/ipv4/tcp_timer.c, which probes at the interval until answered.
    """
    rest = (keepalive.probes - 1) * keepalive.interval
    return Meaning(
        first_probe=keepalive.idle,
        first_probe_latest=keepalive.idle * (1 + TIMER_SLACK),
        last_probe=keepalive.idle + rest,
        dead_after=keepalive.idle + keepalive.probes * keepalive.interval,
        outage=rest,
        period=max(keepalive.idle, keepalive.interval),
    )


def probes_before(keepalive: Keepalive, timeout: float) -> float:
    """Return how many probes certainly leave before a path forgets, each as late as its timer allows."""
    if timeout == FOREVER:
        return FOREVER
    room = timeout / (1 + TIMER_SLACK) - keepalive.idle
    return min(keepalive.probes, math.ceil(room / keepalive.interval)) if room > 0 else 0


def fits(times: Keepalive, timeout: float) -> bool:
    """Return whether a path with this timeout sees a probe in time, each as late as its timer allows.

    Answered probes come at the longer of idle time and interval (net/ipv4/tcp_timer.c).
    """
    return timeout == FOREVER or max(times.idle, times.interval) * (1 + TIMER_SLACK) < timeout


def longest(timeout: float) -> int:
    """Return the longest time in whole seconds that fits a path with this timeout; 0 where none does."""
    bound = min(timeout / (1 + TIMER_SLACK), 2.0 * MAX_IDLE)
    return max(0, int(bound) - (bound == int(bound)))


def traffic(keepalive: Keepalive, sockets: int) -> tuple[float, float]:
    """Return packets and bits a second for that many idle connections, probes and answers together."""
    packets = 2 * sockets / explain(keepalive).period
    return packets, packets * PROBE_BYTES * 8
