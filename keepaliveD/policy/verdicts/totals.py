"""Count the connections of one scan: by what they have in common, and by the time that they have left."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.snapshot import LEFT, Kind, Left, Totals
from keepaliveD.model.sockets import Column, Sockets, Switch, Timer
from keepaliveD.policy.verdicts.forecast import Forecast
from keepaliveD.policy.verdicts.judge import Judgement

KEEPALIVE = (Shown.OFF, Shown.ON, Shown.HIDDEN)
OFF, ON, HIDDEN = range(len(KEEPALIVE))


def totals(judgement: Judgement) -> Totals:
    """Count the connections of a scan."""
    table, assigned = judgement.table, judgement.assigned
    verdict = assigned.index.astype(np.intp) * len(Verdict) + judgement.forecast.verdict
    kind = verdict * len(KEEPALIVE) + _keepalive(table.sockets)
    numbers = np.bincount(kind, minlength=len(assigned.paths) * len(Verdict) * len(KEEPALIVE)).tolist()
    kinds = itertools.product([path.name for path in assigned.paths], Verdict, KEEPALIVE)
    by_kind: Counter[Kind] = Counter()
    for names, number in zip(kinds, numbers, strict=True):
        by_kind[Kind(*names)] += number
    return Totals(table.taken_at, by_kind, _left(judgement.forecast), table.namespaces, table.is_whole)


def _keepalive(sockets: Sockets) -> Column:
    """Return whether keepalive is on, as an index into KEEPALIVE: what the engine read, or else the timer shows."""
    switch, timer = sockets["keepalive"], sockets["timer"]
    untold = switch == Switch.UNKNOWN.value
    shown = np.full(len(sockets), HIDDEN, np.intp)
    shown[(switch == Switch.ON.value) | (untold & (timer == Timer.KEEPALIVE.value))] = ON
    shown[(switch == Switch.OFF.value) | (untold & (timer == Timer.OFF.value))] = OFF
    return shown


def _left(forecast: Forecast) -> Left:
    """Return how soon paths forget the connections at risk; one that is cut has 0 s left."""
    left = np.fmax(forecast.cut_at[forecast.verdict >= Verdict.LATE.value] - forecast.now, 0.0)
    left = left[np.isfinite(left)]
    within = np.searchsorted(np.sort(left), LEFT, side="right")
    return Left(tuple(within.tolist()), len(left), round(float(left.sum()), 3))
