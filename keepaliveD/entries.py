"""What is said: every outcome as log entries, each a line for people and fields for machines.

docs/journal.md explains every message id and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from keepaliveD.duration import span
from keepaliveD.model import (
    FOREVER,
    Because,
    Connection,
    Counts,
    Due,
    Outcome,
    Report,
    ReportDrift,
    ReportUnseen,
    SetSystemKeepalive,
    Verdict,
)
from keepaliveD.text import quoted

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)

HANDFUL = 5  # connections that one scan may announce one by one

MESSAGE_IDS = {
    "late": "4eb802c1b15a47109c3a1ed17eb3ce05",
    "bare": "07f74e8cbf4e4d95b930dc11c19e4d63",
    "cut": "d69fb0889cb145e7b33352387e93d814",
    "safe": "78af44fadbd64a689ff1f2268d2cc3ff",
    "applied": "9bf4376bf36f4b1bb7bab920dd7c875f",
    "drift": "adfaeb3e39054cf29169965400f6ba6a",
    "restored": "2d49ef7e5df7489087930464f2846417",
    "refused": "c09fa3436aea4a8dac043e0049a3efb9",
    "unseen": "d91d02da8ed44756b9b4fd2af751d319",
    "started": "7a869b3fd7264f249d922b9a57013906",
    "reloaded": "785b2006b216426f8856e72c4fe56341",
    "reload-failed": "acb5c70eb8e04758973fc3b367752362",
    "scan-failed": "e1d784741265454fbf69074e081121b1",
}

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry. `message` is one printable line; `fields` have journald's kind of names."""

    event: str
    priority: int
    message: str
    fields: Mapping[str, Value] = field(default_factory=dict)

    @property
    def message_id(self) -> str:
        """What `journalctl MESSAGE_ID=` selects."""
        return MESSAGE_IDS[self.event]


def of(outcome: Outcome) -> Iterator[Entry]:
    """Everything to say about an outcome."""
    if outcome.refused:
        yield Entry("refused", ERROR, str(outcome.refused))
        return
    match outcome.action:
        case Report() as report:
            yield from _report(report)
        case SetSystemKeepalive() as action:
            yield from _settings(action, dry_run=outcome.dry_run)
        case ReportDrift() as drift:
            yield from _drift(drift)
        case ReportUnseen(namespaces) if namespaces:
            yield Entry(
                "unseen",
                WARNING,
                f"{namespaces} network namespaces cannot be watched: "
                "entering them needs CAP_SYS_ADMIN and CAP_SYS_PTRACE",
                {"KEEPALIVE_NAMESPACES": namespaces},
            )


def _settings(action: SetSystemKeepalive, *, dry_run: bool) -> Iterator[Entry]:
    restored = action.because is Because.RESTORE
    for key, value in action.values.items():
        found = action.found[key]
        reason = "" if action.because is Because.CONFIGURED else f" ({action.because.value})"
        message = f"{key}: found {found}, {'would set' if dry_run else 'set to'} {value}{reason}"
        yield Entry(
            "restored" if restored else "drift" if action.because is Because.DRIFT else "applied",
            WARNING if action.because is Because.DRIFT else NOTICE,
            message,
            _setting_fields(key, found, value) | {"KEEPALIVE_BECAUSE": action.because.value},
        )


def _setting_fields(key: str, found: int, value: int) -> dict[str, Value]:
    return {"KEEPALIVE_SYSCTL": key, "KEEPALIVE_FOUND": found, "KEEPALIVE_VALUE": value}


def _drift(drift: ReportDrift) -> Iterator[Entry]:
    left = "left to whoever set it" if drift.yielded else "left so (keepalive.on_drift = warn)"
    for key, found in drift.found.items():
        wanted = drift.wanted[key]
        message = f"{key}: was {wanted}, somebody else set it to {found}; {left}"
        yield Entry("drift", WARNING, message, _setting_fields(key, found, wanted))


def left_alone(values: Mapping[str, int]) -> Iterator[Entry]:
    """Settings that are not given back because they are no longer ours."""
    for key, value in values.items():
        message = f"{key}: not given back: somebody else set it to {value} since"
        yield Entry("drift", NOTICE, message, {"KEEPALIVE_SYSCTL": key, "KEEPALIVE_FOUND": value})


def _report(report: Report) -> Iterator[Entry]:
    told = list(zip(report.connections, report.before, strict=True))
    if len(told) <= HANDFUL:
        yield from (_single(connection, before) for connection, before in told)
        return
    groups: dict[tuple[Verdict, str, str], list[tuple[Connection, Verdict]]] = {}
    for connection, before in told:
        key = (connection.verdict, connection.owner.unit or connection.owner.process, connection.path)
        groups.setdefault(key, []).append((connection, before))
    for members in groups.values():
        yield _single(*members[0]) if len(members) == 1 else _summary([connection for connection, _ in members])


def _single(connection: Connection, before: Verdict) -> Entry:
    verdict = connection.verdict
    who = _who(connection)
    return Entry(
        _event(verdict, before),
        _priority(connection),
        f"{who}{connection.local} -> {connection.remote}: {_outlook(connection, before)}",
        _fields(connection) | {"KEEPALIVE_BEFORE": before.label},
    )


def _event(verdict: Verdict, before: Verdict) -> str:
    """A connection that was given up and carried a packet is safe again, whatever comes next."""
    return "safe" if before is Verdict.CUT else verdict.label


def _who(connection: Connection) -> str:
    owner = connection.owner
    process = f"{quoted(owner.process)}[{owner.pid}] " if owner.pid else ""
    unit = f"({quoted(owner.unit)}) " if owner.unit else ""
    return process + unit


def _priority(connection: Connection) -> int:
    """By urgency; what rests on a guessed timeout ranks one lower."""
    urgency = {Verdict.CUT: ERROR, Verdict.LATE: WARNING, Verdict.BARE: WARNING}.get(connection.verdict, INFO)
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
        case Verdict.CUT:
            return f"quiet for {span(connection.idle)}: {path} has presumably forgotten it ({told})"
        case _:
            return f"safe now: {connection.due.label} is due in {span(connection.due_in)}, {forgets}"


def _fields(connection: Connection) -> dict[str, Value]:
    """The fields of a connection; one that does not apply is left out."""
    owner = connection.owner
    fields: dict[str, Value] = {
        "KEEPALIVE_VERDICT": connection.verdict.label,
        "KEEPALIVE_LEFT_SEC": round(connection.left, 1),
        "KEEPALIVE_IDLE_SEC": round(connection.idle, 1),
        "KEEPALIVE_DUE": connection.due.label,
        "KEEPALIVE_PATH": connection.path,
        "KEEPALIVE_TIMEOUT_SEC": round(connection.timeout, 1),
        "KEEPALIVE_TIMEOUT_ORIGIN": connection.origin,
        "KEEPALIVE_LOCAL_ADDRESS": connection.local.address,
        "KEEPALIVE_LOCAL_PORT": connection.local.port,
        "KEEPALIVE_REMOTE_ADDRESS": connection.remote.address,
        "KEEPALIVE_REMOTE_PORT": connection.remote.port,
        "KEEPALIVE_NETNS": connection.netns,
        "KEEPALIVE_COOKIE": connection.cookie,
        "KEEPALIVE_UID": connection.uid,
    }
    if connection.due is not Due.NOTHING and connection.due_in != FOREVER:
        fields["KEEPALIVE_DUE_SEC"] = round(connection.due_in, 1)
    if owner.unit:
        fields["KEEPALIVE_UNIT"] = owner.unit
    if owner.pid:
        fields |= {"KEEPALIVE_PID": owner.pid, "KEEPALIVE_PROCESS": owner.process}
    return fields


def _summary(members: list[Connection]) -> Entry:
    """Many connections of one unit on one path with one verdict, in one entry."""
    urgent = min(members, key=lambda connection: connection.left)
    what = {
        Verdict.LATE: f"the next packet is due too late, the first is forgotten in {span(urgent.left)}",
        Verdict.BARE: f"no packet is due, the first is forgotten in {span(urgent.left)}",
        Verdict.CUT: f"presumably forgotten after {span(urgent.timeout)} of silence",
    }.get(urgent.verdict, "safe now")
    unit = urgent.owner.unit or urgent.owner.process
    of_unit = f" of {quoted(unit)}" if unit else ""
    fields: dict[str, Value] = {
        "KEEPALIVE_COUNT": len(members),
        "KEEPALIVE_VERDICT": urgent.verdict.label,
        "KEEPALIVE_LEFT_SEC": round(urgent.left, 1),
        "KEEPALIVE_PATH": urgent.path,
        "KEEPALIVE_TIMEOUT_SEC": round(urgent.timeout, 1),
        "KEEPALIVE_TIMEOUT_ORIGIN": urgent.origin,
    }
    if urgent.owner.unit:
        fields["KEEPALIVE_UNIT"] = urgent.owner.unit
    return Entry(
        urgent.verdict.label,
        min(_priority(connection) for connection in members),
        f"{len(members)} connections{of_unit} on path {quoted(urgent.path)}: {what}, "
        f"such as {urgent.local} -> {urgent.remote}",
        fields,
    )


def counts_line(counts: Counts) -> str:
    """One line of counts, for the service manager and the terminal."""
    verdicts = (Verdict.SAFE, Verdict.LATE, Verdict.BARE, Verdict.CUT, Verdict.UNKNOWN)
    numbers = ", ".join(
        f"{counts.by_verdict[verdict]} {verdict.label}" for verdict in verdicts if counts.by_verdict.get(verdict)
    )
    namespaces = f" in {counts.namespaces} namespaces" if counts.namespaces > 1 else ""
    return f"Watching {counts.total} connections{namespaces}" + (f": {numbers}" if numbers else "")
