"""Metrics in Prometheus's text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keepaliveD.model.metric import Metric, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def answered(answer: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics of an answer to the method Metrics."""
    return [
        Metric(one["name"], one["kind"], one["help"], [Sample(**sample) for sample in one["samples"]])
        for one in answer["metrics"]
    ]


def up(*, answers: bool) -> Metric:
    """Return whether a daemon answers."""
    return Metric("tcp_keepalive_up", "gauge", "Whether a daemon answers.", [Sample(answers)])


def text(metrics: Iterable[Metric]) -> str:
    """Return the metrics as a scrape, or node_exporter's textfile collector, reads them."""
    return "".join(line for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    if metric.samples:
        yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for value, labels, suffix in metric.samples:
        pairs = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels.items())
        series = f"{metric.name}{suffix}{{{pairs}}}" if pairs else f"{metric.name}{suffix}"
        yield f"{series} {_number(value)}\n"


def _escaped(said: str) -> str:
    """Return a label's value; what is no character becomes an escape, because Prometheus refuses it."""
    return said.encode(errors="backslashreplace").decode().translate(ESCAPES)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
