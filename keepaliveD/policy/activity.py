"""When each connection was last seen to carry a packet that a firewall could have seen.

The kernel's ages (tcpi_last_data_sent and so on) do not show a peer's keepalive probe nor our
answer to it; only the segment counters move.
Where a system does not even tell ages, the counters alone say when something moved, and a
connection's idle time is unknown until it does.
So the memory of each socket joins both, from scan to scan, by its cookie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepaliveD.model import FOREVER
from keepaliveD.sockets import Column, Indices, SocketTable, Switch, Timer

IF_TICKING = np.full(256, np.nan)  # what to add to an expiry, by timer: nothing, or it is not known
IF_TICKING[Timer.KEEPALIVE] = 0.0

SAME_TIMER = 0.5  # seconds by which two readings of one expiry may differ


@dataclass(frozen=True, slots=True)
class Activity:
    """What is remembered of each socket, in the order of the table it was learnt from.

    Instants and durations are seconds; NaN is not known.
    """

    taken_at: float
    cookie: Column
    segments_in: Column
    segments_out: Column
    watched_since: Column  # instant of the first scan that had it, or that found it moved at a time nobody knows
    last_packet: Column  # instant, NaN until one was seen
    expires_at: Column  # instant at which the keepalive timer checks, NaN without one
    keepidle: Column  # idle time after which it probes, as far as the timer has shown
    peer_period: Column  # idle time after which the peer probes, FOREVER if it was never seen to
    survived: Column  # longest idle time after which the peer was still heard
    told: Column  # Verdict last announced, 0 for none
    told_at: Column  # instant
    armed: Column  # what was considered about arming it (policy/arming.py), 0 for nothing

    def __len__(self) -> int:
        return len(self.cookie)


def nothing_known() -> Activity:
    """The memory before the first scan."""
    none = np.empty(0)
    integers, marks = np.empty(0, np.uint64), np.empty(0, np.uint8)
    return Activity(-FOREVER, integers, integers, integers, none, none, none, none, none, none, marks, none, marks)


def observe(before: Activity, table: SocketTable, timeout: Column) -> Activity:
    """Join what a new table shows with what is remembered; rows follow the table.

    `timeout` is that of each row's path: once it has passed, only a packet from the peer proves
    that the path still knows the connection.
    """
    sockets, now = table.sockets, table.taken_at
    row, known = find(before.cookie, sockets["cookie"])

    def remembered(column: Column, default: float) -> Column:
        if isinstance(row, slice):
            return column
        return np.where(known, column[row], default) if len(column) else np.full(len(sockets), default)

    heard = known & (sockets["segments_in"] != remembered(before.segments_in, 0))
    moved = heard | (known & (sockets["segments_out"] != remembered(before.segments_out, 0)))
    watched_since = remembered(before.watched_since, now).copy()
    last_packet = remembered(before.last_packet, np.nan).copy()
    survived = remembered(before.survived, 0.0).copy()
    peer_period = remembered(before.peer_period, FOREVER).copy()

    newer = np.flatnonzero(moved | ~known)  # the rest is as it was
    heard, moved, last_before = heard[newer], moved[newer], last_packet[newer]
    ages = [sockets[age][newer] for age in ("since_sent", "since_received", "since_acked")]
    by_ages = now - np.fmin.reduce(ages).astype(np.float64)  # in single precision a year of uptime costs seconds
    unshown = moved & ~(by_ages > before.taken_at)  # so is all that moves where ages are not told
    newest = np.where(unshown, before.taken_at, by_ages)
    shown = sockets["timer"][newer] != Timer.UNSEEN.value  # else probes may have broken a silence unseen
    forgotten = shown & moved & ~heard & (newest - last_before > timeout[newer])
    last_packet[newer] = np.where(forgotten, last_before, np.fmax(newest, last_before))

    heard &= shown
    quiet_until = before.taken_at - np.fmax(last_before, watched_since[newer])
    survived[newer] = np.where(heard, np.maximum(survived[newer], quiet_until), survived[newer])
    peer_period[newer] = np.where(heard & unshown, np.fmin(now - last_before, FOREVER), peer_period[newer])
    watched_since[newer] = np.where(unshown, now, watched_since[newer])  # the packet passed at any time until now

    expires_at = now + sockets["expires"].astype(np.float64) + IF_TICKING[sockets["timer"]]
    same_timer = np.abs(expires_at - remembered(before.expires_at, np.nan)) < SAME_TIMER
    keepidle_before = np.fmax(0.0, same_timer * remembered(before.keepidle, 0.0))  # NaN turns into 0
    keepidle = np.maximum(keepidle_before, expires_at - last_packet)  # NaN, without a timer, stays NaN
    if sockets["keepidle"].any():
        told = np.where(sockets["keepalive"] == Switch.ON.value, sockets["keepidle"], np.nan)
        keepidle = np.fmax(keepidle, told)  # a timer that was armed under a longer one still runs

    return Activity(
        taken_at=now,
        cookie=sockets["cookie"],
        segments_in=sockets["segments_in"],
        segments_out=sockets["segments_out"],
        watched_since=watched_since,
        last_packet=last_packet,
        expires_at=expires_at,
        keepidle=keepidle,
        peer_period=peer_period,
        survived=survived,
        told=remembered(before.told, 0).astype(np.uint8),
        told_at=remembered(before.told_at, -FOREVER),
        armed=remembered(before.armed, 0).astype(np.uint8),
    )


def find(haystack: Column, needles: Column) -> tuple[Indices | slice, Column]:
    """Where each needle stands in the haystack (any place, if nowhere), and whether it does."""
    if np.array_equal(haystack, needles):
        return slice(None), np.ones(len(needles), np.bool_)
    if not len(haystack):
        return np.zeros(len(needles), np.intp), np.zeros(len(needles), np.bool_)
    order = np.argsort(haystack)
    place = np.searchsorted(haystack, needles, sorter=order)
    row = order[np.minimum(place, len(haystack) - 1)]
    return row, haystack[row] == needles
