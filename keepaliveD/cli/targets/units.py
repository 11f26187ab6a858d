"""Which units exist: asked of systemd itself, where it runs."""

from __future__ import annotations

import subprocess

PATIENCE = 5.0  # seconds
ASKS = (  # what prints nothing for a pattern that fits no unit
    ("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager", "--"),
    ("systemctl", "list-unit-files", "--full", "--no-legend", "--no-pager", "--"),
)
WITH_PROCESSES = ("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--type=service,scope")
NOT_FOUND = "not-found"


def is_missing(pattern: str) -> bool:
    """Return whether systemd knows no unit that fits; False where it cannot be asked.

    A unit that does not run has no connections, and exists; so does an instance of a template that never ran.
    """
    if any(wildcard in pattern for wildcard in "*?["):
        return all(_said(*command, pattern) == "" for command in ASKS)
    return _said("systemctl", "show", "--property=LoadState", "--value", "--", pattern) == NOT_FOUND


def names() -> list[str]:
    """Return the units that can have processes; none where systemd cannot be asked."""
    lines = (_said(*WITH_PROCESSES) or "").splitlines()
    return [words[0] for line in lines if (words := line.split())]


def _said(*command: str) -> str | None:
    """Return what a command prints, without the ends of lines; None where it fails."""
    try:
        done = subprocess.run(  # noqa: S603  # without a shell
            command, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
