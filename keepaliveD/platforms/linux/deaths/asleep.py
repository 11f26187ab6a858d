"""Adds to silences the time for which the machine was suspended: the kernel's ages do not count it, a firewall does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keepaliveD.model.sockets import Column, Floats
from keepaliveD.platforms import clock
from keepaliveD.platforms.linux.deaths.resets import CLOCK

SHORTEST = 1.0  # seconds; less is no suspension, but two clocks that were not read at the same instant
SOON = 2.0  # seconds within which an end is seen after its first unanswered packet, where a reset answers that
MOST = 64  # suspensions that are remembered, the newest


class Nap(NamedTuple):
    """A suspension: between two looks at the clocks, by CLOCK_MONOTONIC, which stood still for so many seconds."""

    earliest: float
    latest: float
    length: float


class Asleep:
    """Remembers when the machine was suspended, as far as somebody has looked at the clocks."""

    def __init__(self) -> None:
        """Begin now."""
        self._naps: tuple[Nap, ...] = ()
        self._slept = clock.slept()
        self._looked_at = clock.now() - self._slept

    def look(self) -> None:
        """Note whether the machine was suspended since the last time."""
        slept = clock.slept()
        looked_at = clock.now() - slept
        if slept - self._slept >= SHORTEST:
            self._naps = (*self._naps, Nap(self._looked_at, looked_at, slept - self._slept))[-MOST:]
        self._slept, self._looked_at = slept, looked_at

    def lengthen(self, rows: Column) -> None:
        """Add each suspension to the silences of these rows of DEATH that it fell into.

        Where it may as well have been before or after the silence, that is unknown (NaN), unless it is longer anyway.
        """
        if not self._naps or not len(rows):
            return
        silence = rows["silence"].astype(np.float64)
        behind = rows["ended_at"] - self._slept - _after_silence(rows)
        before = behind - silence
        for nap in self._naps:
            inside = (before <= nap.earliest + CLOCK) & (behind >= nap.latest - SOON)
            perhaps = ~inside & (before <= nap.latest) & (behind >= nap.earliest) & (rows["silence"] < nap.length)
            silence += np.where(inside, nap.length, np.where(perhaps, np.nan, 0.0))
        rows["silence"] = silence


def _after_silence(rows: Column) -> Floats:
    """Return how long before its end the silence of each connection ended, in seconds."""
    heard = np.fmin(np.fmin(rows["since_acked"], rows["since_received"]), rows["since_peer_probe"])
    by_fin = (rows["error"] == 0) & ~np.isnan(rows["since_fin"])
    since: Floats = np.where(by_fin, rows["since_fin"], np.maximum(heard - rows["silence"], 0.0))
    return since
