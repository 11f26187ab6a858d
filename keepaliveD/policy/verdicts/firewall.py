"""Whom to ask this host's own firewall about, and what its answers prove.

It says exactly when it forgets a connection, and so when the newest packet passed: a peer's probe shows there, which
no age of the socket does. It is asked once in a silence, and only about connections that are new, of which a warning is
near, or about which somebody wants to know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.actions import AskFirewall, Outcome
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.firewall import FLOW, Tracked
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets
from keepaliveD.policy.verdicts import turns
from keepaliveD.policy.verdicts.activity import Activity, Between, Consulted, put
from keepaliveD.policy.verdicts.announce import lead
from keepaliveD.policy.verdicts.forecast import Forecast
from keepaliveD.policy.verdicts.judge import Judgement

ROUNDED = 1.0  # seconds by which it may forget later than it says
LEADS = 2  # before the cut: as many times the lead of a warning, so that a scan comes in between
FEW, PART = 32, 2000  # at one scan: so many connections, or one of so many: at most 5 % of what the scan costs
ROOM = 8  # times as many are looked at, the most urgent of each user

FULL, RECOVERED = 0.9, 0.8  # shares of what it can track: from one on it is nearly full, below the other no more
PAUSE = 3600.0  # seconds between reports of other network namespaces, of which anybody may make some that are full


def to_ask(judgement: Judgement, activity: Activity, warn_before: float) -> tuple[list[AskFirewall], Activity]:
    """Return what to ask now, and the memory that it was asked."""
    if judgement.table.firewall_timeout == FOREVER:
        return [], activity
    rows, left = _candidates(judgement, activity, warn_before)
    if not len(rows):
        return [], activity
    urgent = bool((left <= lead(judgement.forecast.timeout[rows], warn_before)).any())
    return _ask(judgement, activity, rows, urgent=urgent)


def awaited(actions: Sequence[AskFirewall], forecast: Forecast) -> Bools | None:
    """Return of which connections these questions decide a presumed cut; None where nothing is asked."""
    if not actions:
        return None
    presumed: Bools = (forecast.verdict == Verdict.CUT.value) & ~forecast.confirmed
    return presumed & np.isin(np.arange(len(presumed)), np.concatenate([action.rows for action in actions]))


def to_ask_about(
    judgement: Judgement, activity: Activity, connections: Sequence[Connection]
) -> tuple[list[AskFirewall], Activity]:
    """Return the same about connections that somebody wants to have explained, however far their cut is."""
    if judgement.table.firewall_timeout == FOREVER or not connections:
        return [], activity
    wanted = np.array([one.cookie for one in connections], np.uint64)
    rows = np.flatnonzero(_may_be_asked(judgement, activity) & np.isin(judgement.table.sockets["cookie"], wanted))
    return _ask(judgement, activity, rows, urgent=False) if len(rows) else ([], activity)


def _ask(
    judgement: Judgement, activity: Activity, rows: Indices, *, urgent: bool
) -> tuple[list[AskFirewall], Activity]:
    sockets = judgement.table.sockets
    flows = np.zeros(len(rows), FLOW)
    for name in FLOW.names or ():
        flows[name] = sockets[name][rows]
    consulted = activity.consulted.copy()
    consulted[rows] = np.where(_unanswered(sockets)[rows], Consulted.UNANSWERED, Consulted.NOW)
    return [AskFirewall(rows, sockets["cookie"][rows], flows, urgent)], dataclasses.replace(
        activity, consulted=consulted
    )


def _may_be_asked(judgement: Judgement, activity: Activity) -> Bools:
    """Return which connections a question is worth: once in a silence.

    While packets of this host are not answered, they refresh its own firewall, and perhaps nothing else. It is asked
    then only whether it has forgotten what it remembered, where that is not known.
    """
    remembered = ~np.isnan(activity.firewall_forgets_at) & np.isnan(activity.firewall_forgets_by)
    may_be: Bools = ~_unanswered(judgement.table.sockets) | remembered
    may_be &= activity.consulted < Consulted.NOW.value
    if judgement.assigned.only_data is not None:  # there is more that passes here than counts there
        may_be &= ~judgement.assigned.only_data
    return may_be


def _unanswered(sockets: Sockets) -> Bools:
    """Return of which connections packets of this host are not answered."""
    unanswered: Bools = (sockets["retransmits"] != 0) | (sockets["probes"] != 0)
    return unanswered


def _candidates(judgement: Judgement, activity: Activity, warn_before: float) -> tuple[Indices, Column]:
    """Return the rows to ask about, the most urgent of each user first, and the seconds left of each.

    Each new connection is asked about, for a policy, or a container's own firewall, may give it a shorter timeout than
    the settings of this host's do; these decide how urgent that is. Once an answer has given the timeout, only a newest
    packet that is not known to a second is worth a question.
    """
    table, forecast = judgement.table, judgement.forecast
    latest = forecast.now + LEADS * warn_before
    new = (activity.consulted == Consulted.NEVER.value) | np.isnan(activity.firewall_timeout)
    may_be_near = (forecast.cut_at <= latest) | new
    may_be_near &= _may_be_asked(judgement, activity)
    rows, most = np.flatnonzero(may_be_near), max(FEW, len(table) // PART)
    if not len(rows):
        return rows, forecast.cut_at[rows]
    by_firewall = activity.last_packet + np.where(new, table.firewall_timeout, FOREVER)
    left = np.fmin(forecast.cut_at, by_firewall)[rows] - forecast.now
    if len(rows) > ROOM * most:
        some = turns.first(left, turns.owners(table, rows), ROOM * most)
        rows, left = rows[some], left[some]
    new = new[rows]
    near = new | (left <= lead(np.fmin(forecast.timeout[rows], table.firewall_timeout), warn_before))
    vague = ~(activity.last_packet_by[rows] - activity.last_packet[rows] <= ROUNDED)
    near &= new | (vague & (activity.firewall_timeout[rows] != FOREVER))
    rows, left = rows[near], left[near]
    order = turns.first(left, turns.owners(table, rows), most)
    return rows[order], left[order]


def learn(memory: Activity, outcome: Outcome) -> Activity:
    """Return the memory with what was answered.

    Where its timeout gives a newest packet that contradicts what is known, another one applies to the connection.
    """
    action, answers = outcome.action, outcome.looked
    if not isinstance(action, AskFirewall) or answers is None or len(memory) <= action.rows.max():
        return memory
    same = memory.cookie[action.rows] == action.cookies
    rows, answers = action.rows[same], answers[same]
    found, before = answers["found"], Between(memory.last_packet[rows], memory.last_packet_by[rows])
    forgets_at = answers["asked_at"] + answers["forgets_in"]
    earliest = forgets_at - answers["timeout"]
    fits = found & (memory.consulted[rows] != Consulted.UNANSWERED.value)
    fits &= (earliest <= before.latest) & (earliest + ROUNDED >= before.earliest)
    newest = np.where(fits, np.fmax(before.earliest, earliest), before.earliest)
    newest_by = np.where(fits, np.fmin(before.latest, earliest + ROUNDED), before.latest)
    is_beat = memory.beat[rows] >= before.earliest
    forgotten = _forgotten(memory, rows)
    at = np.where(found, forgets_at, forgotten.earliest)
    by = np.where(found, forgets_at + ROUNDED, forgotten.latest)
    return dataclasses.replace(
        memory,
        last_packet=put(memory.last_packet, rows, newest),
        last_packet_by=put(memory.last_packet_by, rows, newest_by),
        beat=put(memory.beat, rows[is_beat], newest[is_beat]),
        beat_by=put(memory.beat_by, rows[is_beat], newest_by[is_beat]),
        firewall_timeout=put(memory.firewall_timeout, rows, _timeout(memory, rows, answers, fits)),
        firewall_forgets_at=put(memory.firewall_forgets_at, rows, at),
        firewall_forgets_by=put(memory.firewall_forgets_by, rows, by),
        picks_up=put(memory.picks_up, rows, np.where(found, answers["picks_up"], memory.picks_up[rows])),
    )


def _timeout(memory: Activity, rows: Indices, answers: Column, fits: Bools) -> Column:
    """Return the idle timeout of this firewall for these connections, by what was answered.

    An entry that packets without an answer refresh says nothing of it. One that is there no more was forgotten.
    """
    found, known = answers["found"], memory.firewall_timeout[rows]
    was_tracked = (known < FOREVER) | ~np.isnan(memory.firewall_forgets_at[rows])
    unanswered = memory.consulted[rows] == Consulted.UNANSWERED.value
    stands = np.where(found, unanswered & (known < FOREVER), was_tracked)
    otherwise = np.where(found, np.nan, FOREVER)
    timeout: Column = np.where(fits, answers["timeout"], np.where(stands, known, otherwise))
    return timeout


def _forgotten(memory: Activity, rows: Indices) -> Between:
    """Return between which instants this firewall forgot these connections, if it has no entry of them any more.

    It did so if the time had come. Before that the entry may say nothing because packets pass conntrack by.
    """
    at, by = memory.firewall_forgets_at[rows], memory.firewall_forgets_by[rows]
    known = memory.firewall_timeout[rows]
    since = np.fmax(at, memory.last_packet[rows] + np.where(known < FOREVER, known, np.nan))
    is_over = since <= memory.taken_at + ROUNDED
    return Between(np.where(is_over, since, at), np.where(is_over, np.fmin(by, np.fmax(since, memory.taken_at)), by))


LEARNED = (
    *("last_packet", "last_packet_by", "beat", "beat_by"),
    *("firewall_timeout", "firewall_forgets_at", "firewall_forgets_by", "picks_up"),
)


def with_answers(before: Activity, memory: Activity) -> Activity:
    """Return what was remembered at a scan with nothing of what was learned since but the answers of the firewall."""
    return dataclasses.replace(before, **{name: getattr(memory, name) for name in LEARNED})


class NearlyFull(NamedTuple):
    """The network namespaces whose firewall was reported nearly full, 0 for our own, and when others last were."""

    netns: frozenset[int] = frozenset()
    others_at: float = -FOREVER


def nearly_full(tracked: Sequence[Tracked], before: NearlyFull, now: float) -> tuple[tuple[Tracked, ...], NearlyFull]:
    """Return which firewalls to report as nearly full, each once until it has recovered, and what is reported then."""
    full = {each.netns for each in tracked if each.connections >= each.limit * _limit(each, before) > 0}
    still = before.netns - {each.netns for each in tracked if each.netns not in full}
    waits = now - before.others_at < PAUSE
    news = tuple(each for each in tracked if each.netns in full - before.netns and not (each.netns and waits))
    others_at = now if any(each.netns for each in news) else before.others_at
    return news, NearlyFull(still | {each.netns for each in news}, others_at)


def _limit(each: Tracked, before: NearlyFull) -> float:
    return RECOVERED if each.netns in before.netns else FULL
