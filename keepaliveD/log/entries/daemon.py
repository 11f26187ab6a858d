"""Log entries about the daemon itself: start, reload, failed scans; and the line that says how it is."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD import __version__
from keepaliveD.log.entries.entry import ERROR, INFO, NOTICE, WARNING, Entry, Value
from keepaliveD.model.autopsy import Tally
from keepaliveD.model.causes import Foretold
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.reports import (
    ReportBlind,
    ReportDamaged,
    ReportDoubts,
    ReportEngine,
    ReportOldServices,
    ReportRefused,
    ReportReloaded,
    ReportReloadFailed,
    ReportStarted,
    ReportStillArmed,
)
from keepaliveD.model.status import Status
from keepaliveD.model.text import connections

ScanReports = ReportEngine | ReportBlind | ReportDamaged
DaemonReports = (
    ReportStarted
    | ReportReloaded
    | ReportReloadFailed
    | ReportDoubts
    | ReportRefused
    | ReportOldServices
    | ReportStillArmed
    | ScanReports
)


def of_daemon(report: DaemonReports) -> Iterator[Entry]:
    """Yield the entries about the daemon itself."""
    match report:
        case ReportStarted():
            yield from _of_started(report)
        case ReportReloaded(status, at_connect, unseen):
            summary = f"configuration reloaded: {_summary(status)}"
            yield Entry("reloaded", NOTICE, _joined(summary, *_short("", unseen), at_connect), _reasons("", unseen))
        case ReportReloadFailed(lines):
            yield from (Entry("reload-failed", ERROR, line) for line in lines)
        case ReportDoubts(lines):
            yield from (Entry("doubtful", WARNING, f"configuration: {line}") for line in lines)
        case ReportRefused(reason):
            yield Entry("refused", ERROR, reason)
        case ReportOldServices():
            yield _of_old_services(report)
        case ReportStillArmed():
            yield from _of_still_armed(report)
        case _:
            yield from _of_scans(report)


def _of_scans(report: ScanReports) -> Iterator[Entry]:
    match report:
        case ReportEngine(description):
            yield Entry("scan-failed", WARNING, f"switched to the {description}")
        case ReportBlind(""):
            yield Entry("scan-failed", NOTICE, "scan succeeded; connections are being watched again")
        case ReportBlind(reason):
            yield Entry("scan-failed", ERROR, reason)
        case ReportDamaged(lines):
            yield from (Entry("record", ERROR, line) for line in lines)


def _of_started(report: ReportStarted) -> Iterator[Entry]:
    yield from (Entry("started", NOTICE, note) for note in report.notes)
    summary = f"tcp-keepalived {__version__}: {_summary(report.status)}"
    how = report.engine_description, report.unseen
    yield Entry("started", INFO, _joined(summary, *_short(*how), _at_connect(report)), _reasons(*how))


def _at_connect(report: ReportStarted) -> str:
    """Return what is said of arming at connect, without a reason that the engine has as well."""
    reason = report.engine_description.partition(" (")[2].partition(": ")[0]
    return report.at_connect.partition(f" ({reason}: ")[0] if reason else report.at_connect


def _short(engine: str, unseen: str) -> Iterator[str]:
    """Yield the engine and what cannot be seen of ends, without the reasons, and who tells these."""
    name, _, hindered = engine.partition(" (")
    yield name
    yield unseen.partition(": ")[0]
    if hindered or unseen:
        yield "see keepalivectl status"


def _reasons(engine: str, unseen: str) -> dict[str, Value]:
    """Return the same with the reasons, as fields."""
    fields: dict[str, Value] = {"KEEPALIVE_ENGINE": engine, "KEEPALIVE_UNSEEN": unseen}
    return {name: value for name, value in fields.items() if value}


def _of_old_services(report: ReportOldServices) -> Entry:
    if report.unknown:
        return Entry("applied", NOTICE, f"cannot list services that use the old settings: {report.unknown}")
    listening = ", ".join(report.ends)
    return Entry("applied", NOTICE, f"restart the services listening on {listening}: they still use the old settings")


def _of_still_armed(report: ReportStillArmed) -> Iterator[Entry]:
    if count := report.count:
        stay, them = ("stays", "it") if count == 1 else ("stay", "them")
        message = f"{connections(count)} {stay} armed; keepalivectl disarm restores {them}"
        if report.missed:
            unread = "ended since, or armed still where not all connections can be read"
            message = f"{connections(count)} on record not found: {unread}; run keepalivectl disarm"
        yield Entry("still-armed", NOTICE, message, {"KEEPALIVE_COUNT": count})


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def status_line(status: Status) -> str:
    """Return in one line how the daemon is."""
    results = ", ".join(f"{result.value} {count}" for result, count in status.results.items() if count)
    line = f"{status.complaint}{status.blind or _summary(status)}"
    return _joined(line, status.suspended, f"arming so far: {results}" if results else "", _ends(status.tally))


def _ends(tally: Tally) -> str:
    """Return how many connections ended, whether that was foretold, and how many were saved; "" if none."""
    foretold = tally.foretold_by()
    told, apart = foretold[Foretold.FORETOLD], foretold[Foretold.NOT_FORESEEABLE]
    missed, saved = foretold.total() - told - apart, tally.saved_by()
    counts = {"foretold": told, "not foretold": missed, "not foreseeable": apart, "not seen": tally.lost}
    ended = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return _joined(f"ended: {ended}" if ended else "", f"saved {saved}" if saved else "")


def counts_line(counts: Counts) -> str:
    """Return how many connections are watched, by verdict, in one line."""
    verdicts = (Verdict.SAFE, Verdict.LATE, Verdict.BARE, Verdict.CUT, Verdict.UNKNOWN)
    numbers = ", ".join(
        f"{counts.by_verdict[verdict]} {verdict.label}" for verdict in verdicts if counts.by_verdict.get(verdict)
    )
    namespaces = f" in {counts.namespaces} namespaces" if counts.namespaces > 1 else ""
    plural = "" if counts.total == 1 else "s"
    return f"Watching {counts.total} connection{plural}{namespaces}" + (f": {numbers}" if numbers else "")


def _summary(status: Status) -> str:
    return f"{counts_line(status.counts)}; {_intent(status)}"


def _intent(status: Status) -> str:
    if status.keepalive is None:
        return "system keepalive left alone (keepalive.apply = false)"
    kept = ", ".join(f"{key} = {value}" for key, value in status.kept.items())
    intent = f"system keepalive {status.keepalive}" + (f", but {kept}" if kept else "")
    intent += f", but cannot set {', '.join(status.refused)}" if status.refused else ""
    return intent + (" (dry run)" if status.dry_run else "")
