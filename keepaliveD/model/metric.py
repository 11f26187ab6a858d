"""A metric: numbers about this host, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from keepaliveD.model.dataclass import dataclass


class Sample(NamedTuple):
    """One number of a metric; `suffix` goes on its name, such as "_bucket" of a histogram."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by its whole name; `kind` is "gauge", "counter", "summary" or "histogram"."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample] = field(default_factory=tuple)
