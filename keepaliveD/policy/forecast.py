"""When the next packet of each connection leaves, when its path forgets it, and what comes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepaliveD.model import FOREVER, Bools, Column, Due, SocketTable, Timer, Verdict
from keepaliveD.policy.activity import Activity
from keepaliveD.policy.paths import Assigned

TIMER_SLACK = 1 / 8  # a timer may fire later by this part of its length (kernel/time/timer.c, the wheel)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The outlook of every socket of a table, in its order. Instants and durations are seconds."""

    now: float
    verdict: Column  # Verdict
    due: Column  # Due: what the next packet will be
    due_at: Column  # instant, FOREVER if nothing is due
    cut_at: Column  # instant, NaN if no timeout is known
    timeout: Column  # the path's, or the longer idle time that the connection was seen to survive
    confirmed: Bools  # false for a `cut` that packets from before the watch may refute


def forecast(table: SocketTable, activity: Activity, assigned: Assigned) -> Forecast:
    """Judge every socket.

    The next packet is a pending retransmit or zero-window probe; else what the keepalive timer or
    the peer's rhythm promises.
    A packet that is due just when the path forgets comes too late, and so does one whose timer may
    fire late.
    """
    sockets, now = table.sockets, table.taken_at
    timeout = np.maximum(assigned.timeout, activity.survived)
    cut_at = activity.last_packet + timeout

    due = np.zeros(len(sockets), np.uint8)
    due_at = np.full(len(sockets), FOREVER)
    latest = np.full(len(sockets), FOREVER)

    peer_at = activity.last_packet + activity.peer_period
    by_peer = (peer_at >= now) & (peer_at < cut_at)
    due[by_peer], due_at[by_peer], latest[by_peer] = Due.PEER, peer_at[by_peer], peer_at[by_peer]

    keepalive_at = activity.last_packet + activity.keepidle
    first = keepalive_at < due_at
    due[first], due_at[first] = Due.KEEPALIVE, keepalive_at[first]
    latest[first] = np.minimum(latest, keepalive_at + activity.keepidle * TIMER_SLACK)[first]

    for timer, what in ((Timer.RETRANSMIT, Due.RETRANSMIT), (Timer.ZERO_WINDOW, Due.ZERO_WINDOW)):
        pending = sockets["timer"] == timer
        due[pending] = what
        due_at[pending] = latest[pending] = now + sockets["expires"][pending].astype(np.float64)

    verdict = np.full(len(sockets), Verdict.BARE, np.uint8)
    verdict[due != Due.NOTHING] = Verdict.LATE
    verdict[latest < cut_at] = Verdict.SAFE
    verdict[cut_at == FOREVER] = Verdict.SAFE
    verdict[now >= cut_at] = Verdict.CUT
    verdict[np.isnan(cut_at)] = Verdict.UNKNOWN

    watched = (activity.first_seen <= activity.last_packet) | (now - activity.first_seen >= timeout)
    return Forecast(now, verdict, due, due_at, cut_at, timeout, watched | (verdict != Verdict.CUT))
