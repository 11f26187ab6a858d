"""The shortest silences in which paths forgot connections, by peer: the newest end may have come after a longer one."""

from __future__ import annotations

import math

import numpy as np

from keepaliveD.model.causes import Cause
from keepaliveD.model.sockets import Column

MOST = 1024  # peers that are remembered
FORGETFUL = (Cause.MIDDLEBOX_IDLE.value, Cause.SILENT_AFTER_IDLE.value)
BY = ("netns", "uid", "remote_high", "remote_low")  # anybody gives an address to a host of his own, in a namespace


class Silences:
    """The shortest one of each peer, of the same user in the same network namespace; of too many, the last ones."""

    def __init__(self) -> None:
        self._shortest: dict[tuple[int, ...], float] = {}

    def learn(self, ended: Column, causes: Column) -> None:
        """Take in ends with their causes."""
        forgotten = ended[np.isin(causes, FORGETFUL) & (ended["silence"] > 0)]
        for peer, silence in zip(forgotten[list(BY)].tolist(), forgotten["silence"].tolist(), strict=True):
            self._shortest[peer] = min(silence, self._shortest.pop(peer, math.inf))
        for oldest in list(self._shortest)[: max(0, len(self._shortest) - MOST)]:
            del self._shortest[oldest]

    def shortest(self, ended: Column, row: int) -> float:
        """Return that with the peer of an end, in seconds; NaN where none is known."""
        return self._shortest.get(ended[list(BY)][row].item(), math.nan)
