"""Ends of connections that wait until they are old enough to be judged."""

from __future__ import annotations

from collections import deque

import numpy as np

from keepaliveD.model.sockets import Column


class Waiting:
    """Keeps records (bpf.deaths.RECORD) in the pieces in which they came: of thousands nothing is moved meanwhile."""

    def __init__(self) -> None:
        self._pieces: deque[Column] = deque()  # none is empty; each is in the order of its ends

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    @property
    def first(self) -> int | None:
        """Return when the first of them ended, in nanoseconds; None if none waits."""
        return min((int(piece["ended_at"][0]) for piece in self._pieces), default=None)

    def add(self, records: Column) -> None:
        """Take in what came."""
        if len(records):
            ended_at = records["ended_at"].copy()
            in_order = bool((ended_at[1:] >= ended_at[:-1]).all())
            self._pieces.append(records if in_order else records[np.argsort(ended_at, kind="stable")])

    def note(self, afterwards: dict[int, int]) -> None:
        """Note how many packets came after the end of these cookies."""
        cookies = list(afterwards)
        for piece in self._pieces if cookies else ():
            rows = np.flatnonzero(np.isin(piece["cookie"], cookies))
            piece["afterwards"][rows] = [afterwards[cookie] for cookie in piece["cookie"][rows].tolist()]

    def take(self, until: float, most: int) -> list[Column]:
        """Return those that ended by this instant, in nanoseconds, and the oldest while more than `most` are left."""
        ripe = [int(np.searchsorted(piece["ended_at"], until, side="right")) for piece in self._pieces]
        taken = [piece[:count] for piece, count in zip(self._pieces, ripe, strict=True) if count]
        left = [piece[count:] for piece, count in zip(self._pieces, ripe, strict=True)]
        self._pieces = deque(piece for piece in left if len(piece))
        while (over := len(self) - most) > 0:
            piece = self._pieces.popleft()
            taken.append(piece[:over])
            if len(piece) > over:
                self._pieces.appendleft(piece[over:])
        return taken
