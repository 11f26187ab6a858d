"""When each connection last carried a packet that a firewall could have seen: the memory from scan to scan.

Such an instant is an interval, for nobody saw it. The kernel's ages (tcpi_last_data_sent and so on) show
when data or an acknowledgement passed; a peer's keepalive probe and our answer move only the segment
counters, so that they passed at some time between two scans. Where a socket's newest packet is known
(BPF reads tcp_sock.tcp_mstamp), it bounds the instant from above.
What a packet proves depends on its sender: once the path may have forgotten a connection, only a packet
from the peer shows that it has not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from keepaliveD.model.duration import FOREVER
from keepaliveD.model.sockets import Bools, Column, Indices, SocketTable, Switch, Timer

IF_TICKING = np.full(256, np.nan)  # what to add to an expiry, by timer: nothing, or it is not known
IF_TICKING[Timer.KEEPALIVE] = 0.0
HIDES_KEEPALIVE = np.zeros(256, np.bool_)  # by timer
HIDES_KEEPALIVE[[Timer.RETRANSMIT, Timer.ZERO_WINDOW]] = True

SAME_TIMER = 0.5  # seconds by which two readings of one expiry may differ
TIMER_SLACK = 8 / 63  # a timer may fire later by this part of its length: of a level's first bucket, its width
ON_THE_WAY = 0.1  # seconds that a packet takes between this host and what forgets connections


@dataclass(frozen=True, slots=True)
class Activity:
    """What is remembered of each socket, in the order of the table it was learnt from.

    Instants and durations are seconds; NaN is not known.
    """

    taken_at: float
    cookie: Column
    segments_in: Column
    segments_out: Column
    last_packet: Column  # instant after which the newest packet passed, or at it; NaN until one was seen
    last_packet_by: Column  # instant before which it passed, or at it
    expires_at: Column  # instant at which the keepalive timer checks, NaN without one
    keepidle: Column  # idle time after which it probes; as far as the timer has shown where that is not known
    knows_keepidle: Column  # whether it is known
    peer_period: Column  # seconds between the peer's probes, at most; FOREVER if no two were seen in one silence
    probed: Column  # whether the newest packet was a probe of the peer's
    survived: Column  # longest idle time, at least, after which the peer was still heard
    told: Column  # Verdict last announced, 0 for none
    told_at: Column  # instant
    withdrawn_at: Column  # instant at which a warning was last taken back
    judged: Column  # Verdict of the scan before
    unsaid: Column  # how often it went to and fro between at risk and not since then, without a word
    armed: Column  # what was considered about arming it (policy/arming.py), 0 for nothing

    def __len__(self) -> int:
        return len(self.cookie)


class Between(NamedTuple):
    """An instant of each row that nobody saw: the earliest and the latest that it can be."""

    earliest: Column
    latest: Column


COLUMNS = tuple(each.name for each in fields(Activity) if each.name != "taken_at")


def nothing_known() -> Activity:
    """Return the memory before the first scan."""
    none = np.empty(0)
    counts, marks = np.empty(0, np.uint64), np.empty(0, np.uint8)
    return Activity(
        taken_at=-FOREVER,
        cookie=counts,
        segments_in=counts,
        segments_out=counts,
        last_packet=none,
        last_packet_by=none,
        expires_at=none,
        keepidle=none,
        knows_keepidle=np.empty(0, np.bool_),
        peer_period=none,
        probed=np.empty(0, np.bool_),
        survived=none,
        told=marks,
        told_at=none,
        withdrawn_at=none,
        judged=marks,
        unsaid=marks,
        armed=marks,
    )


def observe(before: Activity, table: SocketTable, timeout: Column) -> Activity:
    """Join what a new table shows with what is remembered; rows follow the table.

    `timeout` is that of each row's path, in seconds.
    """
    memory = _recall(before, table)
    return _learn_timers(_learn_packets(memory, table, timeout), table)


def heard_at(table: SocketTable) -> Column:
    """Return the instant of the newest data or acknowledgement from the peer, which the keepalive timer counts from.

    Source: keepalive_time_elapsed, include/net/tcp.h. A peer's probe is neither.
    """
    ages = np.fmin(table.sockets["since_received"], table.sockets["since_acked"])
    instant: Column = table.taken_at - ages.astype(np.float64)  # in single precision a year of uptime costs seconds
    return instant


def _recall(before: Activity, table: SocketTable) -> Activity:
    """Return what is remembered of this table's sockets; a new one has cookie 0, which no socket has."""
    cookies = table.sockets["cookie"]
    row, known = find(before.cookie, cookies)
    if isinstance(row, slice):
        return before
    nothing = {"last_packet": np.nan, "last_packet_by": np.nan, "expires_at": np.nan, "keepidle": np.nan}
    nothing |= {"peer_period": FOREVER, "told_at": -FOREVER, "withdrawn_at": -FOREVER}
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        column: Column = getattr(before, name)
        default = column.dtype.type(nothing.get(name, 0))
        columns[name] = np.where(known, column[row], default) if len(column) else np.full(len(cookies), default)
    return replace(before, **columns)


def _learn_packets(memory: Activity, table: SocketTable, timeout: Column) -> Activity:
    """Place the newest packet of the rows that are new or moved, and learn from how long they were silent."""
    sockets, start = table.sockets, memory.taken_at
    known = memory.cookie == sockets["cookie"]
    heard = known & (sockets["segments_in"] != memory.segments_in)
    moved = heard | (known & (sockets["segments_out"] != memory.segments_out))
    rows = np.flatnonzero(moved | ~known)  # the others are as they were
    shows_probes = sockets["timer"] != Timer.UNSEEN.value
    last, by = memory.last_packet.copy(), memory.last_packet_by.copy()
    survived, period, was_probed = memory.survived.copy(), memory.peer_period.copy(), memory.probed.copy()

    before, shown = Between(last[rows], by[rows]), _shown(table, rows, known[rows])
    hidden = moved[rows] & ~(shown.earliest > start)  # no age shows it: a probe of the peer's, and our answer
    earliest = np.where(hidden, start, shown.earliest)
    heard, proves = heard[rows], shows_probes[rows]
    probed = hidden & heard & proves
    if probed.any():
        probes = sockets["segments_in"][rows] - memory.segments_in[rows].astype(np.uint32)
        several = probed & (was_probed[rows] | (probes > 1))  # the first one comes after another time than the next
        rhythm = _rhythm(period[rows], probes, start, before, shown.latest)
        period[rows] = np.where(several, rhythm, period[rows])
        earliest = np.where(several, np.fmax(earliest, shown.latest - rhythm * (1 + TIMER_SLACK)), earliest)
    was_probed[rows] = probed

    survived[rows] = np.where(heard & proves, np.fmax(survived[rows], start - before.latest), survived[rows])
    ours = moved[rows] & ~heard & proves
    several = sockets["segments_out"][rows] - memory.segments_out[rows].astype(np.uint32) > 1
    first = np.where(several, start, earliest)  # of the packets since the scan before, the newest is not the only one
    lost = ours & (first > before.latest + timeout[rows] + ON_THE_WAY)
    last[rows], by[rows] = _joined(before, Between(earliest, shown.latest), ours, lost)
    if table.asleep:
        by = np.fmax(by, table.read_by)  # a peer's packets refreshed the path while this host slept
    if not shows_probes.all():
        by = np.where(shows_probes, by, table.read_by)  # probes may pass at any time
    return replace(
        memory,
        taken_at=table.taken_at,
        cookie=sockets["cookie"],
        segments_in=sockets["segments_in"],
        segments_out=sockets["segments_out"],
        last_packet=last,
        last_packet_by=by,
        survived=survived,
        peer_period=period,
        probed=was_probed,
    )


def _shown(table: SocketTable, rows: Indices, known: Bools) -> Between:
    """Return the instants between which the newest packet passed, by what this table alone shows of these rows.

    At a first look at a socket whose peer answers nothing, what we sent proves nothing.
    """
    sockets = table.sockets
    sent = sockets["since_sent"][rows]
    unanswered = ~known & ((sockets["retransmits"][rows] != 0) | (sockets["probes"][rows] != 0))
    if unanswered.any():
        sent = np.where(unanswered, np.float32(np.nan), sent)
    ages = np.fmin(np.fmin(sockets["since_received"][rows], sockets["since_acked"][rows]), sent)
    earliest = table.taken_at - table.asleep - ages.astype(np.float64)
    latest = table.read_by - np.fmax(sockets["since_packet"][rows], 0.0).astype(np.float64)  # unknown: just now
    return Between(earliest, np.fmax(latest, earliest))


def _rhythm(known: Column, probes: Column, start: float, before: Between, latest: Column) -> Column:
    """Return the time between the peer's probes, at most, by how many came since `start`.

    Between the first and the last of several there were that many less one; a single one came after the
    probe before. A silence that is longer than the known rhythm ends it. The first probe after data comes
    sooner, or after the same time: the period is the longer of the peer's idle time and interval.
    """
    several = (latest - start) / np.maximum(probes.astype(np.float64) - 1, 1)
    at_most = np.where(probes > 1, several, latest - before.earliest)
    ended = start - before.latest > known * (1 + TIMER_SLACK)
    period: Column = np.where(ended, at_most, np.fmin(known, at_most))
    return np.fmin(period, FOREVER)


def _joined(before: Between, newest: Between, ours: Bools, lost: Bools) -> Between:
    """Return between which instants the newest packet passed that the path let through.

    What we sent and nobody has answered yet may have been lost on the way; what left after the path had
    forgotten the connection was.
    """
    return Between(
        np.where(ours & ~np.isnan(before.earliest), before.earliest, np.fmax(newest.earliest, before.earliest)),
        np.where(lost, before.latest, newest.latest),
    )


def _learn_timers(memory: Activity, table: SocketTable) -> Activity:
    """Learn the idle time after which each socket probes.

    BPF reads it. Else the timer shows it in time: the longest distance from the last packet heard to the
    expiry, while that is the same; and exactly where a check has just found nothing new and set the timer
    to the rest.
    """
    sockets, earlier = table.sockets, memory.expires_at + table.asleep  # no timer runs while the machine sleeps
    ticking = table.taken_at + sockets["expires"].astype(np.float64) + IF_TICKING[sockets["timer"]]
    overdue = (sockets["expires"] == 0) & (earlier <= ticking)  # since when, only the memory knows
    ticking = np.where(overdue, earlier, ticking)
    if sockets["keepidle"].any():
        on = sockets["keepalive"] == Switch.ON.value
        keepidle = np.where(on, sockets["keepidle"], np.nan)
        return replace(memory, expires_at=ticking, keepidle=keepidle, knows_keepidle=on)
    heard = heard_at(table)
    length = ticking - heard
    same = np.abs(ticking - earlier) < SAME_TIMER
    checked = ~same & (heard <= earlier) & (sockets["probes"] == 0) & ~np.isnan(ticking)
    keepidle = np.where(same, np.fmax(memory.keepidle, length), length)
    hidden = HIDES_KEEPALIVE[sockets["timer"]]
    return replace(
        memory,
        expires_at=np.where(hidden, earlier, ticking),
        keepidle=np.where(hidden, memory.keepidle, keepidle),
        knows_keepidle=np.where(same | hidden, memory.knows_keepidle, checked),
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
