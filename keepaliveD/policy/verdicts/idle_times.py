"""Which idle times and intervals to read from the sockets, once each: sock_diag shows when a timer ends, and no more.

Those of sockets that were armed are known, because they were set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keepaliveD.model.actions import Outcome, ReadIdleTimes
from keepaliveD.model.arming import TARGET, Access
from keepaliveD.model.connections import Due
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.sockets import Indices, Timer
from keepaliveD.policy.verdicts import turns
from keepaliveD.policy.verdicts.activity import Activity, find
from keepaliveD.policy.verdicts.announce import lead
from keepaliveD.policy.verdicts.connections import column
from keepaliveD.policy.verdicts.judge import Judgement

LEADS = 2  # before the cut: as many times the lead of a warning, so that a scan comes in between
MOST = 1024  # sockets at one scan, the most urgent of each user first


def to_read(judgement: Judgement, activity: Activity, warn_before: float) -> tuple[list[ReadIdleTimes], Activity]:
    """Return whose settings to read now, and the memory of it: where the verdict hangs on it and a warning is near."""
    rows = _candidates(judgement, activity, warn_before)
    if not len(rows):
        return [], activity
    left = judgement.forecast.cut_at[rows] - judgement.forecast.now
    urgent = bool((left <= lead(judgement.forecast.timeout[rows], warn_before)).any())
    asked = activity.asked.copy()
    asked[rows] = True
    sockets = judgement.table.sockets
    targets = np.zeros(len(rows), TARGET)
    for name in TARGET.names or ():
        targets[name] = sockets[name][rows]
    return [ReadIdleTimes(targets, sockets["cgroup"][rows], urgent)], dataclasses.replace(activity, asked=asked)


def _candidates(judgement: Judgement, activity: Activity, warn_before: float) -> Indices:
    sockets, forecast = judgement.table.sockets, judgement.forecast
    unknown = ~activity.knows_keepidle | ((activity.keepintvl == 0) & ~forecast.confirmed)
    rows = np.flatnonzero((sockets["timer"] == Timer.KEEPALIVE.value) & unknown & ~activity.asked)
    left = forecast.cut_at[rows] - forecast.now
    near = left <= LEADS * lead(forecast.timeout[rows], warn_before)
    near &= (forecast.due[rows] == Due.KEEPALIVE.value) & (sockets["inode"][rows] != 0)
    rows, left = rows[near], left[near]
    return rows[turns.first(left, turns.owners(judgement.table, rows), MOST)]


def learn(memory: Activity, outcome: Outcome) -> Activity:
    """Return the memory with the idle times and intervals that were read."""
    action, looked = outcome.action, outcome.looked
    if not isinstance(action, ReadIdleTimes) or looked is None:
        return memory
    read = (looked["access"] == Access.DONE.value) & (looked["stands"][:, 3] != 0)
    if not read.any():
        return memory
    place, known = find(action.targets["cookie"][read], memory.cookie)
    stands = looked["stands"][read][place]
    return dataclasses.replace(
        memory,
        keepidle=np.where(known, stands[:, 0], memory.keepidle),
        knows_keepidle=memory.knows_keepidle | known,
        keepintvl=np.where(known, stands[:, 1].astype(np.uint32), memory.keepintvl),
    )


def learn_armed(memory: Activity, armings: Sequence[Arming]) -> Activity:
    """Return the memory with what was set; setting an idle time has set the timer since the scan."""
    armed = [arming for arming in armings if arming.result is ArmingResult.ARMED and arming.after]
    if not armed:
        return memory
    cookies = np.concatenate([column(arming.connections, "cookie") for arming in armed])
    times = [(arming.after.times.idle, arming.after.times.interval) for arming in armed if arming.after]
    place, known = find(cookies, memory.cookie)
    set_to = np.repeat(np.array(times, np.uint32), [len(arming.connections) for arming in armed], axis=0)[place]
    return dataclasses.replace(
        memory,
        keepidle=np.where(known, set_to[:, 0].astype(np.float64), memory.keepidle),
        knows_keepidle=memory.knows_keepidle | known,
        keepintvl=np.where(known, set_to[:, 1], memory.keepintvl),
        expires_at=np.where(known, memory.taken_at, memory.expires_at),
        set_at=np.where(known, memory.taken_at, memory.set_at),
    )
