"""Decide what follows from a question about connections of the last scan, and what it is answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.actions import Answer, Arm, Disarm, LookInto, Outcome, Queued, RecordArmed
from keepaliveD.model.duration import exact
from keepaliveD.model.errors import Misuse, NoInput
from keepaliveD.model.explained import Explained
from keepaliveD.model.patterns import Patterns
from keepaliveD.model.plain import from_now
from keepaliveD.model.questions import ArmThis, Asker, DisarmThis, ExplainThese, RecordNow
from keepaliveD.model.rules import ArmAction, ArmRule, Rules
from keepaliveD.model.sockets import Indices, Sockets, TcpState
from keepaliveD.policy.answers.explain import Surroundings, explain
from keepaliveD.policy.arming.arming import by_hand
from keepaliveD.policy.verdicts import turns
from keepaliveD.policy.verdicts.connections import connections, order_of_urgency, with_cookies
from keepaliveD.policy.verdicts.judge import Judgement

Asking = Arm | Disarm | RecordArmed | LookInto  # actions that are carried out for who asks

GONE = NoInput("the last scan has no watched connection with this cookie")
MOST_EXPLAINED = 256  # connections in one answer: of each user in turn, the most urgent
HALF = 2**64 - 1


class Explanation(NamedTuple):
    """The answer to ExplainThese: the most urgent connections of each user, and how many there are besides."""

    explained: tuple[Explained, ...]
    more: int


def follow(
    asker: Asker,
    question: ArmThis | DisarmThis | ExplainThese | RecordNow,
    judgement: Judgement,
    rules: Rules,
    units: Mapping[int, str],
) -> Queued:
    """Return what to do about connections of the last scan; an Answer where nothing is to be done.

    `units` are those of cgroups, as far as they are known.
    """
    if isinstance(question, RecordNow):
        return RecordArmed(asker)
    if isinstance(question, ExplainThese):
        rows = _asked_for(question, judgement, units)
        if not len(rows):
            return Answer(asker, GONE)
        some = turns.shared(judgement.table, rows, MOST_EXPLAINED)
        return LookInto(connections(judgement, some), asker, len(rows) - len(some))
    found = with_cookies(judgement, [question.cookie])[:1]
    if not found:
        return Answer(asker, GONE)
    match question:
        case ArmThis():
            return _arm(asker, question, judgement, rules)
        case DisarmThis():
            return Disarm(found, asker=asker)


def _asked_for(question: ExplainThese, judgement: Judgement, units: Mapping[int, str]) -> Indices:
    """Return the rows that are to be explained, the most urgent first."""
    sockets, rows = judgement.table.sockets, order_of_urgency(judgement, at_risk_only=False)
    wanted = set(filter(Patterns(question.units).match, set(units.values())))  # a unit may have many cgroups
    named = [cgroup for cgroup, unit in units.items() if unit in wanted]
    found = np.zeros(len(sockets), np.bool_)
    for column, values in (("cookie", question.cookies), ("inode", question.inodes), ("cgroup", named)):
        found |= np.isin(sockets[column], np.array(values, np.uint64))
    if question.ends:
        for side in ("local", "remote"):
            found[_with_ends(sockets, side, question.ends)] = True
    return rows[found[rows]]


def _with_ends(sockets: Sockets, side: str, ends: Sequence[tuple[int, int]]) -> Indices:
    """Return the rows with one of these ends on that side: a look at each column, however many ends there are."""
    rows, codes, wanted = np.arange(len(sockets)), np.zeros(len(sockets), np.int64), np.zeros(len(ends), np.int64)
    columns = {
        "low": [address & HALF for address, _ in ends],
        "port": [port for _, port in ends],
        "high": [address >> 64 for address, _ in ends],
    }
    for name, values in columns.items():
        few, numbers = np.unique(np.array(values, np.uint64), return_inverse=True)
        column = sockets[f"{side}_{name}"][rows]
        places = np.minimum(np.searchsorted(few, column), len(few) - 1)
        same = few[places] == column
        rows, codes = rows[same], codes[same] * len(few) + places[same]
        wanted = wanted * len(few) + numbers
    return rows[np.isin(codes, wanted)]


def answer(outcome: Outcome, judgement: Judgement, rules: Rules, now: float) -> Answer | None:
    """Return the answer to who has asked for the action of this outcome, if anybody has; its times are from now."""
    action = outcome.action
    if not isinstance(action, Asking) or action.asker is None:
        return None
    if outcome.refused or not isinstance(action, LookInto):
        return Answer(action.asker, outcome.refused or outcome)
    now_there = {one.cookie: one for one in with_cookies(judgement, [one.cookie for one in action.connections])}
    rows = [row for row, one in enumerate(action.connections) if one.cookie in now_there]
    if not rows:  # a scan that was on its way has not found them any more
        return Answer(action.asker, GONE)
    rank = _ranks(judgement, now_there)
    rows.sort(key=lambda row: rank[action.connections[row].cookie])
    found = [now_there[one.cookie].with_owner(one.owner) for one in (action.connections[row] for row in rows)]
    around = Surroundings(rules.configured, rules.arm, rules.ignore, action.recorded)
    looked = None if outcome.looked is None else outcome.looked[rows]
    age = now - judgement.forecast.now
    explained = explain(judgement, found, looked, around)
    aged = (dataclasses.replace(its, connection=from_now(its.connection, age)) for its in explained)
    return Answer(action.asker, Explanation(tuple(aged), action.more))


def _ranks(judgement: Judgement, wanted: Collection[int]) -> dict[int, int]:
    """Return the place of each of these connections, by its cookie, among them: the most urgent come first."""
    cookies = judgement.table.sockets["cookie"][order_of_urgency(judgement, at_risk_only=False)]
    found = cookies[np.isin(cookies, np.fromiter(wanted, np.uint64, len(wanted)))]
    return {cookie: place for place, cookie in enumerate(found.tolist())}


def _arm(asker: Asker, question: ArmThis, judgement: Judgement, rules: Rules) -> Queued:
    interval = question.interval or rules.configured.interval
    if question.idle is not None and interval > question.idle:
        return Answer(
            asker, Misuse(f"interval {exact(interval)} is longer than idle {exact(question.idle)}; give a shorter one")
        )
    rule = ArmRule("hand", ArmAction.ENABLE, question.idle, interval, question.probes or rules.configured.probes)
    (action,) = by_hand(judgement.to_arm_by, [question.cookie], rule)
    if any(one.state != TcpState.ESTABLISHED.name for one in action.connections):
        return Answer(asker, Misuse("the connection is being closed, and cannot be armed"))
    return dataclasses.replace(action, asker=asker)
