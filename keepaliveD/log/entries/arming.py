"""Log entries about the results of arming and disarming: one for each socket, or a summary for many."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from keepaliveD.log.entries.connections import (
    Whose,
    apart,
    bounded,
    fields_of,
    forgetter,
    most_urgent,
    of_owners,
    owner_fields,
    who,
    whose,
)
from keepaliveD.log.entries.entry import HANDFUL, NOTICE, WARNING, Entry, Value
from keepaliveD.log.words import too_long
from keepaliveD.model import requirements
from keepaliveD.model.actions import Arm, Disarm, Outcome
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.duration import FOREVER, exact, span
from keepaliveD.model.keepalive import SocketKeepalive
from keepaliveD.model.questions import Asker
from keepaliveD.model.reports import Counted
from keepaliveD.model.results import RETRIED, Arming, ArmingResult
from keepaliveD.model.rules import Wish
from keepaliveD.model.sockets import Indices
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming.arming import first_matching
from keepaliveD.policy.verdicts.connections import part

UNREPORTED = frozenset(
    {ArmingResult.CLOSED, ArmingResult.LEFT_BY_RULE, ArmingResult.ALREADY_SET}
)  # nothing was done, and nothing is to be done
EVENTS = {ArmingResult.ARMED: "armed", ArmingResult.WOULD_BE_ARMED: "armed", ArmingResult.DISARMED: "disarmed"}
HELP = {
    ArmingResult.SUBFLOW: 'requires watch.engine = "bpf"',
    ArmingResult.OWNER_NOT_FOUND: "it may belong to the kernel, to a process outside this PID namespace, "
    "or to one that the search has not reached in time",
    ArmingResult.OWNER_NOT_VISIBLE: f"requires root, or {requirements.OWNERS.named}",
    ArmingResult.NOT_PERMITTED: "requires root or CAP_SYS_PTRACE, and a kernel.yama.ptrace_scope below 3",
    ArmingResult.OTHER_USER_NAMESPACE: "requires CAP_SYS_PTRACE over that namespace: run in the host's own",
    ArmingResult.FAILED: "the kernel refused",
}
WHY = {  # a socket that was not armed on purpose, and needs more than the name of the result
    ArmingResult.USER_TIMEOUT: ": in an outage its TCP_USER_TIMEOUT would end it sooner than before",
    ArmingResult.PROBE_UNANSWERED: ": to arm it now may end it at once; arm it again once the peer has answered",
    ArmingResult.ONLY_DATA: ": keepalive would not keep the connection; let its program send data more often",
    ArmingResult.CHANGED_SINCE: " by its program or by keepalivectl disarm",
}
WHY_NOT_DISARMED = {
    ArmingResult.PROBE_UNANSWERED: ": to disarm it now would end it; disarm it again once the peer has answered",
}
WARNED = {*HELP, ArmingResult.TOO_LONG, ArmingResult.USER_TIMEOUT, ArmingResult.PROBE_UNANSWERED}
KINDS = 3  # different settings that a summary lists
BEFORE = (
    "KEEPALIVE_BEFORE_ON",
    "KEEPALIVE_BEFORE_IDLE_SEC",
    "KEEPALIVE_BEFORE_INTERVAL_SEC",
    "KEEPALIVE_BEFORE_PROBES",
)
AFTER = (
    "KEEPALIVE_AFTER_ON",
    "KEEPALIVE_AFTER_IDLE_SEC",
    "KEEPALIVE_AFTER_INTERVAL_SEC",
    "KEEPALIVE_AFTER_PROBES",
)


def of_arming(outcome: Outcome) -> Iterator[Entry]:
    """Yield the entries about an arming or disarming; a socket that is tried again makes none yet."""
    unreported = UNREPORTED if not isinstance(outcome.action, Arm) or outcome.action.last else UNREPORTED | RETRIED
    reported = [arming for arming in outcome.armings if arming.result not in unreported]
    few = _count(reported) <= HANDFUL
    groups: dict[tuple[Whose, tuple[ArmingResult, str, Wish | None]], list[Arming]] = {}
    for arming in reported:
        for (owner, path, wish), connections in _apart(arming.connections, outcome).items():
            alike = Arming(connections, arming.result, arming.before, arming.after)
            groups.setdefault((owner, (arming.result, path, wish)), []).append(alike)
    because = outcome.action.because if isinstance(outcome.action, Disarm) else ""
    for owners, (_, _, wish), members in bounded(groups):
        if few or _count(members) == 1:
            said = [_single(one, arming, wish) for arming in members for one in arming.connections]
        else:
            said = [_summary(members, wish, owners)]
        for entry in said:
            told = dataclasses.replace(entry, message=f"{entry.message}, because {because}") if because else entry
            yield asked(told, outcome.action.asker) if isinstance(outcome.action, Arm | Disarm) else told


def of_counted(counted: Counted) -> Entry:
    """Return the entry about sockets of one owner that one rule armed at connect."""
    rule, owner, count = counted
    of_owner = f" of {quoted(owner.unit or owner.container)}" if owner.unit or owner.container else ""
    idle = "auto" if rule.idle is None else exact(rule.idle)
    fields: dict[str, Value] = {
        "KEEPALIVE_RESULT": _label(ArmingResult.ARMED_AT_CONNECT),
        "KEEPALIVE_COUNT": count,
        "KEEPALIVE_RULE": rule.name,
    }
    if owner.unit:
        fields["KEEPALIVE_UNIT"] = owner.unit
    return Entry(
        "armed",
        NOTICE,
        f"{count} new connection{'s' * (count != 1)}{of_owner}: armed at connect by {rule.name}: "
        f"idle {idle}, interval {exact(rule.interval)}, probes {rule.probes}",
        fields,
    )


Kind = tuple[Whose, str, Wish | None]


def _apart(connections: Sequence[Connection], outcome: Outcome) -> dict[Kind, Sequence[Connection]]:
    """Group connections by whose they are, path, and the rule that matched; disarming has no rule."""
    wishes = outcome.action.wishes if isinstance(outcome.action, Arm) else ()
    by_kind: dict[Kind, list[Indices]] = {}
    for owner, path, user, _, rows in apart(connections, np.zeros(len(connections), np.uint8)):
        by_kind.setdefault((whose(owner, user), path, first_matching(wishes, owner)), []).append(rows)
    return {kind: part(connections, np.concatenate(rows)) for kind, rows in by_kind.items()}


def _count(armings: Sequence[Arming]) -> int:
    return sum(len(arming.connections) for arming in armings)


def _single(connection: Connection, arming: Arming, wish: Wish | None) -> Entry:
    because = _because(connection, arming.result) if wish else ""
    return Entry(
        EVENTS.get(arming.result, "unarmed"),
        _priority(arming.result),
        f"{who(connection)}{connection.local} -> {connection.remote}: {_what([arming], wish, connection)}{because}",
        fields_of(connection) | _fields([arming], wish),
    )


def _summary(members: Sequence[Arming], wish: Wish | None, owners: Collection[Whose]) -> Entry:
    """Return one entry for many connections of one path with the same result; it names one of them."""
    urgent = min((most_urgent(arming.connections) for arming in members), key=lambda connection: connection.left)
    on_path = f" on path {quoted(urgent.path)}" if urgent.path else ""
    count = _count(members)
    fields: dict[str, Value] = {"KEEPALIVE_COUNT": count}
    if urgent.path:
        fields["KEEPALIVE_PATH"] = urgent.path
    because = _because(urgent, members[0].result) if wish else ""
    return Entry(
        EVENTS.get(members[0].result, "unarmed"),
        _priority(members[0].result),
        f"{count} connections{of_owners(owners)}{on_path}: {_what(members, wish, urgent)}; "
        f"for example {urgent.local} -> {urgent.remote}{because}",
        fields | owner_fields(owners) | _fields(members, wish),
    )


def _priority(result: ArmingResult) -> int:
    return WARNING if result in WARNED else NOTICE


def _what(members: Sequence[Arming], wish: Wish | None, connection: Connection) -> str:
    """Return the result of arming these sockets, or, without a wish, of disarming them."""
    result, wanted = members[0].result, "armed" if wish else "disarmed"
    rule = wish.rule.name if wish else ""
    before, after = (_listed(members, which) for which in ("before", "after"))
    if result in HELP:
        changed = f"; it has {after} now" if after != before else ""
        return f"cannot be {wanted}: {result.value}: {HELP[result]}{changed}"
    match result:
        case ArmingResult.ARMED if before == after:
            said = f"timer restarted by {rule}: {after}"
        case ArmingResult.ARMED:
            said = f"armed by {rule}: {after} (before: {before})"
        case ArmingResult.WOULD_BE_ARMED:
            said = f"would be armed by {rule}: {after}"
        case ArmingResult.DISARMED:
            said = f"disarmed: {after} (before: {before})"
        case ArmingResult.TOO_LONG if wish:
            said = f"not armed by {rule}: {too_long(wish.times, connection)}"
        case _:
            why = (WHY if wish else WHY_NOT_DISARMED).get(result, "")
            said = f"not {wanted}: {result.value}{why}" + (f" ({after})" if after else "")
    return said


def _listed(members: Sequence[Arming], which: str) -> str:
    """Return the keepalive of the sockets before or after, with counts where they differ."""
    counts: Counter[str] = Counter()
    for arming in members:
        if one := getattr(arming, which):
            counts[str(one)] += len(arming.connections)
    if len(counts) <= 1:
        return "".join(counts)
    listed = [f"{count} {one}" for one, count in counts.most_common(KINDS)]
    rest = counts.total() - sum(count for _, count in counts.most_common(KINDS))
    return "; ".join([*listed, *([f"{rest} others"] if rest else [])])


def _because(connection: Connection, result: ArmingResult) -> str:
    """Return why the connection is, or was, at risk; nothing where it is not."""
    so, was = (", because", "was") if EVENTS.get(result) == "armed" else ("; at risk:", "is")
    forgets = f"{forgetter(connection)} forgets it in {span(max(0.0, connection.left))}"
    match connection.verdict:
        case Verdict.LATE:
            return f"{so} {connection.due.label} {was} due in {span(max(0.0, connection.due_in))}, and {forgets}"
        case Verdict.BARE:
            return f"{so} no packet {was} due, and {forgets}"
        case Verdict.CUT:
            return f"{so} {forgetter(connection)} has presumably forgotten it"
        case _ if connection.timeout == FOREVER and EVENTS.get(result) == "armed":
            return f", although path {quoted(connection.path)} never forgets it"
        case _:
            return ""


def _fields(members: Sequence[Arming], wish: Wish | None) -> dict[str, Value]:
    """Return the fields about arming that all members share."""
    fields: dict[str, Value] = {"KEEPALIVE_RESULT": _label(members[0].result)}
    if wish:
        fields["KEEPALIVE_RULE"] = wish.rule.name
    each = [_settings(BEFORE, arming.before) | _settings(AFTER, arming.after) for arming in members]
    common = set.intersection(*(set(one.items()) for one in each))
    return fields | {name: value for name, value in each[0].items() if (name, value) in common}


def _settings(names: Sequence[str], keepalive: SocketKeepalive | None) -> dict[str, Value]:
    return dict(zip(names, (int(keepalive.on), *keepalive.times), strict=True)) if keepalive else {}


def asked(entry: Entry, asker: Asker | None) -> Entry:
    """Return the entry with who has asked the daemon for it, if anybody has."""
    if asker is None:
        return entry
    entry = by_hand(entry, asker.user)
    return dataclasses.replace(entry, fields={**entry.fields, "KEEPALIVE_BY_PID": asker.process})


def by_hand(entry: Entry, uid: int) -> Entry:
    """Return the entry with the fields for arming by hand: the rule "hand", and the user."""
    return dataclasses.replace(entry, fields={**entry.fields, "KEEPALIVE_RULE": "hand", "KEEPALIVE_BY_UID": uid})


def _label(result: ArmingResult) -> str:
    """Return the value of the field: the words of the message, joined."""
    return result.value.lower().replace(" ", "-")
