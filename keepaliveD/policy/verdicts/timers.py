"""When the keepalive timer of each socket checks, and what that shows of its idle time and interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.sockets import Column, Indices, SocketTable, Switch, Timer
from keepaliveD.policy.verdicts.activity import Activity
from keepaliveD.policy.verdicts.packets import heard_at

SAME_TIMER = 0.5  # seconds by which two readings of one expiry may differ


def learn(memory: Activity, table: SocketTable) -> Activity:
    """Learn the idle time after which each socket probes, and keep the interval.

    BPF reads both. Else the timer shows it in time: the longest distance from the last packet heard to the
    expiry, while that is the same; and exactly where a check has just found nothing new and set the timer
    to the rest. A program that switches keepalive on sets it to more. What is known stays known while only the
    kernel sets the timer, which it does when it fires, and the setting of the network namespace stays: which
    sockets follow that is not shown.
    """
    sockets, earlier = table.sockets, memory.expires_at + table.asleep  # no timer runs while the machine sleeps
    ends = table.taken_at + sockets["expires"].astype(np.float64)
    ticking = np.where(sockets["timer"] == Timer.KEEPALIVE.value, ends, np.nan)
    overdue = np.flatnonzero((sockets["expires"] == 0) & (earlier <= ticking))
    ticking[overdue] = _overdue_since(memory, table, overdue)
    if sockets["keepidle"].any():
        on = sockets["keepalive"] == Switch.ON.value
        keepidle = np.where(on, sockets["keepidle"], np.nan)
        never = np.broadcast_to(np.nan, len(sockets))  # nor asked for: the engine reads how late the timer may fire
        interval = sockets["keepintvl"]
        return replace(
            memory, expires_at=ticking, set_at=never, keepidle=keepidle, knows_keepidle=on, keepintvl=interval
        )
    heard = heard_at(table)
    length = ticking - heard
    same = np.abs(ticking - earlier) < SAME_TIMER
    fired = (earlier <= table.read_by) & ~np.isnan(ticking)
    checked = ~same & fired & (heard + table.reading <= earlier) & (sockets["probes"] == 0)
    checked[overdue] = False
    hidden = (sockets["timer"] == Timer.RETRANSMIT.value) | (sockets["timer"] == Timer.ZERO_WINDOW.value)
    by_kernel = same | hidden | fired
    if table.changed_idle_time:
        by_kernel &= ~np.isin(sockets["netns"], table.changed_idle_time)
    known = memory.knows_keepidle & by_kernel & ~checked
    shown = np.where(same, np.fmax(memory.keepidle, length), length)
    shown[overdue] = memory.keepidle[overdue]
    return replace(
        memory,
        expires_at=np.where(hidden, earlier, ticking),
        set_at=np.where(same | hidden, memory.set_at + table.asleep, np.where(fired, earlier, np.nan)),
        keepidle=np.where(known | hidden, memory.keepidle, shown),
        knows_keepidle=known | checked,
        keepintvl=memory.keepintvl * by_kernel,
        asked=memory.asked & by_kernel,
    )


def _overdue_since(memory: Activity, table: SocketTable, rows: Indices) -> Column:
    """Return when the timers of these rows ended, which were due but have not fired: only the memory knows.

    If the one that it knows must have fired since, nobody does; then it ended now, at the latest, or when the idle time
    was over, unless it was set to a longer interval.
    """
    earlier, set_at = memory.expires_at[rows] + table.asleep, memory.set_at[rows] + table.asleep
    slack = table.sockets["slack"][rows].astype(np.float64)
    slack = np.where(np.isnan(slack), (earlier - set_at) * TIMER_SLACK, slack)
    keepidle = memory.keepidle[rows]
    interval = np.maximum(table.sockets["keepintvl"][rows], memory.keepintvl[rows])
    known = memory.knows_keepidle[rows] & (interval <= keepidle)
    idle_over = heard_at(table, rows) + np.where(known, keepidle, np.nan)
    at_the_latest = np.fmin(table.taken_at, idle_over)
    since: Column = np.where(earlier + slack < table.taken_at, at_the_latest, earlier)
    return since
