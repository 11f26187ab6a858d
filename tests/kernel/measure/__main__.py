"""Measure over all firewalls, and print the table of docs/paths.md: python -m tests.kernel.measure."""

from __future__ import annotations

from tests.kernel.measure.stage import Found
from tests.kernel.measure.test_measure import measured


def main() -> None:
    """Print a row for each path."""
    for name, found in measured().items():
        print(row(name, found))


def row(name: str, found: Found) -> str:
    """What was found of one path."""
    also = [f"{found['how']}" if found["how"] else ""]
    also += [f"reset by a {found['reset_by']}"] if found["reset_by"] else []
    also += ["several devices"] if found["several_devices"] else []
    also += [f"revived by {found['revived_by']}"] if found["revived_by"] else []
    also += ["keepalive does not help"] if found["keepalive_helps"] is False else []
    also += [f"server closes after {found['server_closes']:.1f} s"] if found["server_closes"] else []
    also += ["an outage"] if found["outages"] else []
    ends = (f"{found[key]:.1f} s" if found[key] else "-" for key in ("survived", "forgotten"))
    return f"| {name} | {' | '.join(ends)} | {', '.join(filter(None, also))} |"


if __name__ == "__main__":
    main()
