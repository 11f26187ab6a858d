"""The faults counted: kinds by engine and interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.kernel.verdicts.stage import ENGINES
from tests.kernel.verdicts.truth import Fault, Judged, Kind


def table(judged: Sequence[Judged], faults: Iterable[Fault]) -> str:
    """One line a kind, one column an engine and interval; early cuts with the earliest."""
    intervals = sorted({each.watch.wall.interval for each in judged})
    columns = [(engine, interval) for interval in intervals for engine in ENGINES]
    found = list(faults)
    counted = Counter((fault.kind, fault.watch.engine, fault.watch.wall.interval) for fault in found)
    watched = Counter((each.watch.engine, each.watch.wall.interval) for each in judged)
    died = Counter((each.watch.engine, each.watch.wall.interval) for each in judged if each.died)
    rows = [
        ["kind", *(f"{engine} {interval:g} s" for engine, interval in columns), "all"],
        ["---"] * (len(columns) + 2),
        ["connections watched", *(str(watched[column]) for column in columns), str(len(judged))],
        ["of these died", *(str(died[column]) for column in columns), str(sum(died.values()))],
    ]
    for kind in Kind:
        counts = [counted[kind, *column] for column in columns]
        rows.append([kind.value, *map(str, counts), str(sum(counts))])
    rows.append(["earliest `cut`, seconds early", *(_earliest(found, *column) for column in columns), ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _earliest(faults: Iterable[Fault], engine: str, interval: float) -> str:
    early = [
        fault.by
        for fault in faults
        if fault.kind is Kind.CUT_EARLY and (fault.watch.engine, fault.watch.wall.interval) == (engine, interval)
    ]
    return f"{max(early, default=0):.2f}"
