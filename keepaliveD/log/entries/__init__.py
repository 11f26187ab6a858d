"""Turn outcomes into log entries: a line for people, and fields for machines.

docs/journal.md explains every message id and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keepaliveD.log.entries.arming import by_hand, of_arming, of_counted
from keepaliveD.log.entries.connections import of_report
from keepaliveD.log.entries.entry import ERROR, INFO, MESSAGE_IDS, NOTICE, WARNING, Entry, Value
from keepaliveD.log.entries.namespaces import of_hang, of_unwatched
from keepaliveD.log.entries.settings import Reports, of_settings, of_settings_report
from keepaliveD.model.actions import (
    Arm,
    Disarm,
    ReadIdleTimes,
    Report,
    ReportArmed,
    ReportUnwatched,
    SetSystemKeepalive,
)
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.results import ArmingResult, Outcome

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
    "results_line",
]


def of(outcome: Outcome) -> Iterator[Entry]:
    """Yield the entries about an outcome."""
    if outcome.repeated or isinstance(outcome.action, ReadIdleTimes):  # a verdict that stays presumed shows that
        return
    if outcome.refused:
        if isinstance(outcome.action, SetSystemKeepalive) and str(outcome.refused) in outcome.action.refused_before:
            return
        yield Entry("refused", ERROR, str(outcome.refused))
        return
    match outcome.action:
        case Report() as report:
            yield from of_report(report)
        case SetSystemKeepalive() as action:
            yield from of_settings(action, dry_run=outcome.dry_run)
        case ReportArmed(counted):
            yield of_counted(counted)
        case Arm() | Disarm():
            yield from of_arming(outcome)
        case ReportUnwatched(unwatched):
            yield from of_unwatched(unwatched)
        case other if isinstance(other, Reports):
            yield from of_settings_report(other)


def results_line(results: Mapping[ArmingResult, int]) -> str:
    """Return the counts of the results of arming, such as "armed 3, already set 2"; nothing where there are none."""
    counts = ", ".join(f"{result.value} {count}" for result, count in results.items() if count)
    return f"arming so far: {counts}" if counts else ""


def counts_line(counts: Counts) -> str:
    """Return how many connections are watched, by verdict, in one line."""
    verdicts = (Verdict.SAFE, Verdict.LATE, Verdict.BARE, Verdict.CUT, Verdict.UNKNOWN)
    numbers = ", ".join(
        f"{counts.by_verdict[verdict]} {verdict.label}" for verdict in verdicts if counts.by_verdict.get(verdict)
    )
    namespaces = f" in {counts.namespaces} namespaces" if counts.namespaces > 1 else ""
    plural = "" if counts.total == 1 else "s"
    return f"Watching {counts.total} connection{plural}{namespaces}" + (f": {numbers}" if numbers else "")
