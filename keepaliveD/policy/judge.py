"""Judge each socket of a table: its path, its activity, its forecast, in this order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.rules import IPNetwork, Path
from keepaliveD.model.sockets import SocketTable
from keepaliveD.policy.activity import Activity, observe
from keepaliveD.policy.forecast import Forecast, forecast
from keepaliveD.policy.paths import Assigned, assign, ignored


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that is known of one scan; every column has the rows of `table`."""

    table: SocketTable
    assigned: Assigned
    activity: Activity
    forecast: Forecast


def judge(table: SocketTable, before: Activity, paths: Sequence[Path], ignore: Sequence[IPNetwork]) -> Judgement:
    """Judge every socket of the table, except those whose peers are in `ignore`."""
    passed_over = ignored(table.sockets, ignore)
    if passed_over.any():
        table = dataclasses.replace(table, sockets=table.sockets.select(~passed_over))
    assigned = assign(table, paths)
    activity = observe(before, table, assigned.timeout, assigned.only_data)
    return Judgement(table, assigned, activity, forecast(table, activity, assigned))


def count_by_path(judgement: Judgement) -> list[Counts]:
    """Count the connections of each path by verdict."""
    kinds = judgement.assigned.index.astype(np.intp) * len(Verdict) + judgement.forecast.verdict
    numbers = np.bincount(kinds, minlength=len(judgement.assigned.paths) * len(Verdict)).reshape(-1, len(Verdict))
    return [
        Counts(sum(row), judgement.table.namespaces, dict(zip(Verdict, row, strict=True))) for row in numbers.tolist()
    ]


def count(judgement: Judgement) -> Counts:
    """Count the connections by verdict."""
    numbers = np.bincount(judgement.forecast.verdict, minlength=len(Verdict)).tolist()
    return Counts(len(judgement.table), judgement.table.namespaces, dict(zip(Verdict, numbers, strict=True)))
