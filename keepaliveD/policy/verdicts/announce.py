"""Select the connections to log an entry about: those whose verdict changed since the last entry."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import AT_RISK, Due, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets, is_any
from keepaliveD.policy.verdicts.activity import Activity, put
from keepaliveD.policy.verdicts.forecast import Forecast

AGAIN_AFTER = 3600.0  # seconds until a connection that recovered by itself is warned of once more
PARTS = ("high", "low", "port")  # of an end, as it sorts
MOST_UNREPORTED = 255  # of a column of octets
MAY_YET_PASS = (Due.PEER, Due.END)


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
    forecast: Forecast, activity: Activity, sockets: Sockets, warn_before: float, *waiting: Bools
) -> tuple[News, Activity]:
    """Return what to report, and the memory that it was reported.

    A connection in `waiting` is not reported now: what becomes of arming it is, or what its firewall answers.
    If both ends of a connection are on this host and have the same news, one end is reported.
    """
    activity = _count_changes(forecast, activity)
    rows = np.flatnonzero(
        (forecast.cut_at <= forecast.now + warn_before) | (activity.reported != 0)
    )  # no other is news
    verdict, reported = forecast.verdict[rows], activity.reported[rows]
    at_risk = _at_risk(forecast, activity, rows)
    kept = _kept_for_good(forecast, activity, sockets, rows)
    risen = (reported == Verdict.CUT.value) & (at_risk | (verdict == Verdict.SAFE.value))
    news = (
        kept
        | risen
        | _to_warn(forecast, activity, rows, at_risk, warn_before)
        | _cut(forecast, activity, sockets, rows)
    )
    for each in waiting:
        news &= ~each[rows]
    memory = _remember(forecast, activity, rows, news, news & risen)
    rows = _one_end(rows[news], sockets, forecast.verdict)
    return News(rows, activity.reported[rows], activity.unreported[rows]), memory


def _at_risk(forecast: Forecast, activity: Activity, rows: Indices) -> Bools:
    """Return which of these rows are late or bare, and may be warned of.

    That is not so if the peer probes, as long as it may be in time and was before, when nothing else kept the
    connection. Nor is it so if the connection has not yet answered what was sent.
    """
    verdict, due = forecast.verdict[rows], forecast.due[rows]
    at_risk = (verdict == Verdict.LATE.value) | (verdict == Verdict.BARE.value)
    in_time = activity.bridged[rows] & (forecast.due_at[rows] < forecast.cut_by[rows])
    may_yet_pass = is_any(due, MAY_YET_PASS) & ((due != Due.PEER.value) | in_time)
    risky: Bools = at_risk & (forecast.confirmed[rows] | ~may_yet_pass)
    return risky


def _to_warn(forecast: Forecast, activity: Activity, rows: Indices, at_risk: Bools, warn_before: float) -> Bools:
    """Return where a warning is due: the cut is near, and this verdict was not yet reported, or long ago.

    Where `bare` was reported, `late` is no news: what switches keepalive on and off would be reported each time.
    """
    reported_at = activity.reported_at[rows]
    near = forecast.cut_at[rows] - forecast.now <= lead(forecast.timeout[rows], warn_before)
    stale = (forecast.now - reported_at >= AGAIN_AFTER) & (activity.last_packet[rows] > reported_at)
    reported, verdict = activity.reported[rows], forecast.verdict[rows]
    known = (reported == verdict) | ((reported == Verdict.BARE.value) & (verdict == Verdict.LATE.value))
    warn: Bools = at_risk & near & (~known | stale)
    return warn


def _cut(forecast: Forecast, activity: Activity, sockets: Sockets, rows: Indices) -> Bools:
    """Return which are cut and not reported yet: certainly, or presumably and what was sent since is not answered.

    One that was reported so and lived is not for an hour: its path waits for longer, and for how long is found out.
    """
    unanswered = (sockets["retransmits"][rows] != 0) | (sockets["probes"][rows] != 0)
    cut: Bools = (forecast.verdict[rows] == Verdict.CUT.value) & (forecast.confirmed[rows] | unanswered)
    cut &= activity.reported[rows] != Verdict.CUT.value
    cut &= forecast.now - activity.risen_at[rows] >= AGAIN_AFTER
    return cut


def _kept_for_good(forecast: Forecast, activity: Activity, sockets: Sockets, rows: Indices) -> Bools:
    """Return where a warning is to be taken back because probes now keep the connection alive for good.

    Their period then is shorter than the timeout, however late their timer fires. After the first time it has to have
    settled: for an hour it was not at risk. What goes to and fro is reported no more. One whose last packet is not
    answered may have been forgotten before it left.
    An interval that is not known and is longer than the idle time shows in the timer: it runs on past the idle time.
    """
    reported = activity.reported[rows]
    own = forecast.due[rows] == Due.KEEPALIVE.value
    lasting = own | (forecast.due[rows] == Due.PEER.value)
    heard = forecast.now - np.fmin(sockets["since_received"][rows], sockets["since_acked"][rows]).astype(np.float64)
    shown = activity.expires_at[rows] - heard
    interval = np.where(activity.keepintvl[rows] != 0, activity.keepintvl[rows], shown)
    period = np.where(own, np.fmax(activity.keepidle[rows], interval), activity.peer_period[rows])
    lasting &= period * (1 + TIMER_SLACK) < forecast.timeout[rows]
    lasting &= (sockets["probes"][rows] == 0) & (sockets["retransmits"][rows] == 0)
    settled = forecast.now - activity.withdrawn_at[rows] >= AGAIN_AFTER
    kept: Bools = (forecast.verdict[rows] == Verdict.SAFE.value) & forecast.confirmed[rows] & lasting
    kept &= (reported != Verdict.SAFE.value) & (reported != Verdict.UNKNOWN.value)
    kept &= settled | (reported == Verdict.CUT.value)
    return kept


def _remember(forecast: Forecast, activity: Activity, rows: Indices, news: Bools, risen: Bools) -> Activity:
    """Return the memory that these rows were reported where they are news, and what else was seen of them.

    `risen` are those of which an expiry is taken back.
    """
    verdict, now = forecast.verdict[rows], forecast.now
    unsettled = rows[
        (is_any(verdict, AT_RISK) & (activity.withdrawn_at[rows] > -FOREVER)) | (news & (verdict == Verdict.SAFE.value))
    ]
    told = rows[news]
    return dataclasses.replace(
        activity,
        reported=put(activity.reported, told, forecast.verdict[told]),
        reported_at=put(activity.reported_at, told, now),
        withdrawn_at=put(activity.withdrawn_at, unsettled, now),
        risen_at=put(activity.risen_at, rows[risen], now),
        unreported=put(activity.unreported, told, 0),
    )


def _count_changes(forecast: Forecast, activity: Activity) -> Activity:
    """Return the memory with one more change for each reported connection that came to risk, or out of it."""
    came_or_went = is_any(activity.judged, AT_RISK) != is_any(forecast.verdict, AT_RISK)
    changed = np.flatnonzero(came_or_went & (activity.reported != 0))
    counted = np.minimum(activity.unreported[changed].astype(np.uint16) + 1, MOST_UNREPORTED)
    return dataclasses.replace(activity, judged=forecast.verdict, unreported=put(activity.unreported, changed, counted))


def _one_end(rows: Indices, sockets: Sockets, verdict: Column) -> Indices:
    """Return the rows without the second end of a connection whose two ends are both among them, judged alike.

    Both ends are in one network namespace: in one of his own anybody gives himself the addresses of others.
    """
    if len(rows) < 2:
        return rows
    local, remote = ([sockets[f"{side}_{part}"][rows] for part in PARTS] for side in ("local", "remote"))
    later = np.zeros(len(rows), np.bool_)  # whether the local end sorts behind the remote one
    for one, other in reversed(list(zip(local, remote, strict=True))):
        later = (one > other) | ((one == other) & later)
    pair = [np.where(later, other, one) for one, other in zip(local + remote, remote + local, strict=True)]
    keys = [*pair, verdict[rows], sockets["netns"][rows]]
    order = np.lexsort([later, *keys])
    starts = np.ones(len(rows), np.bool_)
    starts[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    other_is_there = ~later[order][starts][np.cumsum(starts) - 1]
    return np.sort(rows[order][~(later[order] & other_is_there)])
