"""Which connections deserve a word now: those whose outlook changed since they were last spoken of."""

from __future__ import annotations

import dataclasses

import numpy as np

from keepaliveD.model import Due, Verdict
from keepaliveD.policy.activity import Activity
from keepaliveD.policy.forecast import Forecast
from keepaliveD.sockets import Bools, Column, Indices

AGAIN_AFTER = 3600.0  # seconds until a connection that recovered by itself is warned of once more


def lead(timeout: Column, warn_before: float) -> Column:
    """How long before the cut a warning is due: `warn_before`, but never more than half the timeout."""
    earliest: Column = np.minimum(warn_before, timeout / 2)
    return earliest


def choose(
    forecast: Forecast, activity: Activity, warn_before: float, being_armed: Bools | None = None
) -> tuple[Indices, Activity]:
    """Rows to announce, and the memory that they were announced.

    Nobody is warned of those that are being armed now: what comes of that is told anyway.
    A warning is due when the cut is near and this verdict was not yet told, or long ago.
    A cut is told once, as soon as it is certain.
    A recovery is told once: when a packet passed after all, or when something now keeps the
    connection alive for good.
    """
    now = forecast.now
    rows = np.flatnonzero((forecast.cut_at <= now + warn_before) | (activity.told != 0))  # nobody else can be news
    verdict, told, told_at = forecast.verdict[rows], activity.told[rows], activity.told_at[rows]
    at_risk = (verdict == Verdict.LATE.value) | (verdict == Verdict.BARE.value)
    near = forecast.cut_at[rows] - now <= lead(forecast.timeout[rows], warn_before)
    stale = (now - told_at >= AGAIN_AFTER) & (activity.last_packet[rows] > told_at)
    warn = at_risk & near & ((told != verdict) | stale)

    cut = (verdict == Verdict.CUT.value) & forecast.confirmed[rows] & (told != Verdict.CUT.value)

    lasting = (forecast.due[rows] == Due.KEEPALIVE.value) | (forecast.due[rows] == Due.PEER.value)
    kept = (verdict == Verdict.SAFE.value) & lasting & (told != Verdict.SAFE.value) & (told != Verdict.UNKNOWN.value)
    risen = (told == Verdict.CUT.value) & (at_risk | (verdict == Verdict.SAFE.value))

    news = warn | cut | kept | risen
    if being_armed is not None:
        news &= ~being_armed[rows]
    rows = rows[news]
    told, told_at = activity.told.copy(), activity.told_at.copy()
    told[rows], told_at[rows] = forecast.verdict[rows], now
    return rows, dataclasses.replace(activity, told=told, told_at=told_at)
