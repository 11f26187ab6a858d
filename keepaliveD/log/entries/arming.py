"""What is said of sockets that were armed, could not be, or were left: one by one, or many as one entry."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from keepaliveD.log.entries.connections import fields_of, who
from keepaliveD.log.entries.entry import HANDFUL, NOTICE, WARNING, Entry, Value
from keepaliveD.model.actions import Arm, Counted
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.duration import span
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import RETRIED, Arming, Fate, Outcome
from keepaliveD.model.rules import Wish
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming import choose
from keepaliveD.policy.settle import longest

UNTOLD = frozenset({Fate.GONE, Fate.OBSERVED, Fate.ENOUGH})  # nothing was done, and nothing is to be done
EVENTS = {Fate.ARMED: "armed", Fate.WOULD: "armed", Fate.DISARMED: "disarmed"}
HELP = {
    Fate.SUBFLOW: 'requires watch.engine = "bpf"',
    Fate.UNHELD: "it may belong to the kernel, or to a process outside this PID namespace",
    Fate.UNSEEN: "requires CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    Fate.NOT_PERMITTED: "requires CAP_SYS_PTRACE, and a kernel.yama.ptrace_scope below 3",
    Fate.OTHER_USER_NAMESPACE: "requires CAP_SYS_PTRACE over that namespace: run in the host's own",
    Fate.FAILED: "the kernel refused",
}
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
    """Everything to say of it; what will be tried again is not told yet."""
    untold = UNTOLD if not isinstance(outcome.action, Arm) or outcome.action.last else UNTOLD | RETRIED
    told = [arming for arming in outcome.armings if arming.fate not in untold]
    few = _count(told) <= HANDFUL
    groups: dict[tuple[Fate, str, str, Wish | None], list[Arming]] = {}
    for arming in told:
        for (unit, path, wish), connections in _apart(arming.connections, outcome).items():
            alike = Arming(tuple(connections), arming.fate, arming.before, arming.after)
            groups.setdefault((arming.fate, unit, path, wish), []).append(alike)
    for (_, _, _, wish), members in groups.items():
        if few or _count(members) == 1:
            yield from (_single(one, arming, wish) for arming in members for one in arming.connections)
        else:
            yield _summary(members, wish)


def of_counted(counted: Counted) -> Entry:
    """Sockets that were armed at connect, of one owner by one rule."""
    rule, owner, count = counted
    of_owner = f" of {quoted(owner.unit or owner.container)}" if owner.unit or owner.container else ""
    idle = "auto" if rule.idle is None else f"{rule.idle}s"
    fields: dict[str, Value] = {
        "KEEPALIVE_FATE": _label(Fate.ARMED_AT_CONNECT),
        "KEEPALIVE_COUNT": count,
        "KEEPALIVE_RULE": rule.name,
    }
    if owner.unit:
        fields["KEEPALIVE_UNIT"] = owner.unit
    return Entry(
        "armed",
        NOTICE,
        f"{count} new connection{'s' * (count != 1)}{of_owner}: armed at connect by {rule.name}: "
        f"idle {idle}, interval {rule.interval}s, probes {rule.probes}",
        fields,
    )


Kind = tuple[str, str, Wish | None]


def _apart(connections: Sequence[Connection], outcome: Outcome) -> dict[Kind, list[Connection]]:
    """By unit, or process, and path, and by the rule that counted; none does for disarming."""
    wishes = outcome.action.wishes if isinstance(outcome.action, Arm) else ()
    same = not any(wish.rule.asks_for_owner for wish in wishes)
    groups: dict[tuple[str, str, str], list[Connection]] = {}
    for one in connections:
        owner = one.owner
        groups.setdefault((owner.unit or owner.process, one.path, "" if same else owner.process), []).append(one)
    by_kind: dict[Kind, list[Connection]] = {}
    for (unit, path, _), members in groups.items():
        by_kind.setdefault((unit, path, choose(wishes, members[0].owner)), []).extend(members)
    return by_kind


def _count(armings: Sequence[Arming]) -> int:
    return sum(len(arming.connections) for arming in armings)


def _single(connection: Connection, arming: Arming, wish: Wish | None) -> Entry:
    because = _because(connection, arming.fate) if wish else ""
    return Entry(
        EVENTS.get(arming.fate, "unarmed"),
        _priority(arming.fate),
        f"{who(connection)}{connection.local} -> {connection.remote}: {_what([arming], wish, connection)}{because}",
        fields_of(connection) | _fields([arming], wish),
    )


def _summary(members: Sequence[Arming], wish: Wish | None) -> Entry:
    """Many of one unit on one path with one fate: what all have in common, and one of them as an example."""
    every = [connection for arming in members for connection in arming.connections]
    urgent = min(every, key=lambda connection: connection.left)
    unit = urgent.owner.unit or urgent.owner.process
    of_unit = f" of {quoted(unit)}" if unit else ""
    on_path = f" on path {quoted(urgent.path)}" if urgent.path else ""
    fields: dict[str, Value] = {"KEEPALIVE_COUNT": len(every)}
    if urgent.path:
        fields["KEEPALIVE_PATH"] = urgent.path
    if urgent.owner.unit:
        fields["KEEPALIVE_UNIT"] = urgent.owner.unit
    because = _because(urgent, members[0].fate) if wish else ""
    return Entry(
        EVENTS.get(members[0].fate, "unarmed"),
        _priority(members[0].fate),
        f"{len(every)} connections{of_unit}{on_path}: {_what(members, wish, urgent)}; "
        f"such as {urgent.local} -> {urgent.remote}{because}",
        fields | _fields(members, wish),
    )


def _priority(fate: Fate) -> int:
    return WARNING if fate in HELP or fate in (Fate.TOO_LONG, Fate.USER_TIMEOUT) else NOTICE


def _what(members: Sequence[Arming], wish: Wish | None, connection: Connection) -> str:
    """What became of them; without a wish they were to be disarmed."""
    fate, wanted = members[0].fate, "armed" if wish else "disarmed"
    rule = wish.rule.name if wish else ""
    before, after = (_listed(members, which) for which in ("before", "after"))
    if fate in HELP:
        changed = f"; it has {after} now" if after != before else ""
        return f"cannot be {wanted}: {fate.value}: {HELP[fate]}{changed}"
    match fate:
        case Fate.ARMED if before == after:
            said = f"timer restarted by {rule}: {after}"
        case Fate.ARMED:
            said = f"armed by {rule}: {after} (before: {before})"
        case Fate.WOULD:
            said = f"would be armed by {rule}: {after}"
        case Fate.DISARMED:
            said = f"disarmed: {after} (before: {before})"
        case Fate.TOO_LONG if wish:
            said = f"not armed by {rule}: {_too_long(wish.times, connection)}"
        case _:
            said = f"not {wanted}: {fate.value}" + (f" ({after})" if after else "")
    return said


def _too_long(times: Keepalive, connection: Connection) -> str:
    """Which time it is, and what would be right."""
    name, time = ("idle", times.idle) if times.idle >= times.interval else ("interval", times.interval)
    most = longest(connection.timeout)
    remedy = f'use idle = "auto", or at most {most}s' if most else "no whole seconds are short enough"
    forgets = f"path {quoted(connection.path)} forgets after {span(connection.timeout)}"
    return f"{name} {time}s is too long: {forgets}; {remedy}"


def _listed(members: Sequence[Arming], which: str) -> str:
    """What stood or stands there, how often each where it does not read the same in all."""
    counts: Counter[str] = Counter()
    for arming in members:
        if one := getattr(arming, which):
            counts[str(one)] += len(arming.connections)
    if len(counts) <= 1:
        return "".join(counts)
    listed = [f"{count} {one}" for one, count in counts.most_common(KINDS)]
    rest = counts.total() - sum(count for _, count in counts.most_common(KINDS))
    return "; ".join([*listed, *([f"{rest} others"] if rest else [])])


def _because(connection: Connection, fate: Fate) -> str:
    """What made it a case for arming, or threatens it still where it was not armed; nothing where that is over."""
    so, was = (", because", "was") if EVENTS.get(fate) == "armed" else ("; at risk:", "is")
    forgets = f"path {quoted(connection.path)} forgets it in {span(max(0.0, connection.left))}"
    match connection.verdict:
        case Verdict.LATE:
            return f"{so} {connection.due.label} {was} due in {span(max(0.0, connection.due_in))}, and {forgets}"
        case Verdict.BARE:
            return f"{so} no packet {was} due, and {forgets}"
        case Verdict.CUT:
            return f"{so} path {quoted(connection.path)} has presumably forgotten it"
        case _:
            return ""


def _fields(members: Sequence[Arming], wish: Wish | None) -> dict[str, Value]:
    """Those that are the same for all members."""
    fields: dict[str, Value] = {"KEEPALIVE_FATE": _label(members[0].fate)}
    if wish:
        fields["KEEPALIVE_RULE"] = wish.rule.name
    each = [_settings(BEFORE, arming.before) | _settings(AFTER, arming.after) for arming in members]
    common = set.intersection(*(set(one.items()) for one in each))
    return fields | {name: value for name, value in each[0].items() if (name, value) in common}


def _settings(names: Sequence[str], keepalive: SocketKeepalive | None) -> dict[str, Value]:
    return dict(zip(names, (int(keepalive.on), *keepalive.times), strict=True)) if keepalive else {}


def by_hand(entry: Entry, uid: int) -> Entry:
    """The same, of what this user asked for."""
    return dataclasses.replace(entry, fields={**entry.fields, "KEEPALIVE_RULE": "hand", "KEEPALIVE_BY_UID": uid})


def _label(fate: Fate) -> str:
    return fate.name.lower().replace("_", "-")
