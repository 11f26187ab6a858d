"""Decide when to scan: at the interval, at a deadline as far as scans are cheap, or for who changed something."""

from __future__ import annotations

from keepaliveD.model.duration import FOREVER

SHORTEST_PAUSE = 0.05  # seconds between two scans
COSTS = 20  # a scan for the sake of a deadline waits so many times as long as the last one took


class ScanTimes:
    """When the next scan is due, as an instant; FOREVER before the first one has ended."""

    def __init__(self) -> None:
        self.next = FOREVER
        self._began = 0.0  # when the last scan did
        self._is_wanted = False  # soon: something was changed since it began, and somebody has ordered it

    def begin(self, now: float) -> None:
        """Take note that a scan begins."""
        self._began, self._is_wanted = now, False

    def want(self, now: float) -> None:
        """Ask for a scan that shows what was just changed: at once, or as soon as what goes on has ended."""
        self._is_wanted, self.next = True, now

    def end(self, now: float, interval: float, deadline: float = FOREVER) -> None:
        """Decide when to scan next; `interval` is seconds, `deadline` an instant at which a scan would be of use."""
        earliest = now + max(SHORTEST_PAUSE, COSTS * (now - self._began))
        wanted = earliest if self._is_wanted else max(deadline, earliest)
        self.next = min(now + interval, wanted)
