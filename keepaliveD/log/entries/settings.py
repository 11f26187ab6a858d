"""What is said of the system's settings and their record: applied, changed by others, restored."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.entry import ERROR, NOTICE, WARNING, Entry, Value
from keepaliveD.model.actions import (
    Because,
    ReportDrift,
    ReportNotRestored,
    ReportRecord,
    ReportRewriter,
    ReportStricter,
    SetSystemKeepalive,
)
from keepaliveD.model.duration import span

Reports = ReportDrift | ReportRewriter | ReportStricter | ReportNotRestored | ReportRecord


def of_settings_report(report: Reports) -> Iterator[Entry]:
    """Everything to say of settings that were not written."""
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
    """An entry for each setting that was written, unless nothing is to be said of it."""
    restored = action.because is Because.RESTORE
    for key, value in action.values.items():
        if key in action.quiet:
            continue
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


def _of_drift(drift: ReportDrift) -> Iterator[Entry]:
    """An entry for each setting that somebody else wrote."""
    left = "left to whoever set it" if drift.yielded else "left so (keepalive.on_drift = warn)"
    for key, found in drift.found.items():
        wanted = drift.wanted[key]
        message = f"{key}: was {wanted}, somebody else set it to {found}; {left}"
        yield Entry("drift", WARNING, message, _setting_fields(key, found, wanted))


def _of_rewriter(report: ReportRewriter) -> Iterator[Entry]:
    """An entry for each setting that somebody else goes on writing."""
    done = "set back each time" if report.reapplied else "left so (keepalive.on_drift = warn)"
    for key, repeat in report.repeats.items():
        times = "once more" if repeat.count == 1 else f"{repeat.count} more times"
        within = span(round(repeat.seconds))
        message = f"{key}: changed {times} by somebody else in {within}, last to {repeat.last}; {done}"
        fields = _setting_fields(key, repeat.last, report.wanted[key])
        yield Entry("drift", WARNING, message, fields | {"KEEPALIVE_COUNT": repeat.count})


def _of_stricter(report: ReportStricter) -> Entry:
    """One entry for all that is kept."""
    kept = ", ".join(f"{key} = {value} (configured: {report.configured[key]})" for key, value in report.kept.items())
    message = (
        f"a stricter time stands and is kept, so these hold: {kept}; "
        "to set those configured: keepalive.keep_stricter = false"
    )
    return Entry("stricter", NOTICE, message)


def _of_not_restored(report: ReportNotRestored) -> Iterator[Entry]:
    """An entry for each setting that is no longer ours."""
    for key, found in report.found.items():
        message = f"{key}: not restored: changed to {found} by someone else"
        yield Entry("drift", NOTICE, message, {"KEEPALIVE_SYSCTL": key, "KEEPALIVE_FOUND": found})


def _of_record(report: ReportRecord) -> Iterator[Entry]:
    """An entry for each thing that is wrong with the settings record, or one that all is well again."""
    for trouble in report.troubles:
        yield Entry("record", ERROR, trouble)
    if not report.troubles:
        yield Entry("record", NOTICE, "the settings record is up to date again")
