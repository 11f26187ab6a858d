"""What is said of the system's settings: applied, drifted, given back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keepaliveD.entries.entry import NOTICE, WARNING, Entry, Value
from keepaliveD.model import Because, ReportDrift, SetSystemKeepalive


def of_settings(action: SetSystemKeepalive, *, dry_run: bool) -> Iterator[Entry]:
    """An entry for each setting that was written."""
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


def of_drift(drift: ReportDrift) -> Iterator[Entry]:
    """An entry for each setting that somebody else wrote."""
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
