"""Time spans in systemd's notation (systemd.time(7)): read strictly, written shortly."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from keepaliveD.model.text import shown

FOREVER = float("inf")  # seconds

_UNITS = {
    "us usec µs μs": 1e-6,
    "ms msec": 1e-3,
    "s sec second seconds": 1.0,
    "m min minute minutes": 60.0,
    "h hr hour hours": 3600.0,
    "d day days": 86400.0,
    "w week weeks": 7 * 86400.0,
    "M month months": 30.44 * 86400.0,
    "y year years": 365.25 * 86400.0,
}
SECONDS = {name: seconds for names, seconds in _UNITS.items() for name in names.split()}
PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµμ]*)")
EXAMPLES = 'write a time span such as "180s", "5min" or "1h 30min"'


def parse(text: object) -> float:
    """Seconds in a time span; "infinity" is FOREVER. Raises ValueError with what would be right."""
    if not isinstance(text, str):
        raise ValueError(f"{shown(text)} has no unit; {EXAMPLES}")
    stripped = text.strip()
    if stripped == "infinity":
        return float("inf")
    if not stripped:
        raise ValueError(f"{shown(text)} is empty; {EXAMPLES}")
    if stripped.startswith("-"):
        raise ValueError(f"{shown(text)} is negative; {EXAMPLES}")
    total, position = 0.0, 0
    while position < len(stripped):
        part = PART.match(stripped, position)
        if not part:
            raise ValueError(f"{shown(text)} is not a time span; {EXAMPLES}")
        number, unit = part.groups()
        if not unit:
            raise ValueError(f"{shown(text)} has no unit; {EXAMPLES}")
        if unit not in SECONDS:
            raise ValueError(f"{shown(text)} has an unknown unit {shown(unit)}; {EXAMPLES}")
        total += float(number) * SECONDS[unit]
        position = part.end()
    if total == float("inf"):
        raise ValueError(f"{shown(text)} is too long; {EXAMPLES}")
    return total


def span(seconds: float) -> str:
    """A time span for people: its two largest units, as `3min 5s`."""
    if round(seconds, 1) < 0:
        return f"-{span(-seconds)}"
    if seconds == float("inf"):
        return "infinity"
    if round(seconds, 1) < 10 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f}s"
    units = list(itertools.dropwhile(lambda unit: not unit[0], _units(round(seconds))))[:2]
    return _written(units) or "0s"


def exact(seconds: float) -> str:
    """A time span of whole seconds for people, with all its units: `3d 49min 4s`."""
    return _written(_units(round(seconds))) or "0s"


def _units(seconds: int) -> Iterator[tuple[int, str]]:
    """The amount of each unit, the largest first."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        amount, seconds = divmod(seconds, size)
        yield amount, unit


def _written(units: Iterable[tuple[int, str]]) -> str:
    return " ".join(f"{amount}{unit}" for amount, unit in units if amount)
