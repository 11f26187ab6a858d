"""What is said of connections whose outlook changed: one by one, or many as one entry."""

from __future__ import annotations

import math
from collections.abc import Iterator

from keepaliveD.log.entries.entry import ERROR, HANDFUL, INFO, WARNING, Entry, Value
from keepaliveD.model.actions import Report
from keepaliveD.model.connections import Connection, Due, Verdict
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.text import quoted


def of_report(report: Report) -> Iterator[Entry]:
    """One entry for each, or for each unit, path and verdict where they are more than a handful."""
    unsaid = report.unsaid or (0,) * len(report.connections)
    told = list(zip(report.connections, report.before, unsaid, strict=True))
    if len(told) <= HANDFUL:
        yield from (_single(*one) for one in told)
        return
    groups: dict[tuple[str, Verdict, str, str], list[tuple[Connection, Verdict, int]]] = {}
    for one in told:
        connection, before, _ = one
        event, owner = _event(connection.verdict, before), connection.owner
        key = (event, connection.verdict, owner.unit or owner.process, connection.path)
        groups.setdefault(key, []).append(one)
    for members in groups.values():
        yield _single(*members[0]) if len(members) == 1 else _summary([one[0] for one in members], members[0][1])


def _single(connection: Connection, before: Verdict, unsaid: int) -> Entry:
    verdict = connection.verdict
    changes = f"; changed {unsaid} times since the last entry" if unsaid > 1 else ""
    return Entry(
        _event(verdict, before),
        _priority(connection, before),
        f"{who(connection)}{connection.local} -> {connection.remote}: {_outlook(connection, before)}{changes}",
        fields_of(connection) | {"KEEPALIVE_BEFORE": before.label},
    )


def _event(verdict: Verdict, before: Verdict) -> str:
    """A connection that was given up and carried a packet is safe again, whatever comes next."""
    return "safe" if before is Verdict.CUT else verdict.label


def who(connection: Connection) -> str:
    """Whom a line is about: process and unit, as far as they are known."""
    owner = connection.owner
    process = f"{quoted(owner.process)}[{owner.pid}] " if owner.pid else ""
    unit = f"({quoted(owner.unit)}) " if owner.unit else ""
    return process + unit


def _priority(connection: Connection, before: Verdict) -> int:
    """By urgency; what rests on a guessed timeout ranks one lower, and that a connection lives is no worry."""
    if before is Verdict.CUT:
        return INFO
    urgency = {Verdict.CUT: ERROR, Verdict.LATE: WARNING, Verdict.BARE: WARNING}.get(connection.verdict, INFO)
    if not connection.confirmed:
        urgency = max(urgency, WARNING)
    guessed = connection.origin == "watch.default_timeout"
    return urgency + (1 if guessed and urgency < INFO else 0)


def _outlook(connection: Connection, before: Verdict) -> str:
    path = f"path {quoted(connection.path)}"
    told = f"{span(connection.timeout)}, {connection.origin}"
    forgets = f"{path} forgets it in {span(connection.left)} (quiet for {span(connection.idle)} of {told})"
    match connection.verdict:
        case _ if before is Verdict.CUT:
            return f"lives after all: a packet passed {span(connection.idle)} ago; {path} is patient for {told}"
        case Verdict.LATE:
            return f"{connection.due.label} is due in {span(connection.due_in)}, too late: {forgets}"
        case Verdict.BARE:
            return f"no packet is due: {forgets}"
        case Verdict.CUT if not connection.confirmed:
            return (
                f"what was sent after a silence is not answered: {path} has presumably forgotten it "
                f"(cut?, quiet for up to {span(connection.idle)} of {told})"
            )
        case Verdict.CUT:
            return f"quiet for {span(connection.idle)}: {path} has presumably forgotten it ({told})"
        case _:
            return f"safe now: {connection.due.label} is due in {span(connection.due_in)}, {forgets}"


def fields_of(connection: Connection) -> dict[str, Value]:
    """The fields of a connection; one that does not apply is left out."""
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
        fields |= {"KEEPALIVE_PATH": connection.path, "KEEPALIVE_TIMEOUT_ORIGIN": connection.origin}
    fields |= _times(connection)
    if connection.due is not Due.NOTHING and connection.due_in != FOREVER:
        fields["KEEPALIVE_DUE_SEC"] = round(connection.due_in, 1)
    if owner.unit:
        fields["KEEPALIVE_UNIT"] = owner.unit
    if owner.pid:
        fields |= {"KEEPALIVE_PID": owner.pid, "KEEPALIVE_PROCESS": owner.process}
    return fields


def _times(connection: Connection) -> dict[str, Value]:
    """Where the path forgets at all, and its timeout is known."""
    if not math.isfinite(connection.left):
        return {}
    return {
        "KEEPALIVE_LEFT_SEC": round(connection.left, 1),
        "KEEPALIVE_TIMEOUT_SEC": round(connection.timeout, 1),
    }


def _summary(members: list[Connection], before: Verdict) -> Entry:
    """Many connections of one unit on one path with one verdict, in one entry; all were cut before, or none."""
    urgent = min(members, key=lambda connection: connection.left)
    what = {
        Verdict.LATE: f"the next packet is due too late, the first is forgotten in {span(urgent.left)}",
        Verdict.BARE: f"no packet is due, the first is forgotten in {span(urgent.left)}",
        Verdict.CUT: f"presumably forgotten after {span(urgent.timeout)} of silence",
    }.get(urgent.verdict, "safe now")
    if before is Verdict.CUT:
        what = "live after all: packets passed"
    unit = urgent.owner.unit or urgent.owner.process
    of_unit = f" of {quoted(unit)}" if unit else ""
    fields: dict[str, Value] = {
        "KEEPALIVE_COUNT": len(members),
        "KEEPALIVE_VERDICT": urgent.verdict.label,
        "KEEPALIVE_PATH": urgent.path,
        "KEEPALIVE_TIMEOUT_ORIGIN": urgent.origin,
    }
    fields |= _times(urgent)
    if urgent.owner.unit:
        fields["KEEPALIVE_UNIT"] = urgent.owner.unit
    return Entry(
        _event(urgent.verdict, before),
        min(_priority(connection, before) for connection in members),
        f"{len(members)} connections{of_unit} on path {quoted(urgent.path)}: {what}, "
        f"such as {urgent.local} -> {urgent.remote}",
        fields,
    )
