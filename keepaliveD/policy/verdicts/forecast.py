"""When the next packet of each connection leaves, when its path forgets it, and what comes first.

Both are intervals, for the newest packet and the timers are known only between two instants. A verdict is
certain (`confirmed`) if it holds for all values in between; else it is what is likely, and says so.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import Due, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets, SocketTable, Switch, Timer
from keepaliveD.policy.verdicts.activity import Activity, Between
from keepaliveD.policy.verdicts.packets import JIFFY, ON_THE_WAY, heard_at
from keepaliveD.policy.verdicts.paths import Assigned

SAME_PACKET = 0.5  # seconds by which two readings of one instant may differ

APART = 1 / 4  # of a timeout: what the clock shows so much later than the ages do was a packet

ANSWERED = 1.0  # seconds in which an answer comes, as a rule

FIRST_WAIT = (
    0.2  # seconds from data to its first retransmission, at least (TCP_RTO_MIN); each wait is twice the one before
)
MOST_DOUBLED = 9  # of these waits: then one would exceed TCP_RTO_MAX
NEARLY = 0.9  # of a user timeout: retransmissions that began so long ago, at least, presumably began earlier
HANGS_AFTER = 20.0  # seconds without an answer: losses and changes of routes are over by then, as a rule
SHORTEST_WAIT = 0.001  # seconds until data is sent again for the first time: as shipped 0.2, but it may be set
RESENT_FOR = 924.6  # seconds for which data is sent again as shipped (tcp_retries2 = 15, tcp_model_timeout)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The outlook of every socket of a table, in its order. Instants and durations are seconds."""

    now: float
    verdict: Column  # Verdict
    due: Column  # Due: what the next packet will be
    due_at: Column  # instant, at the earliest, or that of Due.END; FOREVER if nothing is due
    cut_at: Column  # instant, at the earliest that is likely; NaN if no timeout is known, or no idle time
    cut_by: Column  # instant, at the latest
    timeout: Column  # that after which it is forgotten, or the longer idle time that it was seen to survive
    by_firewall: Bools  # whether this host's own firewall forgets it first
    confirmed: Bools  # false for a verdict that holds only for some of the values that the facts allow


def forecast(table: SocketTable, activity: Activity, assigned: Assigned) -> Forecast:
    """Judge every socket: what comes next, when its path forgets it, and what comes first."""
    cut = _cut(activity, assigned)
    probed = _clocked(table, activity, cut.timeout) | _just_probed(table, activity, cut.at)
    if assigned.only_data is not None:
        probed &= ~assigned.only_data
    ends = np.where(probed, cut.by, cut.at)
    coming = _probe(table, activity, assigned)
    _put_pending(coming, table, assigned)
    given_up = _given_up(table, activity)
    _put_end(coming, table, given_up)
    verdict = _verdict(table.taken_at, cut, ends, coming, given_up)
    _put_unseen(verdict, table, assigned, cut, coming)
    unsure = _unsure(table.taken_at, verdict, cut, coming, activity.probed)
    if assigned.only_data is not None:  # what is sent again may have counted already
        unsure |= (verdict == Verdict.SAFE.value) & assigned.only_data & (cut.timeout != FOREVER)
    unsure |= (verdict == Verdict.SAFE.value) & _may_be_forgotten_here(table, activity, coming)
    unsure |= cut.by_firewall & activity.picks_up & (verdict >= Verdict.LATE.value) & (verdict != Verdict.BARE.value)
    return Forecast(table.taken_at, verdict, coming.due, coming.at, ends, cut.by, cut.timeout, cut.by_firewall, ~unsure)


class _Coming(NamedTuple):
    """The next packet of each connection; its columns are filled one after the other."""

    due: Column  # Due
    at: Column  # instant, at the earliest; FOREVER if nothing is due
    by: Column  # instant, at the latest
    likely_by: Column
    sure: Bools  # whether it is known


def _probe(table: SocketTable, activity: Activity, assigned: Assigned) -> _Coming:
    """Return what the keepalive timer or the peer's rhythm promises.

    On a path that counts only data no probe counts, whoever sends it.
    """
    own_at, own_by = _own_probe(table, activity)
    if assigned.only_data is not None:
        own_at, own_by = (np.where(assigned.only_data, np.nan, instant) for instant in (own_at, own_by))
    peer_at, peer_by = np.full(len(table), FOREVER), np.full(len(table), FOREVER)
    rows = np.flatnonzero(activity.peer_period < FOREVER)
    by = activity.beat_by[rows] + activity.peer_period[rows] * (1 + TIMER_SLACK)
    rows, by = rows[by >= table.taken_at], by[by >= table.taken_at]
    peer_at[rows], peer_by[rows] = activity.beat[rows] + activity.peer_period[rows], by

    due = np.full(len(table.sockets), Due.NOTHING, np.uint8)
    due[rows] = Due.PEER
    _put(due, Due.KEEPALIVE, own_at < peer_at)
    return _Coming(
        due,
        at=np.fmin(peer_at, own_at),  # which pass over NaN
        by=np.fmin(peer_by, own_by),
        likely_by=np.fmin(peer_at, own_by),  # a probe came through after such a silence before
        sure=np.where(due == Due.KEEPALIVE.value, activity.knows_keepidle, ~activity.grew | (due != Due.PEER.value)),
    )


def _put_pending(coming: _Coming, table: SocketTable, assigned: Assigned) -> None:
    """Put a pending retransmit or zero-window probe in the place of what else is promised."""
    sockets = table.sockets
    for timer, what in ((Timer.RETRANSMIT, Due.RETRANSMIT), (Timer.ZERO_WINDOW, Due.ZERO_WINDOW)):
        pending = sockets["timer"] == timer
        if timer is Timer.ZERO_WINDOW and assigned.only_data is not None:
            pending &= ~assigned.only_data  # which carries none
        if pending.any():
            coming.due[pending], coming.sure[pending] = what, True
            coming.at[pending] = table.taken_at + sockets["expires"][pending].astype(np.float64)
            coming.by[pending] = coming.likely_by[pending] = coming.at[pending]


def _put_end(coming: _Coming, table: SocketTable, given_up: _GivenUp) -> None:
    """Put the end in the place of the next packet where the kernel gives a connection up."""
    likely = given_up.likely
    coming.due[likely] = Due.END
    coming.at[likely] = table.taken_at + given_up.within
    coming.sure[given_up.perhaps] = False


def _verdict(now: float, cut: _Cut, ends: Column, coming: _Coming, given_up: _GivenUp) -> Column:
    """Return the likely verdict.

    A packet that may be due just when the path forgets may come too late, and so may one whose timer may fire late.
    A probe of ours that has only just left, and in time, is presumed to be answered. What the kernel is to give up is
    not safe.
    """
    verdict = np.full(len(ends), Verdict.BARE, np.uint8)
    _put(verdict, Verdict.LATE, coming.due != Due.NOTHING.value)
    _put(verdict, Verdict.SAFE, (coming.likely_by < ends) | (cut.timeout == FOREVER))
    verdict[given_up.likely] = Verdict.LATE
    _put(verdict, Verdict.CUT, now >= ends)
    _put(verdict, Verdict.UNKNOWN, np.isnan(cut.at) & (cut.timeout != FOREVER))
    return verdict


def _put_unseen(verdict: Column, table: SocketTable, assigned: Assigned, cut: _Cut, coming: _Coming) -> None:
    """Leave open what a system shows neither timers nor probes of, unless its keepalive is known to be off.

    It is neither bare nor cut then; and the peer may still probe, so that such a cut is never certain.
    """
    unseen = table.sockets["timer"] == Timer.UNSEEN.value
    if not unseen.any():
        return
    nothing = (table.sockets["keepalive"] != Switch.OFF.value) & (coming.due == Due.NOTHING.value)
    nothing &= cut.timeout != FOREVER
    if assigned.only_data is not None:
        nothing &= ~assigned.only_data
    _put(verdict, Verdict.UNKNOWN, unseen & nothing)


def _unsure(now: float, verdict: Column, cut: _Cut, coming: _Coming, probed: Bools) -> Bools:
    """Return which verdicts do not hold for all values that the facts allow.

    A peer that was seen to probe may always do so sooner: it is at most so late. It may answer before its connection
    is given up.
    """
    unsure: Bools = (verdict == Verdict.CUT.value) & ~(now >= cut.by)
    unsure |= (verdict == Verdict.SAFE.value) & ~(coming.sure & (coming.by < cut.at)) & (cut.timeout != FOREVER)
    certain = coming.sure & (coming.at >= cut.by) & (coming.due != Due.PEER.value) & (coming.due != Due.END.value)
    unsure |= (verdict == Verdict.LATE.value) & ~certain
    at_risk = (verdict == Verdict.LATE.value) | (verdict == Verdict.BARE.value)
    unsure |= at_risk & (probed | (now >= cut.at))
    return unsure


def _may_be_forgotten_here(table: SocketTable, activity: Activity, coming: _Coming) -> Bools:
    """Return which connections this host's own firewall may forget before, at an instant that nobody knows.

    It had no entry of them: a policy may give a connection less time than the setting does, and may have been over.
    Or it was not asked about them since they are new or its setting has changed, and that is too short for them.
    """
    unknown = activity.firewall_timeout == FOREVER
    if table.firewall_timeout < FOREVER:
        in_time = coming.by < activity.last_packet + table.firewall_timeout - ON_THE_WAY
        unknown |= np.isnan(activity.firewall_timeout) & ~in_time
    may_be: Bools = unknown & np.isnan(activity.firewall_forgets_at)
    return may_be


class _Cut(NamedTuple):
    """When each connection is forgotten: see the columns of Forecast."""

    at: Column
    by: Column
    timeout: Column
    by_firewall: Bools


def _cut(activity: Activity, assigned: Assigned) -> _Cut:
    """Return when the path forgets each connection, or this host's own firewall, whichever does so first.

    What the firewall said counts until a packet passes; from then on, its idle timeout alone.
    A packet of this end that is not answered may have put off what it said.
    """
    timeout = np.maximum(assigned.timeout, activity.survived)
    at = activity.last_packet + timeout - ON_THE_WAY
    by = activity.last_packet_by + timeout + ON_THE_WAY
    said = activity.firewall_forgets_at
    here_at = np.fmax(said, activity.last_packet + activity.firewall_timeout)  # which pass over NaN
    by_firewall = (here_at < at) & (activity.survived_here < here_at - activity.last_packet)
    if not by_firewall.any():
        return _Cut(at, by, timeout, by_firewall)
    here_by = np.fmin(activity.firewall_forgets_by, activity.last_packet_by + activity.firewall_timeout)
    here = np.where(np.isnan(activity.firewall_timeout), here_at - activity.last_packet, activity.firewall_timeout)
    at, by = np.where(by_firewall, here_at, at), np.where(by_firewall, np.fmin(here_by, by), by)
    return _Cut(at, by, np.where(by_firewall, here, timeout), by_firewall)


def _own_probe(table: SocketTable, activity: Activity) -> Between:
    """Return the instants between which the next keepalive probe of this end leaves; NaN without keepalive.

    The timer checks when it fires: a probe leaves if the peer was not heard for the idle time, else the
    timer is set to the rest (tcp_keepalive_timer, net/ipv4/tcp_timer.c). Each may fire late, and one that is
    overdue fires from now on. Its row was read until the end of the scan, so that it may fire so much later.
    """
    heard, checks = heard_at(table), activity.expires_at
    idle_over = heard + activity.keepidle
    slack = table.sockets["slack"].astype(np.float64)
    unknown = np.isnan(slack)
    if unknown.any():
        slack = np.where(unknown, _length(activity, heard) * TIMER_SLACK, slack)
    rest = np.fmax(idle_over - np.fmax(checks, table.taken_at), 0.0)  # also without keepalive
    at = np.fmax(idle_over, checks)
    by = np.fmax(idle_over, checks + slack) + rest * TIMER_SLACK + table.reading
    return Between(at, by)


def _length(activity: Activity, heard: Column) -> Column:
    """Return how long each timer runs at most.

    A probe sets it to the interval, a check to what is left of the idle time. What was heard since then makes it look
    shorter than it is: where the interval is not known, only the instant at which it was set bounds it.
    """
    shown = np.fmax(activity.keepidle, activity.expires_at - heard)
    since_set = activity.expires_at - activity.set_at
    bounded = (activity.keepintvl != 0) | np.isnan(since_set)
    return np.where(bounded, np.fmin(np.fmax(shown, activity.keepintvl), since_set), since_set)


class _GivenUp(NamedTuple):
    """The rows of connections that the kernel ends unless the peer answers before, and within how many seconds.

    Either when their timer next fires, or later, because what is sent has not been answered for so long.
    """

    likely: Indices
    within: Column
    perhaps: Indices  # these, and others


def _given_up(table: SocketTable, activity: Activity) -> _GivenUp:
    """Find the connections that their TCP_USER_TIMEOUT ends next, or their number of probes; and those that hang.

    Of keepalive probes, TCP_USER_TIMEOUT counts from the newest packet of the peer's; of retransmissions and
    zero-window probes, from the first of them, which is not shown. Not every engine reads it.
    Sources: tcp_keepalive_timer, tcp_write_timeout and tcp_probe_timer in net/ipv4/tcp_timer.c.
    """
    sockets = table.sockets
    closed = sockets["timer"] == Timer.ZERO_WINDOW.value
    rows = np.flatnonzero((sockets["retransmits"] != 0) | (sockets["probes"] != 0) | closed)
    if not len(rows):
        return _GivenUp(rows, np.zeros(0), rows)
    those = sockets.select(rows)
    probing = (those["timer"] == Timer.KEEPALIVE.value) & (those["probes"] != 0)
    resending = (those["timer"] == Timer.RETRANSMIT.value) & (those["retransmits"] != 0)
    limit = those["user_timeout"] / 1000
    limited, expires = limit != 0, those["expires"].astype(np.float64)

    silent = np.fmin(those["since_received"], those["since_acked"]) + expires
    counted = (those["keepcnt"] != 0) & (those["probes"] >= those["keepcnt"])
    gives_up = np.where(limited, silent >= limit, counted)
    late = np.where(limited, silent + np.fmax(those["slack"], 0) + JIFFY >= limit, counted)

    resent_for = FIRST_WAIT * (2.0 ** np.minimum(those["retransmits"], MOST_DOUBLED) - 2)
    over = resent_for + those["since_sent"] + expires >= limit * NEARLY

    next_time = (probing & gives_up) | (resending & limited & over)
    unanswered = _unanswered_for(those, activity.keepintvl[rows])
    likely = next_time | (unanswered >= HANGS_AFTER)
    within = np.where(next_time, expires, np.fmax(expires, _left_until_end(those, unanswered)))
    perhaps = likely | (probing & late) | ((resending | closed[rows]) & limited)
    perhaps |= (probing | resending | closed[rows]) & (those["keepidle"] == 0)  # its settings are not read
    return _GivenUp(rows[likely], within[likely], rows[perhaps])


def _unanswered_for(sockets: Sockets, keepintvl: Column) -> Column:
    """Return for how many seconds at least the peer has answered nothing, 0 where that is not known.

    Each wait for an answer to data is twice the one before, until it is the longest that the program or the system
    allows (TCP_RTO_MAX_MS); those for answers to keepalive probes are equal. Of zero-window probes, the answer to the
    last one may be on its way. Data that this host drops itself stays unsent, and is tried again by the same timer.
    """
    heard = np.fmin(sockets["since_received"], sockets["since_acked"]).astype(np.float64)
    since_sent, expires = sockets["since_sent"].astype(np.float64), sockets["expires"].astype(np.float64)
    closed = (sockets["timer"] == Timer.ZERO_WINDOW.value) & (sockets["probes"] > 1)
    unsent = closed & (since_sent < heard)  # a closed window lets no data through
    last, times = since_sent + expires, np.where(unsent, sockets["probes"], sockets["retransmits"]).astype(np.float64)
    doubled = np.fmin(times, np.log2(np.fmax(last / SHORTEST_WAIT, 1.0)))
    waited = last * (1 - 0.5**doubled + times - doubled)
    resending = (sockets["timer"] == Timer.RETRANSMIT.value) & (sockets["retransmits"] != 0)
    probing = (sockets["timer"] == Timer.KEEPALIVE.value) & (sockets["probes"] != 0) & (sockets["keepcnt"] != 0)
    unanswered = np.zeros(len(sockets))
    np.copyto(unanswered, sockets["probes"] * keepintvl - expires, where=probing)
    np.copyto(unanswered, heard, where=closed)
    np.copyto(unanswered, since_sent + waited, where=resending | unsent)
    return np.clip(unanswered, 0.0, heard)


def unanswered_after(sockets: Sockets, keepintvl: Column) -> Column:
    """Return the silence after which the first packet left that is not answered, at most; FOREVER if not known."""
    heard = np.fmin(sockets["since_received"], sockets["since_acked"]).astype(np.float64)
    unanswered = _unanswered_for(sockets, keepintvl)
    return np.where(unanswered > 0, heard - unanswered, FOREVER)


def _left_until_end(sockets: Sockets, unanswered: Column) -> Column:
    """Return in how many seconds the kernel ends what hangs, if nobody has changed how long data is sent again."""
    probing = sockets["timer"] == Timer.KEEPALIVE.value
    more = np.fmax(sockets["keepcnt"].astype(np.float64) - sockets["probes"], 0.0)
    probed = sockets["expires"] + more * sockets["keepintvl"]
    left: Column = np.where(probing, probed, RESENT_FOR - unanswered)
    return left


def _clocked(table: SocketTable, activity: Activity, timeout: Column) -> Bools:
    """Return of which sockets the kernel's clock of packets shows a probe of the peer's that no age shows.

    The clock also moves, a little later than the packets, when the program reads what came or the keepalive
    timer checks; and with what we send to a peer that answers nothing any more. A timer that ends when the idle
    time since the newest packet heard is over was set by such a check. It stands still with the ages while the
    machine sleeps: only what it shows later than they do was a packet.
    """
    sockets = table.sockets
    answered = (sockets["retransmits"] == 0) & (sockets["probes"] == 0)
    seen_at = table.read_by - sockets["since_packet"].astype(np.float64)  # NaN, where it is not known, is no instant
    by_the_clock = np.abs(seen_at - activity.last_packet_by) < SAME_PACKET
    apart = activity.last_packet_by - activity.last_packet > timeout * APART
    rows = np.flatnonzero(answered & by_the_clock & apart)
    since_heard = activity.expires_at[rows] - heard_at(table, rows)
    rows = rows[~(np.abs(since_heard - activity.keepidle[rows]) < SAME_PACKET)]  # by no such check
    ages = (sockets[name][rows] for name in ("since_sent", "since_received", "since_acked"))
    later = functools.reduce(np.fmin, ages) - sockets["since_packet"][rows] > timeout[rows] * APART
    clocked = np.zeros(len(sockets), np.bool_)
    clocked[rows[later]] = True
    return clocked


def _just_probed(table: SocketTable, activity: Activity, cut_at: Column) -> Bools:
    """Return which sockets have sent their first probe in time, and so lately that an answer may be on its way.

    The timer that sent it was set to the interval then, which is not always known; else it left after the instant
    at which that timer was due, and after the idle time was over, and at now at the latest.
    """
    sockets, now = table.sockets, table.taken_at
    first: Bools = (sockets["probes"] == 1) & (sockets["timer"] == Timer.KEEPALIVE.value)
    rows = np.flatnonzero(first)
    interval = activity.keepintvl[rows]
    known, age = interval != 0, interval - sockets["expires"][rows].astype(np.float64)
    idle_over = heard_at(table, rows) + activity.keepidle[rows]
    left_after = np.fmax(activity.set_at[rows], np.where(activity.knows_keepidle[rows], idle_over, np.nan))
    at_most, at_least = np.where(known, age, now - left_after), np.where(known, age, 0.0)
    first[rows] = (at_most < ANSWERED) & (now - at_least < cut_at[rows])
    return first


def _put(column: Column, value: int, where: Bools) -> None:
    """`column[where] = value` for small integers, without a branch.

    Verdicts follow each other without order, so that a processor mispredicts every second branch.
    """
    column ^= (column ^ np.uint8(value)) * where
