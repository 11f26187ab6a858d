"""Which units have connections at risk, of one scan, without a look at any process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keepaliveD.model.connections import Verdict, grouping_unit
from keepaliveD.model.snapshot import AtRisk
from keepaliveD.policy.verdicts.connections import order_of_urgency
from keepaliveD.policy.verdicts.judge import Judgement

MOST = 100  # units and verdicts that are told


def at_risk(judgement: Judgement, units: Mapping[int, str]) -> tuple[AtRisk, ...]:
    """Return the connections at risk by unit and verdict, the most urgent first; without a unit, by user.

    `units` are those of cgroups. Times are seconds from the scan.
    """
    sockets, forecast = judgement.table.sockets, judgement.forecast
    rows = order_of_urgency(judgement, at_risk_only=True)
    cgroups, number = np.unique(sockets["cgroup"][rows], return_inverse=True)
    user, verdict = sockets["uid"][rows].astype(np.uint64), forecast.verdict[rows].astype(np.uint64)
    kind = (number.astype(np.uint64) << np.uint64(35)) | (user << np.uint64(3)) | verdict
    _, first, which, counts = np.unique(kind, return_index=True, return_inverse=True, return_counts=True)
    sure = np.bincount(which, ~forecast.confirmed[rows], len(first)) == 0
    left = forecast.cut_at[rows] - forecast.now
    found: dict[tuple[str, int, int], AtRisk] = {}
    for each in np.argsort(first).tolist():
        row = first[each]
        unit = grouping_unit(units.get(int(cgroups[number[row]]), ""))
        key = unit, 0 if unit else int(user[row]), int(verdict[row])
        one = AtRisk(*key[:2], Verdict(key[2]), int(counts[each]), bool(sure[each]), float(left[row]))
        before = found.get(key)
        found[key] = one if before is None else before.with_others(one)
    units_first = sorted(found, key=lambda key: not key[0])  # of users there may be any number
    kept = set(units_first[:MOST])
    return tuple(one for key, one in found.items() if key in kept)
