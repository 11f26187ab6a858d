"""Log entries about the system's settings and their record: applied, changed by others, restored."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.entry import ERROR, NOTICE, WARNING, Entry, Value
from keepaliveD.model.actions import Because, SetSystemKeepalive
from keepaliveD.model.duration import span
from keepaliveD.model.reports import ReportDrift, ReportNotRestored, ReportRecord, ReportRewriter, ReportStricter

EVENTS = {Because.CONFIGURED: "applied", Because.DRIFT: "drift", Because.RESTORE: "restored"}
LEFT = 'left so (keepalive.on_drift = "warn")'

Reports = ReportDrift | ReportRewriter | ReportStricter | ReportNotRestored | ReportRecord


def of_settings_report(report: Reports) -> Iterator[Entry]:
    """Yield the entries about settings that were not written."""
    match report:
        case ReportDrift():
            yield from _of_drift(report)
        case ReportRewriter():
            yield from _of_rewriter(report)
        case ReportStricter():
            yield _of_stricter(report)
        case ReportNotRestored():
            yield from _of_not_restored(report)
        case ReportRecord():
            yield from _of_record(report)


def of_settings(action: SetSystemKeepalive, *, dry_run: bool) -> Iterator[Entry]:
    """Yield an entry for each setting that was written, except the quiet ones."""
    for key, value in action.values.items():
        if key in action.quiet:
            continue
        found = action.found[key]
        yield Entry(
            EVENTS[action.because],
            WARNING if action.because is Because.DRIFT else NOTICE,
            f"{key}: {_written(action.because, found, value, dry_run=dry_run)}",
            _setting_fields(key, found, value) | {"KEEPALIVE_BECAUSE": action.because.value},
        )


def _written(because: Because, found: int, value: int, *, dry_run: bool) -> str:
    """Return what was done to a setting, and why."""
    be = "would be " if dry_run else ""
    match because:
        case Because.RESTORE:
            return f"found {found}, {be}restored to {value}"
        case Because.DRIFT:
            return f"changed to {found} by someone else, {be}set to {value} again"
        case _:
            return f"found {found}, {be}set to {value}"


def _setting_fields(key: str, found: int, value: int) -> dict[str, Value]:
    return {"KEEPALIVE_SYSCTL": key, "KEEPALIVE_FOUND": found, "KEEPALIVE_VALUE": value}


def _of_drift(drift: ReportDrift) -> Iterator[Entry]:
    """Yield an entry for each setting that someone else changed and that is left so."""
    left = 'left to whoever set it (keepalive.on_drift = "yield")' if drift.yielded else LEFT
    for key, found in drift.found.items():
        wanted = drift.wanted[key]
        message = f"{key}: changed from {wanted} to {found} by someone else; {left}"
        yield Entry("drift", WARNING, message, _setting_fields(key, found, wanted))


def _of_rewriter(report: ReportRewriter) -> Iterator[Entry]:
    """Yield an entry for each setting that someone else keeps changing."""
    done = "set again each time" if report.reapplied else LEFT
    for key, repeat in report.repeats.items():
        times = "once more" if repeat.count == 1 else f"{repeat.count} more times"
        within = span(round(repeat.seconds))
        message = f"{key}: changed {times} by someone else in {within}, last to {repeat.last}; {done}; find out who"
        fields = _setting_fields(key, repeat.last, report.wanted[key])
        yield Entry("drift", WARNING, message, fields | {"KEEPALIVE_COUNT": repeat.count})


def _of_stricter(report: ReportStricter) -> Entry:
    """Return one entry for all settings that are kept, or chosen to suit those."""
    kept = ", ".join(f"{key} = {value} (configured: {report.configured[key]})" for key, value in report.kept.items())
    message = (
        f"kept a stricter time than the configured one, so these values are in force: {kept}; "
        "to set the configured ones, write keepalive.keep_stricter = false"
    )
    return Entry("stricter", NOTICE, message)


def _of_not_restored(report: ReportNotRestored) -> Iterator[Entry]:
    """Yield an entry for each setting that someone else has changed since we set it."""
    for key, found in report.found.items():
        message = f"{key}: not restored: changed to {found} by someone else"
        yield Entry("drift", NOTICE, message, {"KEEPALIVE_SYSCTL": key, "KEEPALIVE_FOUND": found})


def _of_record(report: ReportRecord) -> Iterator[Entry]:
    """Yield an entry for each problem of the settings record, or one if there is no problem any more."""
    for trouble in report.troubles:
        yield Entry("record", ERROR, trouble)
    if not report.troubles:
        yield Entry("record", NOTICE, "the settings record is up to date again")
