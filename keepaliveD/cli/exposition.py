"""Metrics in Prometheus's text format: text of a judgement and of what a daemon answers; it asks nobody.

No label has a value for each connection. Units and paths are at most MOST, the rest is "other".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keepaliveD.cli.columns import whose
from keepaliveD.model.connections import AT_RISK, Connection, Verdict
from keepaliveD.model.snapshot import Setting
from keepaliveD.model.sockets import ALL_WATCHED, Column, Switch, Timer
from keepaliveD.policy.judge import Judgement

PREFIX = "tcp_keepalive"
MOST = 20  # values of a label that names a unit or a path
OTHER = "other"
LEFT = (0, 15, 60, 300, 900, 3600, 14400)  # seconds, the upper ends of the histogram's buckets
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; a sample is a suffix of its name, its labels, and a value."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[str, Mapping[str, str], float]] = field(default_factory=list)


def text(metrics: Iterable[Metric]) -> str:
    """Return the metrics as a scrape, or node_exporter's textfile collector, reads them."""
    return "".join(line for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    name = f"{PREFIX}_{metric.name}"
    yield f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n"
    for suffix, labels, value in metric.samples:
        pairs = ",".join(f'{label}="{said.translate(ESCAPES)}"' for label, said in labels.items())
        yield f"{name}{suffix}{{{pairs}}} {_number(value)}\n" if pairs else f"{name}{suffix} {_number(value)}\n"


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def of_scan(judgement: Judgement, at_risk: Sequence[Connection], took: float) -> list[Metric]:
    """Return what one scan shows; `at_risk` are the connections at risk with their owners, `took` is in seconds."""
    table = judgement.table
    return [
        Metric("connections", "gauge", "Connections by verdict.", _by_verdict(judgement.forecast.verdict)),
        Metric("path_connections", "gauge", "Connections by path and verdict.", _by_path(judgement)),
        Metric("unit_connections_at_risk", "gauge", "Connections at risk by unit.", _by_unit(at_risk)),
        Metric("sockets", "gauge", "Connections by whether keepalive is on.", _by_keepalive(judgement)),
        _left(judgement),
        Metric("namespaces", "gauge", "Network namespaces that were scanned.", [("", {}, table.namespaces)]),
        Metric(
            "scan_complete",
            "gauge",
            "Whether the scan has seen all connections.",
            [("", {}, table.complete and table.unwatched == ALL_WATCHED)],
        ),
        Metric("scan_duration_seconds", "gauge", "How long the scan took.", [("", {}, round(took, 6))]),
    ]


def _by_verdict(verdict: Column) -> list[tuple[str, Mapping[str, str], float]]:
    counts = np.bincount(verdict, minlength=len(Verdict)).tolist()
    return [("", {"verdict": each.label}, counts[each]) for each in Verdict]


def _by_path(judgement: Judgement) -> list[tuple[str, Mapping[str, str], float]]:
    """Return the connections of the paths with the most, by verdict."""
    names = [path.name for path in judgement.assigned.paths]
    index, verdict = judgement.assigned.index, judgement.forecast.verdict
    counts = np.zeros((len(names), len(Verdict)), np.int64)
    np.add.at(counts, (index, verdict), 1)
    order = sorted(range(len(names)), key=lambda number: (-int(counts[number].sum()), number))
    rows = {names[number]: counts[number] for number in order[:MOST]}
    if order[MOST:]:
        rows[OTHER] = rows.get(OTHER, 0) + counts[order[MOST:]].sum(axis=0)
    return [
        ("", {"path": name, "verdict": each.label}, int(row[each])) for name, row in rows.items() for each in Verdict
    ]


def _by_unit(at_risk: Sequence[Connection]) -> list[tuple[str, Mapping[str, str], float]]:
    """Return the units with the most connections at risk."""
    counts = Counter(whose(one) for one in at_risk if one.verdict in AT_RISK)
    rows = dict(counts.most_common(MOST))
    if rest := counts.total() - sum(rows.values()):
        rows[OTHER] = rows.get(OTHER, 0) + rest
    return [("", {"unit": unit}, count) for unit, count in rows.items()]


def _by_keepalive(judgement: Judgement) -> list[tuple[str, Mapping[str, str], float]]:
    """Return how many have keepalive on, off, or not shown."""
    sockets = judgement.table.sockets
    on = (sockets["keepalive"] == Switch.ON.value) | (
        (sockets["keepalive"] == Switch.UNKNOWN.value) & (sockets["timer"] == Timer.KEEPALIVE.value)
    )
    off = (sockets["keepalive"] == Switch.OFF.value) | (
        (sockets["keepalive"] == Switch.UNKNOWN.value) & (sockets["timer"] == Timer.OFF.value)
    )
    counts = {"on": int(on.sum()), "off": int(off.sum())}
    counts["unknown"] = len(sockets) - sum(counts.values())
    return [("", {"keepalive": name}, count) for name, count in counts.items()]


def _left(judgement: Judgement) -> Metric:
    """Return how soon paths forget the connections at risk, as a histogram; those that are cut have 0 s left."""
    forecast = judgement.forecast
    doomed = np.isin(forecast.verdict, [int(verdict) for verdict in AT_RISK])
    left = np.maximum(forecast.cut_at[doomed] - forecast.now, 0.0)
    left = left[np.isfinite(left)]
    samples: list[tuple[str, Mapping[str, str], float]] = [
        ("_bucket", {"le": _number(bound)}, int((left <= bound).sum())) for bound in (*LEFT, math.inf)
    ]
    samples += [("_sum", {}, round(float(left.sum()), 3)), ("_count", {}, len(left))]
    return Metric(
        "left_seconds", "histogram", "Time until the path forgets a connection, of connections at risk.", samples
    )


def of_settings(settings: Sequence[Setting]) -> list[Metric]:
    """Return the system's settings: what stands, and what the configuration wants."""
    stands = [("", {"setting": one.name}, one.stands) for one in settings if one.stands is not None]
    wanted = [("", {"setting": one.name}, one.wanted) for one in settings]
    return [
        Metric("setting", "gauge", "Keepalive settings of the system, in the kernel's units.", stands),
        Metric("setting_wanted", "gauge", "Keepalive settings that the configuration wants.", wanted),
    ]


def of_daemon(daemon: Mapping[str, Any] | None) -> list[Metric]:
    """Return what the daemon answers; without one only that."""
    metrics = [Metric("daemon_up", "gauge", "Whether a daemon answers.", [("", {}, daemon is not None)])]
    if daemon is None:
        return metrics
    armed = [("", {"result": each["result"]}, each["count"]) for each in daemon["arming"]]
    return [
        *metrics,
        Metric(
            "daemon_running_seconds", "gauge", "How long the daemon has been running.", [("", {}, daemon["running"])]
        ),
        Metric("daemon_problems", "gauge", "Problems that the daemon reports.", [("", {}, len(daemon["problems"]))]),
        Metric("daemon_armings_total", "counter", "Sockets that were to be armed, by what became of them.", armed),
    ]
