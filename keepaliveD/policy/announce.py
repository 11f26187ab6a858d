"""Select the connections to log an entry about: those whose verdict changed since the last entry."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import AT_RISK, Due, Verdict
from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets
from keepaliveD.policy.activity import Activity
from keepaliveD.policy.forecast import Forecast

AGAIN_AFTER = 3600.0  # seconds until a connection that recovered by itself is warned of once more
PARTS = ("high", "low", "port")  # of an end, as it sorts
MOST_UNREPORTED = 255  # of a column of octets
RISKY = np.zeros(256, np.bool_)  # by Verdict
RISKY[[int(verdict) for verdict in AT_RISK]] = True
MAY_YET_PASS = np.zeros(256, np.bool_)  # by Due
MAY_YET_PASS[[Due.PEER, Due.END]] = True


class News(NamedTuple):
    """The rows to report, the verdict last reported of each, and how often it changed since without a report."""

    rows: Indices
    before: Column
    unreported: Column


def lead(timeout: Column, warn_before: float) -> Column:
    """Return how long before the cut a warning is due: `warn_before`, but never more than half the timeout."""
    earliest: Column = np.minimum(warn_before, timeout / 2)
    return earliest


def select_news(
    forecast: Forecast, activity: Activity, sockets: Sockets, warn_before: float, being_armed: Bools | None = None
) -> tuple[News, Activity]:
    """Return what to report, and the memory that it was reported.

    A connection that is being armed now is not reported: the result of arming is.
    A warning is due when the cut is near and this verdict was not yet reported, or long ago. It is not due if the
    peer probes, as long as it may be in time: the peer has, as often as it was heard. Nor is it due if the connection
    has not yet answered what was sent.
    A cut is reported once: as soon as it is certain, or presumed and what was sent since is not answered.
    A recovery is reported once an hour at most: when a packet passed after all, or when probes now keep the connection
    alive for good: their period is shorter than the timeout, however late their timer fires. A connection that goes to
    and fro is then reported no more.
    If both ends of a connection are on this host and have the same news, one end is reported.
    """
    now = forecast.now
    activity = _count_changes(forecast, activity)
    rows = np.flatnonzero((forecast.cut_at <= now + warn_before) | (activity.reported != 0))  # nobody else can be news
    verdict, reported, reported_at = forecast.verdict[rows], activity.reported[rows], activity.reported_at[rows]
    at_risk = (verdict == Verdict.LATE.value) | (verdict == Verdict.BARE.value)
    in_time = (forecast.due[rows] != Due.PEER.value) | (forecast.due_at[rows] < forecast.cut_by[rows])
    at_risk &= forecast.confirmed[rows] | ~(MAY_YET_PASS[forecast.due[rows]] & in_time)
    near = forecast.cut_at[rows] - now <= lead(forecast.timeout[rows], warn_before)
    stale = (now - reported_at >= AGAIN_AFTER) & (activity.last_packet[rows] > reported_at)
    warn = at_risk & near & ((reported != verdict) | stale)

    unanswered = (sockets["retransmits"][rows] != 0) | (sockets["probes"][rows] != 0)
    cut = (verdict == Verdict.CUT.value) & (forecast.confirmed[rows] | unanswered) & (reported != Verdict.CUT.value)

    own = forecast.due[rows] == Due.KEEPALIVE.value
    lasting = own | (forecast.due[rows] == Due.PEER.value)
    period = np.where(own, np.fmax(activity.keepidle[rows], sockets["keepintvl"][rows]), activity.peer_period[rows])
    lasting &= period * (1 + TIMER_SLACK) < forecast.timeout[rows]
    kept = (
        (verdict == Verdict.SAFE.value)
        & lasting
        & (reported != Verdict.SAFE.value)
        & (reported != Verdict.UNKNOWN.value)
    )
    kept &= forecast.confirmed[rows]
    kept &= (now - activity.withdrawn_at[rows] >= AGAIN_AFTER) | (reported == Verdict.CUT.value)
    risen = (reported == Verdict.CUT.value) & (at_risk | (verdict == Verdict.SAFE.value))

    news = warn | cut | kept | risen
    if being_armed is not None:
        news &= ~being_armed[rows]
    withdrawn = rows[news & kept]
    rows = rows[news]
    reported, reported_at, withdrawn_at = (
        activity.reported.copy(),
        activity.reported_at.copy(),
        activity.withdrawn_at.copy(),
    )
    unreported = activity.unreported.copy()
    reported[rows], reported_at[rows], withdrawn_at[withdrawn], unreported[rows] = forecast.verdict[rows], now, now, 0
    memory = dataclasses.replace(
        activity, reported=reported, reported_at=reported_at, withdrawn_at=withdrawn_at, unreported=unreported
    )
    rows = _one_end(rows, sockets, forecast.verdict)
    return News(rows, activity.reported[rows], activity.unreported[rows]), memory


def _count_changes(forecast: Forecast, activity: Activity) -> Activity:
    """Return the memory with one more change for each reported connection that came to risk, or out of it."""
    changed = (RISKY[activity.judged] != RISKY[forecast.verdict]) & (activity.reported != 0)
    unreported = np.minimum(activity.unreported.astype(np.uint16) + changed, MOST_UNREPORTED).astype(np.uint8)
    return dataclasses.replace(activity, judged=forecast.verdict, unreported=unreported)


def _one_end(rows: Indices, sockets: Sockets, verdict: Column) -> Indices:
    """Return the rows without the second end of a connection whose two ends are both among them, judged alike."""
    if len(rows) < 2:
        return rows
    local, remote = ([sockets[f"{side}_{part}"][rows] for part in PARTS] for side in ("local", "remote"))
    later = np.zeros(len(rows), np.bool_)  # whether the local end sorts behind the remote one
    for one, other in reversed(list(zip(local, remote, strict=True))):
        later = (one > other) | ((one == other) & later)
    pair = [np.where(later, other, one) for one, other in zip(local + remote, remote + local, strict=True)]
    keys = [*pair, verdict[rows]]
    order = np.lexsort([later, *keys])
    starts = np.ones(len(rows), np.bool_)
    starts[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    other_is_there = ~later[order][starts][np.cumsum(starts) - 1]
    return np.sort(rows[order][~(later[order] & other_is_there)])
