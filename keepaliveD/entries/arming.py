"""What is said of sockets that were armed, could not be, or were left: one by one, or many as one entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keepaliveD.duration import span
from keepaliveD.entries.connections import fields_of, who
from keepaliveD.entries.entry import HANDFUL, NOTICE, WARNING, Entry, Value
from keepaliveD.model import SLIPPED, Arm, Arming, Connection, Counted, Disarm, Fate, Outcome, Verdict
from keepaliveD.policy.arming import choose
from keepaliveD.text import quoted

UNTOLD = (Fate.GONE, Fate.OBSERVED, Fate.ENOUGH)  # nothing was done, and nothing is to be done
EVENTS = {Fate.ARMED: "armed", Fate.WOULD: "armed", Fate.DISARMED: "disarmed"}
HELP = {
    Fate.UNHELD: "it may belong to the kernel, or to a process that CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH would show",
    Fate.NOT_PERMITTED: "it takes CAP_SYS_PTRACE, and a kernel.yama.ptrace_scope below 3",
    Fate.OTHER_USER_NAMESPACE: "it takes CAP_SYS_PTRACE over that namespace: run in the host's own",
    Fate.FAILED: "its settings stand as before",
}


def of_arming(outcome: Outcome) -> Iterator[Entry]:
    """Everything to say of it."""
    untold = UNTOLD if not isinstance(outcome.action, Arm) or outcome.action.last else {*UNTOLD, *SLIPPED}
    told = [arming for arming in outcome.armings if arming.fate not in untold]
    few = _count(told) <= HANDFUL
    groups: dict[tuple[Fate, str, str], list[Arming]] = {}
    for arming in told:
        for (unit, path), connections in _apart(arming.connections).items():
            alike = Arming(tuple(connections), arming.fate, arming.before, arming.after)
            groups.setdefault((arming.fate, unit, path), []).append(alike)
    for members in groups.values():
        if few or _count(members) == 1:
            yield from (_single(one, arming, outcome) for arming in members for one in arming.connections)
        else:
            yield _summary(members, outcome)


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


def _apart(connections: Sequence[Connection]) -> dict[tuple[str, str], list[Connection]]:
    """By unit, or process, and path."""
    groups: dict[tuple[str, str], list[Connection]] = {}
    for one in connections:
        groups.setdefault((one.owner.unit or one.owner.process, one.path), []).append(one)
    return groups


def _count(armings: Sequence[Arming]) -> int:
    return sum(len(arming.connections) for arming in armings)


def _single(connection: Connection, arming: Arming, outcome: Outcome) -> Entry:
    rule = _rule(connection, outcome)
    return Entry(
        EVENTS.get(arming.fate, "unarmed"),
        _priority(arming.fate),
        f"{who(connection)}{connection.local} -> {connection.remote}: {_told(connection, arming, rule, outcome)}",
        fields_of(connection) | _fields(arming, rule),
    )


def _summary(members: Sequence[Arming], outcome: Outcome) -> Entry:
    """Many of one unit on one path with one fate."""
    each = ((connection, arming) for arming in members for connection in arming.connections)
    connection, urgent = min(each, key=lambda member: member[0].left)
    rule = _rule(connection, outcome)
    unit = connection.owner.unit or connection.owner.process
    of_unit = f" of {quoted(unit)}" if unit else ""
    fields: dict[str, Value] = {"KEEPALIVE_COUNT": _count(members), "KEEPALIVE_PATH": connection.path}
    if connection.owner.unit:
        fields["KEEPALIVE_UNIT"] = connection.owner.unit
    many = f"{_count(members)} connections{of_unit} on path {quoted(connection.path)}"
    such = f"{connection.local} -> {connection.remote}"
    return Entry(
        EVENTS.get(urgent.fate, "unarmed"),
        _priority(urgent.fate),
        f"{many}: {_told(connection, urgent, rule, outcome)}, such as {such}",
        fields | _fields(urgent, rule),
    )


def _rule(connection: Connection, outcome: Outcome) -> str:
    wish = choose(outcome.action.wishes, connection.owner) if isinstance(outcome.action, Arm) else None
    return wish.rule.name if wish else ""


def _priority(fate: Fate) -> int:
    return WARNING if fate in HELP else NOTICE


def _told(connection: Connection, arming: Arming, rule: str, outcome: Outcome) -> str:
    if isinstance(outcome.action, Disarm):
        return _what(arming, rule, "disarmed")
    return _what(arming, rule, "armed") + _because(connection)


def _what(arming: Arming, rule: str, wanted: str) -> str:
    stands = f" ({arming.after})" if arming.after else ""
    match arming.fate:
        case Fate.ARMED:
            return f"armed by {rule}: {arming.after} (before: {arming.before})"
        case Fate.WOULD:
            return f"would be armed by {rule}: {arming.after}"
        case Fate.DISARMED:
            return f"disarmed: {arming.after} (before: {arming.before})"
        case fate if fate in HELP:
            return f"cannot be {wanted}: {fate.value}; {HELP[fate]}"
        case fate:
            return f"not {wanted}: {fate.value}{stands}"


def _because(connection: Connection) -> str:
    """What made it a case for arming; nothing where it is no longer one."""
    forgets = f"path {quoted(connection.path)} forgets it in {span(max(0.0, connection.left))}"
    match connection.verdict:
        case Verdict.LATE:
            return f", because {connection.due.label} was due in {span(max(0.0, connection.due_in))}, and {forgets}"
        case Verdict.BARE:
            return f", because no packet was due, and {forgets}"
        case Verdict.CUT:
            return f", because path {quoted(connection.path)} has presumably forgotten it"
        case _:
            return ""


def _fields(arming: Arming, rule: str) -> dict[str, Value]:
    fields: dict[str, Value] = {"KEEPALIVE_FATE": _label(arming.fate)}
    if rule:
        fields["KEEPALIVE_RULE"] = rule
    if before := arming.before:
        fields |= {
            "KEEPALIVE_BEFORE_ON": int(before.on),
            "KEEPALIVE_BEFORE_IDLE_SEC": before.times.idle,
            "KEEPALIVE_BEFORE_INTERVAL_SEC": before.times.interval,
            "KEEPALIVE_BEFORE_PROBES": before.times.probes,
        }
    if after := arming.after:
        fields |= {
            "KEEPALIVE_AFTER_ON": int(after.on),
            "KEEPALIVE_AFTER_IDLE_SEC": after.times.idle,
            "KEEPALIVE_AFTER_INTERVAL_SEC": after.times.interval,
            "KEEPALIVE_AFTER_PROBES": after.times.probes,
        }
    return fields


def _label(fate: Fate) -> str:
    return fate.name.lower().replace("_", "-")
