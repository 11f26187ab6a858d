"""Decide which sockets of other programs to arm, by which rules: rules and a judgement go in, actions come out.

A rule's selectors are matched in two steps.
Selectors that the table answers (user, networks, ports, path, verdict) are matched for all sockets at once.
Selectors that need the owner (unit, process, container) are matched once the owner is found, which is
expensive: so only for sockets that a rule with these selectors may concern, and for each socket once.
"""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
import ipaddress
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keepaliveD.model.actions import Arm, Disarm
from keepaliveD.model.connections import AT_RISK, Connection, Due, Owner, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import MAX_IDLE, TIMER_SLACK, Keepalive
from keepaliveD.model.results import RETRIED, Arming, ArmingResult, Entry, Mark
from keepaliveD.model.rules import ArmAction, ArmRule, Path, Wish
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets, Switch, Timer, is_any
from keepaliveD.policy.arming.choices import Orders, Recorded
from keepaliveD.policy.arming.meaning import ENOUGH
from keepaliveD.policy.arming.shared import are_among, with_entry
from keepaliveD.policy.verdicts.activity import Activity, Consulted, find
from keepaliveD.policy.verdicts.connections import column, connections, owners_of, part, select
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.policy.verdicts.paths import in_network


class Considered(enum.IntEnum):
    """What is remembered of arming a socket, in Activity.arming; Activity.tries counts the scans of TRYING."""

    NEVER = 0
    UNWANTED_LATE = 1  # no rule had a use for it while it was late ...
    UNWANTED_BARE = 2
    UNWANTED_CUT = 3
    TRYING = 4  # it failed, or its owner was not found or closed it meanwhile
    REFUSED = 5  # it was to be armed, and could not be
    ARMED = 6
    LEFT_ALONE = 7  # somebody has changed it since it was armed: left alone for good


USER_TIMEOUT = "its program has set a TCP_USER_TIMEOUT, with which keepalive would end it sooner in an outage"

AT_ONCE = 500_000  # sockets of an action: each pass visits all that are there, and what is sent takes 170 octets each
FEW = 8  # kinds of sockets that are to be armed: by path, timeout and the rules that may apply
TRIES = np.array([0, 1, 3, 7, 15])  # scans of TRYING at which it is asked for; the kernel's own are never found
LAST_TRY = int(TRIES[-1])

UNWANTED = np.zeros(256, np.uint8)  # by Verdict
UNWANTED[[Verdict.LATE, Verdict.BARE, Verdict.CUT]] = (
    Considered.UNWANTED_LATE,
    Considered.UNWANTED_BARE,
    Considered.UNWANTED_CUT,
)
LASTING = {
    ArmingResult.ARMED: Considered.ARMED,
    ArmingResult.CHANGED_SINCE: Considered.LEFT_ALONE,
}
DONE = (Considered.REFUSED, Considered.LEFT_ALONE)
IS_TRY = np.zeros(256, np.bool_)  # by the scans of TRYING
IS_TRY[TRIES] = True
HELPFUL = (Due.NOTHING, Due.KEEPALIVE)  # keepalive is sent only while nothing else is pending


def plan(judgement: Judgement, rules: Sequence[ArmRule]) -> tuple[list[Arm], Activity]:
    """What to arm, and the memory of what was considered; the last rule concerns all.

    A socket is considered once for each verdict at risk, until it was asked for. If it slips away
    from us, which a process that forks, ends or passes it on can bring about, or if arming it fails, it
    is asked for a few times more.
    One that was armed and is at risk again is asked for once more: somebody has set it since, which
    only the socket itself can tell.
    """
    rows = _candidates(judgement)
    if not len(rows):
        return [], judgement.activity
    verdict = judgement.forecast.verdict
    arming, tries = judgement.activity.arming.copy(), judgement.activity.tries.copy()
    tries[rows] = np.where(arming[rows] == Considered.TRYING.value, tries[rows] + 1, 0)
    arming[rows] = Considered.TRYING.value
    rows = rows[IS_TRY[tries[rows]]]
    chances = _chances(judgement, rules, rows)
    useful = chances.any(axis=1)
    arming[rows[~useful]] = UNWANTED[verdict[rows[~useful]]]
    last = tries[rows[useful]] == LAST_TRY
    actions = list(_grouped(judgement, rules, rows[useful], chances[useful], last))
    return actions, dataclasses.replace(judgement.activity, arming=arming, tries=tries)


def planned(before: Activity, after: Activity) -> Bools:
    """Return which sockets are to be armed by the plan that led from one memory to the other."""
    news = (after.arming != before.arming) | (after.tries != before.tries)
    new: Bools = news & (after.arming == Considered.TRYING.value) & IS_TRY[after.tries]
    return new


def are_left(activity: Activity) -> Bools:
    """Return which sockets were considered and are left as they are; one that is tried again is not."""
    left: Bools = (activity.arming != Considered.ARMED.value) & (activity.arming != Considered.TRYING.value)
    return left


def to_put_back(judgement: Judgement) -> tuple[list[Disarm], Activity]:
    """Return which armed sockets to disarm because a TCP_USER_TIMEOUT set since ends them sooner; and the memory of it.

    Only where the engine reads TCP_USER_TIMEOUT: elsewhere it is 0.
    """
    sockets, activity = judgement.table.sockets, judgement.activity
    rows = np.flatnonzero((activity.arming == Considered.ARMED.value) & (sockets["user_timeout"] != 0))
    if len(rows):
        idle, interval, probes, user_timeout = (
            sockets[name][rows].astype(np.int64) for name in ("keepidle", "keepintvl", "keepcnt", "user_timeout")
        )
        rows = rows[user_timeout <= 1000 * (idle + (probes - 1) * interval)]
    if not len(rows):
        return [], activity
    arming = activity.arming.copy()
    arming[rows] = Considered.LEFT_ALONE.value
    return [Disarm(connections(judgement, rows), USER_TIMEOUT)], dataclasses.replace(activity, arming=arming)


def _candidates(judgement: Judgement) -> Indices:
    """Return the rows at risk that keepalive would help and that were not yet considered with this verdict.

    An orphan, whose inode is 0, has no program that could be helped. A socket whose probe is not answered yet has
    been helped: of more probes at a shorter interval some have been sent already, and to restart its timer would send
    the next one at once, or end it.
    """
    forecast, activity, sockets = judgement.forecast, judgement.activity, judgement.table.sockets
    news = is_any(forecast.verdict, AT_RISK) & ~are_settled(judgement)
    news &= is_any(forecast.due, HELPFUL) & (sockets["inode"] != 0) & (sockets["probes"] == 0)
    if judgement.table.firewall_timeout != FOREVER:  # whose answer decides by which timeout
        idle = forecast.now - activity.last_packet
        news &= ~(_may_be_forgotten_here(judgement) & (idle < judgement.table.firewall_timeout / 2))
    if judgement.assigned.only_data is not None:
        news &= ~judgement.assigned.only_data
    return np.flatnonzero(news)


def are_settled(judgement: Judgement) -> Bools:
    """Return which sockets are not considered again with the verdict that they have, until other rules apply."""
    verdict, activity = judgement.forecast.verdict, judgement.activity
    arming = activity.arming
    settled = is_any(arming, DONE)
    for each in AT_RISK:
        settled |= (verdict == each.value) & (arming == UNWANTED[each])
    settled |= (arming == Considered.TRYING.value) & (activity.tries >= LAST_TRY)
    settled |= (arming == Considered.ARMED.value) & (verdict == Verdict.CUT.value)
    return settled


def _chances(judgement: Judgement, rules: Sequence[ArmRule], rows: Indices) -> Bools:
    """Return by row and rule which rule may apply: all up to the first that certainly concerns the socket.

    A row in which all are False needs no arming, whoever its owner is.
    """
    sockets = judgement.table.sockets.select(rows)
    on = (sockets["timer"] == Timer.KEEPALIVE.value) | (sockets["keepalive"] == Switch.ON.value)
    chances = _matching(judgement, rules, rows, sockets)
    acting = np.zeros(len(rows), np.bool_)
    for number, rule in enumerate(rules):
        if rule.action is not ArmAction.OBSERVE:
            acting |= chances[:, number] & (on | (rule.action is ArmAction.ENABLE))
    chances[~acting] = False
    return chances


def _matching(judgement: Judgement, rules: Sequence[ArmRule], rows: Indices, sockets: Sockets) -> Bools:
    """Return by row and rule which rule may match: all up to the first that certainly concerns the socket."""
    verdict, paths = judgement.forecast.verdict[rows], judgement.assigned.paths
    path = judgement.assigned.index[rows]
    open_ = np.ones(len(rows), np.bool_)
    matching = np.zeros((len(rows), len(rules)), np.bool_)
    for number, rule in enumerate(rules):
        concerned = open_ & _concerned(rule, sockets, verdict, path, paths)
        matching[:, number] = concerned
        if not rule.asks_for_owner:
            open_ &= ~concerned
    return matching


def _concerned(rule: ArmRule, sockets: Sockets, verdict: Column, path: Column, paths: Sequence[Path]) -> Bools:
    """Return which rows the rule may concern, as far as the table shows."""
    concerned = np.ones(len(sockets), np.bool_)
    if rule.users:
        concerned &= np.isin(sockets["uid"], rule.users)
    if rule.networks:
        concerned &= np.any([in_network(sockets, network) for network in rule.networks], axis=0)
    if rule.ports:
        concerned &= np.isin(sockets["remote_port"], rule.ports) | np.isin(sockets["local_port"], rule.ports)
    if rule.paths:
        concerned &= np.array([_suits(each.name, rule.paths) for each in paths])[path]
    if rule.verdicts:
        concerned &= np.isin(verdict, [int(each) for each in rule.verdicts])
    return concerned


def concerned(judgement: Judgement, rule: ArmRule, rows: Indices) -> Bools:
    """Return which of these rows the rule may concern, whoever their owners are."""
    verdict, path = judgement.forecast.verdict[rows], judgement.assigned.index[rows]
    return _concerned(rule, judgement.table.sockets.select(rows), verdict, path, judgement.assigned.paths)


def _grouped(
    judgement: Judgement, rules: Sequence[ArmRule], rows: Indices, chances: Bools, last: Bools
) -> Iterator[Arm]:
    """Yield one action for all sockets of one path to which the same rules may apply, or one for each AT_ONCE of them.

    Where this host's own firewall forgets before the path does, or may do so, its idle timeout counts, in whole
    seconds.
    """
    if not len(rows):
        return
    path, outlook = judgement.assigned.index[rows], judgement.forecast
    here = np.where(_may_be_forgotten_here(judgement)[rows], judgement.table.firewall_timeout, 0.0)
    here = np.floor(np.where(outlook.by_firewall[rows], outlook.timeout[rows], here))
    kinds = np.column_stack([path, here, last, chances])
    for alike, (path_number, timeout_here, is_last, *these) in _alike(kinds, rows):
        timeout = timeout_here or judgement.assigned.paths[int(path_number)].timeout
        wishes = tuple(Wish(rule, times(rule, timeout)) for rule, this in zip(rules, these, strict=True) if this)
        for start in range(0, len(alike), AT_ONCE):
            yield Arm(select(judgement, alike[start : start + AT_ONCE]), wishes, last=bool(is_last))


def _alike(kinds: Column, rows: Indices) -> Iterator[tuple[Indices, list[float]]]:
    """Yield the rows of each kind, and what makes it one. Nearly always there are a few; to sort takes far longer."""
    for _ in range(FEW):
        if not len(rows):
            return
        equal = (kinds == kinds[0]).all(axis=1)
        yield rows[equal], kinds[0].tolist()
        rows, kinds = rows[~equal], kinds[~equal]
    others, kind_of = np.unique(kinds, axis=0, return_inverse=True)
    for number, kind in enumerate(others.tolist()):
        yield rows[kind_of.ravel() == number], kind


def _may_be_forgotten_here(judgement: Judgement) -> Bools:
    """Return which rows this host's own firewall forgets before the path does, if it tracks them: it was not asked."""
    unknown: Bools = judgement.activity.consulted == Consulted.NEVER.value
    return unknown & (judgement.table.firewall_timeout < judgement.forecast.timeout)


def by_hand(judgement: Judgement, cookies: Sequence[int], rule: ArmRule) -> list[Arm]:
    """Return the action that arms these connections by this rule, whatever their verdict."""
    wanted = np.array(cookies, np.uint64)
    rows = np.flatnonzero(np.isin(judgement.table.sockets["cookie"], wanted))
    always = np.ones((len(rows), 1), np.bool_)
    actions = _grouped(judgement, [rule], rows, always, always[:, 0])
    return [dataclasses.replace(action, by_hand=True) for action in actions]


def wishes(judgement: Judgement, cookies: Sequence[int], rules: Sequence[ArmRule]) -> dict[int, tuple[Wish, ...]]:
    """Return by cookie the wishes that may concern these connections, whatever their verdict; nothing is decided."""
    rows = np.flatnonzero(np.isin(judgement.table.sockets["cookie"], np.array(cookies, np.uint64)))
    matching = _matching(judgement, rules, rows, judgement.table.sockets.select(rows))
    grouped = _grouped(judgement, rules, rows, matching, np.ones(len(rows), np.bool_))
    return {one.cookie: action.wishes for action in grouped for one in action.connections}


def times(rule: ArmRule, timeout: float) -> Keepalive:
    """Return the times that a rule sets on a path.

    Chosen by itself, idle is the longest after which ENOUGH probes surely leave before the path
    forgets; the rule's interval is shortened where not even then they would.
    """
    if rule.idle is not None:
        return Keepalive(rule.idle, rule.interval, rule.probes)
    room = min(timeout / (1 + TIMER_SLACK), (ENOUGH + 1) * MAX_IDLE)  # with more, nothing would change
    interval = max(1, min(rule.interval, int(room / (ENOUGH + 1))))
    idle = min(max(1, _below(room - (ENOUGH - 1) * interval)), MAX_IDLE)
    return Keepalive(idle, min(interval, idle), rule.probes)


def _below(bound: float) -> int:
    """Return the largest whole number below the bound."""
    return int(bound) - (bound == int(bound))


def by_rules(action: Arm, connections: Sequence[Connection], known: Recorded) -> tuple[Orders, list[Arming]]:
    """Return how to arm each connection by the first rule that matches its owner, and those that are left alone."""
    owners, owner_of = owners_of(connections)
    wishes = [first_matching(action.wishes, owner) for owner in owners]
    only_data, by_rule = column(connections, "counts_data"), _have_no_use(wishes, owner_of, connections)
    changed = _were_left_alone(connections, {} if action.by_hand else known.entries)
    left = [
        Arming(part(connections, rows), result)
        for rows, result in (
            (only_data, ArmingResult.ONLY_DATA),
            (by_rule & ~only_data, ArmingResult.LEFT_BY_RULE),
            (changed & ~by_rule & ~only_data, ArmingResult.CHANGED_SINCE),
        )
        if rows.any()
    ]
    wanted = ~(only_data | by_rule | changed)
    number = {id(wish): number for number, wish in enumerate(action.wishes)}
    its = np.array([number.get(id(wish), 0) for wish in wishes], np.intp)[owner_of[wanted]]
    return Orders(part(connections, wanted), action.wishes, its), left


def _have_no_use(wishes: Sequence[Wish | None], owner_of: Column, connections: Sequence[Connection]) -> Bools:
    """Return which sockets no rule or their rule leaves alone; `rearm` applies only if keepalive is on already."""
    actions = [wish.rule.action if wish else ArmAction.OBSERVE for wish in wishes]
    useless: Bools = np.array([action is ArmAction.OBSERVE for action in actions], np.bool_)[owner_of]
    if ArmAction.REARM in actions:
        rearm = np.array([action is ArmAction.REARM for action in actions], np.bool_)[owner_of]
        useless |= rearm & column(connections, "is_off")
    return useless


def _were_left_alone(connections: Sequence[Connection], entries: Mapping[int, Entry]) -> Bools:
    """Return which sockets are recorded as put back, or as changed by somebody since they were armed."""
    return are_among(column(connections, "cookie"), with_entry(entries, Mark.LEFT_ALONE))


def first_matching(wishes: Sequence[Wish], owner: Owner) -> Wish | None:
    """Return the first wish whose rule matches this owner, if any."""
    return next((wish for wish in wishes if matches_owner(wish.rule, owner)), None)


def matches_owner(rule: ArmRule, owner: Owner) -> bool:
    """Return whether unit, process and container of the owner match the rule."""
    asked = ((rule.units, owner.unit), (rule.processes, owner.process), (rule.containers, owner.container))
    return all(not patterns or (bool(name) and _suits(name, patterns)) for patterns, name in asked)


def may_match_again(rule: ArmRule, connection: Connection) -> bool:
    """Return whether a rule may match a later connection of the same owner to the same peer: all but its verdict."""
    ports, peer = {connection.local.port, connection.remote.port}, ipaddress.ip_address(connection.remote.address)
    return (
        matches_owner(rule, connection.owner)
        and (not rule.users or connection.uid in rule.users)
        and (not rule.networks or any(peer in network for network in rule.networks))
        and (not rule.ports or not ports.isdisjoint(rule.ports))
        and (not rule.paths or not connection.path or _suits(connection.path, rule.paths))
    )


def _suits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def remember(memory: Activity, armings: Sequence[Arming]) -> Activity:
    """Return the memory of the results; a socket that its owner's rule left alone was considered, not refused."""
    final = [arming for arming in armings if arming.connections and arming.result not in RETRIED]
    if not final:
        return memory
    cookies = np.concatenate([column(arming.connections, "cookie") for arming in final])
    place, known = find(cookies, memory.cookie)
    marks = np.concatenate([_marks(arming) for arming in final])[place]
    return dataclasses.replace(memory, arming=np.where(known, marks, memory.arming))


def not_asked(memory: Activity, connections: Sequence[Connection]) -> Activity:
    """Return the memory after these were refused together: which of them could have been armed is not known."""
    if not connections:
        return memory
    _, known = find(column(connections, "cookie"), memory.cookie)
    return dataclasses.replace(memory, arming=np.where(known, np.uint8(Considered.NEVER), memory.arming))


def _marks(arming: Arming) -> Column:
    """Return what to remember of each of these sockets."""
    if arming.result is ArmingResult.LEFT_BY_RULE:
        return UNWANTED[column(arming.connections, "verdict")]
    marks = np.full(len(arming.connections), LASTING.get(arming.result, Considered.REFUSED), np.uint8)
    if arming.result is ArmingResult.TOO_LONG:  # once a cut is certain, any times show it to the program
        is_cut = column(arming.connections, "verdict") == Verdict.CUT.value
        marks[is_cut & ~column(arming.connections, "confirmed")] = Considered.TRYING
    return marks


def reconsider(memory: Activity) -> Activity:
    """Return the memory for a new set of rules: it keeps which sockets were armed, and which changed since."""
    lasting = (memory.arming == Considered.ARMED.value) | (memory.arming == Considered.LEFT_ALONE.value)
    return dataclasses.replace(memory, arming=memory.arming * lasting)
