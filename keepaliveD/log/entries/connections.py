"""Log entries about connections whose verdict changed: one for each, or a summary for many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from keepaliveD.log.entries.entry import ERROR, HANDFUL, INFO, WARNING, Entry, Value
from keepaliveD.model.connections import Connection, Due, Owner, Verdict, WhatCounts, grouping_unit
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.origin import Source
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.sockets import Column, Indices
from keepaliveD.model.text import quoted
from keepaliveD.policy.verdicts.connections import column, owners_of, part, paths_of

REMEDIES = {
    Verdict.LATE: "shorten the program's keepalive idle time",
    Verdict.BARE: "switch keepalive on in the program",
    Verdict.CUT: "let the program reconnect",
}

WORDS = {WhatCounts.PACKETS: ("quiet", "packet"), WhatCounts.DATA: ("no data", "data")}
NO_REMEDY = (  # on a path that counts only data
    "keepalive does not help, because that path counts only data; let the program send some more often, "
    "or raise the idle timeout of the path"
)
MOST_APART = 512  # groups of connections that have entries of their own in one report
NO_USER = -1  # of a unit or a container
CONNTRACK_TIMEOUT = "net.netfilter.nf_conntrack_tcp_timeout_established"
SUBFLOW = 'it cannot be armed: MPTCP subflow: requires watch.engine = "bpf"'

Kind = TypeVar("Kind")
Member = TypeVar("Member")


class Whose(NamedTuple):
    """By what connections are grouped: their unit, or container, or user and process. In order, units are first."""

    user: int
    container: str = ""
    unit: str = ""
    process: str = ""


def of_report(report: ReportConnections) -> Iterator[Entry]:
    """Yield an entry for each connection, or one for each owner, path and verdict where there are many."""
    connections, before = report.connections, report.before
    unreported = report.unreported or (0,) * len(connections)
    if len(connections) <= HANDFUL:
        yield from (_single(*one) for one in zip(connections, before, unreported, strict=True))
        return
    expired = np.fromiter((one is Verdict.CUT for one in before), np.bool_, len(before))
    groups: dict[tuple[Whose, tuple[str, int]], list[Indices]] = {}
    for owner, path, user, kind, rows in apart(connections, 2 * column(connections, "verdict") + expired):
        groups.setdefault((whose(owner, user), (path, kind)), []).append(rows)
    told = [(np.concatenate(rows), owners) for owners, _, rows in bounded(groups)]
    for members, owners in sorted(told, key=lambda each: int(np.min(each[0]))):
        first = int(members[0])
        if len(members) == 1:
            yield _single(connections[first], before[first], unreported[first])
        else:
            yield _summary(part(connections, members), before[first], owners)


def apart(connections: Sequence[Connection], kinds: Column) -> Iterator[tuple[Owner, str, int, int, Indices]]:
    """Yield owner, path, user and kind, and the places of the connections that have these in common.

    Each connection has the kind in its place.
    """
    (owners, owner_of), (paths, path_of) = owners_of(connections), paths_of(connections)
    users, user_of = np.unique(column(connections, "uid"), return_inverse=True)
    used, used_of = np.unique(kinds, return_inverse=True)
    shape = len(owners), len(paths), len(users), len(used)
    numbers, alike = np.unique(np.ravel_multi_index((owner_of, path_of, user_of, used_of), shape), return_inverse=True)
    order, end = np.argsort(alike, kind="stable"), 0
    places = zip(*(each.tolist() for each in np.unravel_index(numbers, shape)), strict=True)
    for (owner, path, user, kind), count in zip(places, np.bincount(alike).tolist(), strict=True):
        start, end = end, end + count
        yield owners[owner], paths[path], int(users[user]), int(used[kind]), order[start:end]


def most_urgent(connections: Sequence[Connection]) -> Connection:
    """Return the connection that is forgotten soonest; where that is not known, any."""
    left = column(connections, "left")
    urgent: Connection = connections[int(np.argmin(np.where(np.isnan(left), np.inf, left)))]
    return urgent


def _single(connection: Connection, before: Verdict, unreported: int) -> Entry:
    verdict = connection.verdict
    message = f"{who(connection)}{connection.local} -> {connection.remote}: {_what(connection, before)}"
    if unreported > 1:
        message += f"; the verdict changed {unreported} times since the last entry"
    return Entry(
        _event(verdict, before),
        _priority(connection, before),
        message + _remedy(connection, before),
        fields_of(connection) | {"KEEPALIVE_BEFORE": before.label},
    )


def _event(verdict: Verdict, before: Verdict) -> str:
    """Return the event: "safe" for a connection that was reported expired and is alive, whatever comes next."""
    return "safe" if before is Verdict.CUT else verdict.label


def who(connection: Connection) -> str:
    """Return process and unit of a connection, as far as they are known, to begin a line with."""
    owner = connection.owner
    process = f"{quoted(owner.process)}[{owner.pid}] " if owner.pid else ""
    unit = f"({quoted(owner.unit)}) " if owner.unit else ""
    return process + unit


def whose(owner: Owner, uid: int) -> Whose:
    """Return by what to group a connection of this owner.

    Anybody may give a process any name, and would hide the connections of another user behind his own.
    """
    if unit := grouping_unit(owner.unit):
        return Whose(NO_USER, unit=unit)
    if owner.container:
        return Whose(NO_USER, owner.container)
    return Whose(uid, process=owner.process)


def bounded(
    groups: Mapping[tuple[Whose, Kind], list[Member]],
) -> Iterator[tuple[Collection[Whose], Kind, list[Member]]]:
    """Yield owners, kind and members of groups: those of MOST_APART as they are, of all others one for each kind.

    Units and containers come first, then the lowest user ids: with subordinate ones (subuid(5)) anybody is as many
    users as he wishes. Each has a first group before the next has a second: anybody may use very many paths.
    """
    numbers: Counter[Whose] = Counter()
    places: dict[tuple[Whose, Kind], tuple[bool, int, Whose]] = {}
    for group in groups:
        owner = group[0]
        one = owner._replace(process="")
        places[group] = owner.user != NO_USER, numbers[one], owner
        numbers[one] += 1
    first = set(sorted(groups, key=places.__getitem__)[:MOST_APART])
    found: dict[tuple[Whose | bool, Kind], tuple[set[Whose], list[Member]]] = {}
    for group, members in groups.items():
        owner, kind = group
        owners, together = found.setdefault((owner if group in first else owner.user != NO_USER, kind), (set(), []))
        owners.add(owner)
        together += members
    for (_, kind), (owners, together) in found.items():
        yield owners, kind, together


def of_owners(owners: Collection[Whose]) -> str:
    """Return whose the connections of a summary are: " of ", then unit, container, process and user, or how many."""
    one, *others = owners
    users = {owner.user for owner in owners}
    if others and one.user == NO_USER:
        return f" of {len(owners)} units and containers"
    if len(users) > 1:
        return f" of {len(users)} users"
    return f" of {named(one._replace(process='') if others else one)}"


def named(owner: Whose) -> str:
    """Return the words for an owner, so that no process or container passes for a unit: anybody may name these."""
    if owner.unit:
        return quoted(owner.unit)
    if owner.container:
        return f"container {quoted(owner.container)}"
    return f"{quoted(owner.process)} (uid {owner.user})" if owner.process else f"uid {owner.user}"


def owner_fields(owners: Collection[Whose]) -> dict[str, Value]:
    """Return the field that the connections of a summary share: the unit, or the user where there is none."""
    one = next(iter(owners))
    if len(owners) == 1 and one.unit:
        return {"KEEPALIVE_UNIT": one.unit}
    return {"KEEPALIVE_UID": one.user} if {owner.user for owner in owners} == {one.user} != {NO_USER} else {}


def _priority(connection: Connection, before: Verdict) -> int:
    """Return the priority by urgency: one lower where the timeout is a guess or evidence, and INFO for good news."""
    if before is Verdict.CUT:
        return INFO
    urgency = {Verdict.CUT: ERROR, Verdict.LATE: WARNING, Verdict.BARE: WARNING}.get(connection.verdict, INFO)
    if not connection.confirmed:
        urgency = max(urgency, WARNING)
    return urgency + (1 if connection.origin.presumed and urgency < INFO else 0)


def _what(connection: Connection, before: Verdict) -> str:
    """Return what happened to the connection, and why."""
    path, timeout = forgetter(connection), f"idle timeout {span(connection.timeout)}, {connection.origin}"
    quiet, packet = WORDS[connection.counts]
    if _is_forgotten_here(connection):
        timeout = f"idle timeout {span(connection.timeout)}, {connection.origin.detail}"
    forgets = f"{path} forgets it in {span(connection.left)} ({quiet} for {span(connection.idle)}; {timeout})"
    due = f"{connection.due.label} is due in {span(connection.due_in)}"
    match connection.verdict:
        case _ if before is Verdict.CUT:
            least = f"idle timeout of {path} is at least {span(connection.timeout)} ({connection.origin})"
            return f"still alive: a packet passed {span(connection.idle)} ago; {least}"
        case Verdict.LATE:
            may_be = connection.due_in < connection.left  # its timer may fire late
            return f"at risk: {due}, {'which may be too late:' if may_be else 'but'} {forgets}"
        case Verdict.BARE:
            return f"at risk: no {packet} is {'' if connection.confirmed else 'known to be '}due, and {forgets}"
        case Verdict.CUT if not connection.confirmed:
            sooner = connection.unanswered_after < connection.timeout
            silence = span(connection.unanswered_after) if sooner else f"up to {span(connection.idle)}"
            return (
                f"presumably expired: packets sent after a silence of {silence} are not answered; {path} has "
                f"presumably forgotten it{', sooner than expected' if sooner else ''} ({timeout})"
            )
        case Verdict.CUT:
            forgot = "has forgotten" if _is_forgotten_here(connection) else "has presumably forgotten"
            return f"expired: {quiet} for {span(connection.idle)}, so {path} {forgot} it ({timeout})"
        case _:
            return f"safe again: {due}, and {forgets}"


def forgetter(connection: Connection) -> str:
    """Return what forgets the connection."""
    return "this host's own firewall" if _is_forgotten_here(connection) else f"path {quoted(connection.path)}"


def _is_forgotten_here(connection: Connection) -> bool:
    return connection.origin.source is Source.FIREWALL


def _remedy(connection: Connection, before: Verdict) -> str:
    """Return what to do about it; nothing for good news. Only Linux can arm the sockets of other programs."""
    remedy = _in_program(connection, before)
    if not remedy or not _is_forgotten_here(connection):
        return remedy
    return f"{remedy}, {'and' if connection.verdict is Verdict.CUT else 'or'} raise {CONNTRACK_TIMEOUT}"


def _in_program(connection: Connection, before: Verdict) -> str:
    verdict = connection.verdict
    if verdict not in REMEDIES or before is Verdict.CUT:
        return ""
    if connection.counts is WhatCounts.DATA and verdict is not Verdict.CUT:
        return f"; {NO_REMEDY}"
    if verdict is Verdict.LATE and connection.due is not Due.KEEPALIVE:
        verdict = Verdict.BARE
    if not connection.netns or verdict is Verdict.CUT:
        return f"; {REMEDIES[verdict]}"
    if connection.subflow:
        return f"; {REMEDIES[verdict]}; {SUBFLOW}"
    return f"; {REMEDIES[verdict]}, or run keepalivectl arm"


def fields_of(connection: Connection) -> dict[str, Value]:
    """Return the fields of a connection; a field that does not apply is left out."""
    owner = connection.owner
    fields: dict[str, Value] = {
        "KEEPALIVE_VERDICT": connection.verdict.label,
        "KEEPALIVE_IDLE_SEC": round(connection.idle, 1),
        "KEEPALIVE_DUE": connection.due.label,
        "KEEPALIVE_LOCAL_ADDRESS": connection.local.address,
        "KEEPALIVE_LOCAL_PORT": connection.local.port,
        "KEEPALIVE_REMOTE_ADDRESS": connection.remote.address,
        "KEEPALIVE_REMOTE_PORT": connection.remote.port,
        "KEEPALIVE_NETNS": connection.netns,
        "KEEPALIVE_COOKIE": connection.cookie,
        "KEEPALIVE_UID": connection.uid,
    }
    if connection.path:
        fields |= {"KEEPALIVE_PATH": connection.path} | _origin(connection)
    fields |= _times(connection)
    if connection.due is not Due.NOTHING and connection.due_in != FOREVER:
        fields["KEEPALIVE_DUE_SEC"] = round(connection.due_in, 1)
    if owner.unit:
        fields["KEEPALIVE_UNIT"] = owner.unit
    if owner.pid:
        fields |= {"KEEPALIVE_PID": owner.pid, "KEEPALIVE_PROCESS": owner.process}
    return fields


def _origin(connection: Connection) -> dict[str, Value]:
    """Return the fields about where the idle timeout comes from, and what it counts."""
    origin = connection.origin
    return {
        "KEEPALIVE_TIMEOUT_ORIGIN": str(origin),
        "KEEPALIVE_TIMEOUT_SOURCE": origin.source.value,
        "KEEPALIVE_TIMEOUT_COUNTS": connection.counts.value,
    }


def _times(connection: Connection) -> dict[str, Value]:
    """Return the fields about the idle timeout, if the path has one and it is known."""
    if not math.isfinite(connection.left):
        return {}
    return {
        "KEEPALIVE_LEFT_SEC": round(connection.left, 1),
        "KEEPALIVE_TIMEOUT_SEC": round(connection.timeout, 1),
    }


def _summary(members: Sequence[Connection], before: Verdict, owners: Collection[Whose]) -> Entry:
    """Return one entry for many connections of one path and verdict; all of them were cut before, or none."""
    urgent = most_urgent(members)
    certainties = 2 * column(members, "confirmed") + column(members, "presumed")
    one_of_each = part(members, np.unique(certainties, return_index=True)[1])
    quiet, packet = WORDS[urgent.counts]
    first = f"the path forgets the first in {span(urgent.left)} (idle timeout {span(urgent.timeout)}, {urgent.origin})"
    what = {
        Verdict.LATE: f"at risk: the next packet is due too late, {first}",
        Verdict.BARE: f"at risk: no {packet} is due, {first}",
        Verdict.CUT: f"expired: {quiet} for longer than {span(urgent.timeout)} ({urgent.origin}), presumably forgotten",
    }.get(urgent.verdict, "safe again")
    if before is Verdict.CUT:
        what = "still alive: packets passed"
    fields: dict[str, Value] = {
        "KEEPALIVE_COUNT": len(members),
        "KEEPALIVE_VERDICT": urgent.verdict.label,
        "KEEPALIVE_PATH": urgent.path,
    }
    fields |= _origin(urgent)
    fields |= _times(urgent) | owner_fields(owners)
    return Entry(
        _event(urgent.verdict, before),
        min(_priority(connection, before) for connection in one_of_each),
        f"{len(members)} connections{of_owners(owners)} on path {quoted(urgent.path)}: {what}; "
        f"for example {urgent.local} -> {urgent.remote}{_remedy(urgent, before)}",
        fields,
    )
