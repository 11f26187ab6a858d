"""Turn outcomes into log entries: a line for people, and fields for machines.

docs/journal.md explains every message id and field.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.arming import asked, by_hand, of_arming, of_counted
from keepaliveD.log.entries.connections import of_report
from keepaliveD.log.entries.daemon import DaemonReports, counts_line, of_daemon, status_line
from keepaliveD.log.entries.deaths import of_deaths
from keepaliveD.log.entries.entry import ERROR, INFO, NOTICE, WARNING, Entry, Value
from keepaliveD.log.entries.evidence import of_evidence
from keepaliveD.log.entries.firewall import of_nearly_full
from keepaliveD.log.entries.namespaces import of_hang, of_unwatched
from keepaliveD.log.entries.settings import Reports, of_settings, of_settings_report
from keepaliveD.log.ids import MESSAGE_IDS
from keepaliveD.log.words import own_namespace
from keepaliveD.model.actions import Action, Arm, AskFirewall, Disarm, Outcome, ReadIdleTimes, SetSystemKeepalive
from keepaliveD.model.reports import (
    Report,
    ReportArmed,
    ReportConnections,
    ReportDeaths,
    ReportEvidence,
    ReportNearlyFull,
    ReportUnwatched,
)

__all__ = [
    "ERROR",
    "INFO",
    "MESSAGE_IDS",
    "NOTICE",
    "WARNING",
    "Entry",
    "Value",
    "by_hand",
    "counts_line",
    "of",
    "of_hang",
    "of_unwatched",
    "status_line",
]


def of(outcome: Outcome) -> Iterator[Entry]:
    """Yield the entries about an outcome."""
    if outcome.refused:
        yield from _of_refused(outcome.action, str(outcome.refused))
        return
    match outcome.action:
        case SetSystemKeepalive() as action:
            yield from (asked(entry, action.asker) for entry in of_settings(action, dry_run=outcome.dry_run))
        case Arm() | Disarm():
            yield from of_arming(outcome)
        case other if isinstance(other, Report):
            yield from _of_report(other)


def _of_report(report: Report) -> Iterator[Entry]:
    """Yield the entries about what was found out."""
    match report:
        case ReportConnections():
            yield from of_report(report)
        case ReportArmed(counted):
            yield of_counted(counted)
        case ReportDeaths(reports, interval):
            yield from of_deaths(reports, interval)
        case ReportEvidence(findings):
            yield from of_evidence(findings)
        case ReportNearlyFull(tracked):
            yield from of_nearly_full(tracked)
        case ReportUnwatched(unwatched):
            yield from of_unwatched(unwatched, own_namespace())
        case other if isinstance(other, DaemonReports):
            yield from of_daemon(other)
        case other if isinstance(other, Reports):
            yield from of_settings_report(other)


def _of_refused(action: Action, reason: str) -> Iterator[Entry]:
    """Yield the entry about a refused action, unless that is known, or a verdict that stays presumed shows it."""
    known = isinstance(action, SetSystemKeepalive) and reason in action.refused_before
    if not known and not isinstance(action, AskFirewall | ReadIdleTimes):
        yield Entry("refused", ERROR, reason)
