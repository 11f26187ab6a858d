"""Decide what follows from a question of a client of the control socket, and what it is answered."""

from __future__ import annotations

import dataclasses

from keepaliveD.model.actions import Answer, Arm, Disarm, LookInto, Queued
from keepaliveD.model.errors import Misuse, NoInput
from keepaliveD.model.plain import from_now
from keepaliveD.model.questions import ArmThis, Asker, DisarmThis, ExplainThis
from keepaliveD.model.results import Outcome
from keepaliveD.model.rules import ArmAction, ArmRule, Rules
from keepaliveD.model.sockets import TcpState
from keepaliveD.policy.arming import by_hand
from keepaliveD.policy.connections import with_cookies
from keepaliveD.policy.explain import Surroundings, explain
from keepaliveD.policy.judge import Judgement

Asking = Arm | Disarm | LookInto  # actions that are carried out for who asks

GONE = NoInput("the last scan has no watched connection with this cookie")


def follow(asker: Asker, question: ArmThis | DisarmThis | ExplainThis, judgement: Judgement, rules: Rules) -> Queued:
    """Return what to do about a connection of the last scan; an Answer where nothing is to be done."""
    found = with_cookies(judgement, [question.cookie])[:1]
    if not found:
        return Answer(asker, GONE)
    match question:
        case ArmThis():
            return _arm(asker, question, judgement, rules)
        case DisarmThis():
            return Disarm(found, asker=asker)
        case ExplainThis():
            return LookInto(found, asker)


def answer(outcome: Outcome, judgement: Judgement, rules: Rules, now: float) -> Answer | None:
    """Return the answer to who has asked for the action of this outcome, if anybody has; its times are from now."""
    action = outcome.action
    if not isinstance(action, Asking) or action.asker is None:
        return None
    if outcome.refused or not isinstance(action, LookInto):
        return Answer(action.asker, outcome.refused or outcome)
    found = with_cookies(judgement, [action.connections[0].cookie])[:1]
    if not found:  # a scan that was on its way has not found it any more
        return Answer(action.asker, GONE)
    connection = found[0].with_owner(action.connections[0].owner)
    around = Surroundings(rules.configured, rules.arm, rules.ignore, action.recorded)
    (its,) = explain(judgement, [connection], outcome.looked, around)
    return Answer(action.asker, dataclasses.replace(its, connection=from_now(connection, now - judgement.forecast.now)))


def _arm(asker: Asker, question: ArmThis, judgement: Judgement, rules: Rules) -> Queued:
    interval = question.interval or rules.configured.interval
    if question.idle is not None and interval > question.idle:
        return Answer(asker, Misuse(f"interval {interval}s is longer than idle {question.idle}s; give a shorter one"))
    rule = ArmRule("hand", ArmAction.ENABLE, question.idle, interval, question.probes or rules.configured.probes)
    (action,) = by_hand(judgement.to_arm_by, [question.cookie], rule)
    if any(one.state != TcpState.ESTABLISHED.name for one in action.connections):
        return Answer(asker, Misuse("the connection is being closed, and cannot be armed"))
    return dataclasses.replace(action, asker=asker)
