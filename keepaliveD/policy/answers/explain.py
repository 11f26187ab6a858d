"""Explain connections: what stands in each socket, who set it, what the rules do with it, and what would help.

Everything is decided as the daemon decides it: by the same rules, with the same functions.
"""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keepaliveD.model.arming import Access
from keepaliveD.model.connections import AT_RISK, Connection, Due, Owner, WhatCounts
from keepaliveD.model.explained import Explained, HelpfulRule
from keepaliveD.model.keepalive import Found, Keepalive
from keepaliveD.model.results import Armed, ArmingResult, Entry, Mark
from keepaliveD.model.rules import ArmAction, ArmRule, IPNetwork, Wish
from keepaliveD.model.sockets import Column
from keepaliveD.policy.arming.arming import are_settled, first_matching, times, wishes
from keepaliveD.policy.arming.choices import RESULTS, read_from
from keepaliveD.policy.arming.socket_settings import Wanted, as_before, decide_arming
from keepaliveD.policy.verdicts.connections import with_cookies
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.policy.verdicts.paths import ignored

AUTO = "auto"
HELPFUL = (Due.NOTHING, Due.KEEPALIVE)  # keepalive is sent only while nothing else is pending
UNANSWERED = (Due.RETRANSMIT, Due.ZERO_WINDOW, Due.END)  # a packet has left that the peer has not answered


class Surroundings(NamedTuple):
    """What is known besides the scan: the configuration, and what is recorded of armed sockets."""

    keepalive: Keepalive
    rules: Sequence[ArmRule]
    ignore: Sequence[IPNetwork]
    entries: Mapping[int, Entry]


def explain(
    judgement: Judgement, connections: Sequence[Connection], looked: Column | None, around: Surroundings
) -> list[Explained]:
    """Explain these connections, whose owners are known; `looked` is what an armer has read of the first ones.

    What the rules come to is decided without evidence, which arming does not follow.
    """
    sockets, to_arm_by = judgement.table.sockets, judgement.to_arm_by
    timeouts = {path.name: path.timeout for path in to_arm_by.assigned.paths}
    unwatched = set(sockets["cookie"][ignored(sockets, around.ignore)].tolist())
    ruled = {one.cookie: one for one in with_cookies(to_arm_by, [one.cookie for one in connections])}
    left = set(sockets["cookie"][are_settled(to_arm_by)].tolist())
    matching = wishes(to_arm_by, [one.cookie for one in connections], around.rules)
    explained = []
    for row, one in enumerate(connections):
        read = looked[row] if looked is not None and row < len(looked) else None
        wish = first_matching(matching[one.cookie], one.owner) or matching[one.cookie][-1]
        by_rules = dataclasses.replace(ruled[one.cookie], owner=one.owner)
        its = _read(by_rules, read, wish, around.entries.get(one.cookie), watched=one.cookie not in unwatched)
        its = _helped(its, wish, around, min(timeouts[one.path], by_rules.timeout))  # the own firewall's may be shorter
        wanted = None if math.isnan(one.timeout) else wish.times
        settled = one.cookie in left
        explained.append(dataclasses.replace(its, connection=one, times=wanted, left_until_reload=settled))
    return explained


def _read(one: Connection, read: Column | None, wish: Wish, entry: Entry | None, *, watched: bool) -> Explained:
    if read is None or read["access"] != Access.DONE.value:
        hindrance = None if read is None else RESULTS[int(read["access"])]
        return Explained(one, watched, None, hindrance, entry, wish.rule)
    return Explained(one, watched, read_from(read), None, entry, wish.rule)


def _helped(its: Explained, wish: Wish, around: Surroundings, timeout: float) -> Explained:
    """Return the same with what the rule decides, and with what would help if it does not."""
    if its.found is None or not its.watched or its.connection.verdict not in AT_RISK:
        return its
    found = its.found
    if its.connection.due in UNANSWERED:
        found = found._replace(unanswered=max(1, found.unanswered))  # what is read counts probes only
    its = dataclasses.replace(its, decision=_decide(its, found, wish))
    if isinstance(its.decision, Armed) or its.decision is ArmingResult.PROBE_UNANSWERED:
        return its
    if its.connection.due not in HELPFUL or not its.connection.inode:
        return its
    return _with_remedy(its, found, around.keepalive, timeout)


def _decide(its: Explained, found: Found, wish: Wish) -> Armed | ArmingResult:
    """Return how the rule arms the socket at a scan, or why it leaves it alone."""
    if its.connection.counts is WhatCounts.DATA:
        return ArmingResult.ONLY_DATA
    if wish.rule.action is ArmAction.OBSERVE:
        return ArmingResult.LEFT_BY_RULE
    if its.entry is Mark.LEFT_ALONE:
        return ArmingResult.CHANGED_SINCE
    armed = its.entry if isinstance(its.entry, Armed) else None
    one = its.connection
    wanted = Wanted(wish, one.timeout, one.verdict, armed, certain=one.confirmed)
    return decide_arming(as_before(found, its.entry), wanted)


def _with_remedy(its: Explained, found: Found, keepalive: Keepalive, timeout: float) -> Explained:
    """Return the same with a rule that would arm it, by an idle time that fits the path."""
    fitting = ArmRule("", ArmAction.ENABLE, None, keepalive.interval, keepalive.probes)
    settings = (
        selecting(its.connection.owner, its.connection.uid),
        ("action", ArmAction.ENABLE.value),
        ("idle", AUTO),
    )
    decision = _decide(its, found._replace(unanswered=0), Wish(fitting, times(fitting, timeout)))
    if isinstance(decision, Armed):
        return dataclasses.replace(its, remedy=HelpfulRule(settings, decision))
    return dataclasses.replace(its, hopeless=decision)


def selecting(owner: Owner, uid: int) -> tuple[str, str]:
    """Return the selector of a rule, and its value, for this owner of a connection and others like it.

    A unit is the narrowest that lasts; the unit of a session is gone with it.
    """
    if owner.unit.endswith(".service") and not owner.unit.startswith("user@"):
        return "unit", glob.escape(owner.unit)
    if owner.container:
        return "container", glob.escape(owner.container)
    if owner.process:
        return "process", glob.escape(owner.process)
    return "user", str(uid)
