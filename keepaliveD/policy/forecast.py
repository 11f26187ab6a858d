"""When the next packet of each connection leaves, when its path forgets it, and what comes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepaliveD.model import FOREVER, Due, Verdict
from keepaliveD.policy.activity import Activity
from keepaliveD.policy.paths import Assigned
from keepaliveD.sockets import Bools, Column, SocketTable, Switch, Timer

TIMER_SLACK = 1 / 8  # a timer may fire later by this part of its length (kernel/time/timer.c, the wheel)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The outlook of every socket of a table, in its order. Instants and durations are seconds."""

    now: float
    verdict: Column  # Verdict
    due: Column  # Due: what the next packet will be
    due_at: Column  # instant, FOREVER if nothing is due
    cut_at: Column  # instant, NaN if no timeout is known, or no idle time
    timeout: Column  # the path's, or the longer idle time that the connection was seen to survive
    confirmed: Bools  # false for a `cut` that packets from before the watch may refute


def forecast(table: SocketTable, activity: Activity, assigned: Assigned) -> Forecast:
    """Judge every socket.

    The next packet is a pending retransmit or zero-window probe; else what the keepalive timer or
    the peer's rhythm promises.
    A packet that is due just when the path forgets comes too late, and so does one whose timer may
    fire late.
    Where a system shows neither timers nor probes, a connection is neither bare nor cut unless its
    keepalive is known to be off; and the peer may still probe, so that such a cut is never certain.
    """
    sockets, now = table.sockets, table.taken_at
    timeout = np.maximum(assigned.timeout, activity.survived)
    cut_at = activity.last_packet + timeout

    peer_at = activity.last_packet + activity.peer_period
    peer_at = np.where((peer_at >= now) & (peer_at < cut_at), peer_at, FOREVER)
    keepalive_at = activity.last_packet + activity.keepidle  # NaN without one, which fmin passes over
    due_at = np.fmin(peer_at, keepalive_at)
    latest = np.fmin(peer_at, keepalive_at + activity.keepidle * TIMER_SLACK)

    due = np.full(len(sockets), Due.NOTHING, np.uint8)
    _put(due, Due.PEER, peer_at < FOREVER)
    _put(due, Due.KEEPALIVE, keepalive_at < peer_at)

    for timer, what in ((Timer.RETRANSMIT, Due.RETRANSMIT), (Timer.ZERO_WINDOW, Due.ZERO_WINDOW)):
        pending = sockets["timer"] == timer
        due[pending] = what
        due_at[pending] = latest[pending] = now + sockets["expires"][pending].astype(np.float64)

    verdict = np.full(len(sockets), Verdict.BARE, np.uint8)
    _put(verdict, Verdict.LATE, due != Due.NOTHING.value)
    _put(verdict, Verdict.SAFE, (latest < cut_at) | (timeout == FOREVER))
    _put(verdict, Verdict.CUT, now >= cut_at)
    _put(verdict, Verdict.UNKNOWN, np.isnan(cut_at) & (timeout != FOREVER))

    watched = (activity.watched_since <= activity.last_packet) | (now - activity.watched_since >= timeout)
    unseen = sockets["timer"] == Timer.UNSEEN.value
    if unseen.any():
        nothing = (sockets["keepalive"] != Switch.OFF.value) & (due == Due.NOTHING.value) & (timeout != FOREVER)
        _put(verdict, Verdict.UNKNOWN, unseen & nothing)
        watched &= ~unseen
    return Forecast(now, verdict, due, due_at, cut_at, timeout, watched | (verdict != Verdict.CUT.value))


def _put(column: Column, value: int, where: Bools) -> None:
    """`column[where] = value` for small integers, without a branch.

    Verdicts follow each other without order, so that a processor mispredicts every second branch.
    """
    column ^= (column ^ np.uint8(value)) * where
