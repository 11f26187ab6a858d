"""Judge each socket of a table: its path, its activity, its forecast, in this order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.origin import Source
from keepaliveD.model.rules import IPNetwork, Path
from keepaliveD.model.sockets import Column, SocketTable, shrunk
from keepaliveD.policy.verdicts import timers
from keepaliveD.policy.verdicts.activity import Activity
from keepaliveD.policy.verdicts.forecast import Forecast, forecast
from keepaliveD.policy.verdicts.packets import observe
from keepaliveD.policy.verdicts.paths import Assigned, assign, ignored, shown_as

Columns = TypeVar("Columns", Assigned, Activity, Forecast)


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that is known of one scan; every column has the rows of `table`.

    `without_evidence` is what the configuration alone comes to, where evidence has shortened a guessed timeout.
    """

    table: SocketTable
    assigned: Assigned
    activity: Activity
    forecast: Forecast
    without_evidence: tuple[Assigned, Forecast] | None = None

    @property
    def to_arm_by(self) -> Judgement:
        """Return the judgement that arming follows: evidence never changes what is armed, nor with which times."""
        if self.without_evidence is None:
            return self
        assigned, outlook = self.without_evidence
        return Judgement(self.table, assigned, self.activity, outlook)


def judge(
    table: SocketTable,
    before: Activity,
    paths: Sequence[Path],
    ignore: Sequence[IPNetwork],
    with_evidence: Sequence[Path] | None = None,
) -> Judgement:
    """Judge every socket of the table, except those whose peers are in `ignore`.

    `with_evidence` are the same paths with the timeouts that verdicts follow, where evidence has shortened some.
    """
    passed_over = ignored(table.sockets, ignore)
    if passed_over.any():
        table = dataclasses.replace(table, sockets=table.sockets.select(~passed_over))
    assigned = _shrunk(assign(table, paths))
    activity = _shrunk(timers.learn(observe(before, table, assigned.timeout, assigned.only_data), table))
    outlook = _shrunk(_with_evidence_presumed(forecast(table, activity, assigned), assigned), activity)
    if with_evidence is None or with_evidence is paths:
        return Judgement(table, assigned, activity, outlook)
    shown = shown_as(assigned, with_evidence)
    told = _shrunk(_with_evidence_presumed(forecast(table, activity, shown), shown, outlook), activity, outlook)
    return Judgement(table, shown, activity, told, (assigned, outlook))


def _with_evidence_presumed(outlook: Forecast, assigned: Assigned, configured: Forecast | None = None) -> Forecast:
    """Return the outlook with `late` and `cut` as presumed that rest on evidence alone.

    `configured` is what the configuration comes to, where that is known.
    """
    by_evidence = np.array([path.origin.source is Source.EVIDENCE for path in assigned.paths], np.bool_)
    if not by_evidence.any():
        return outlook
    alone = by_evidence[assigned.index] & np.isin(outlook.verdict, (Verdict.LATE.value, Verdict.CUT.value))
    if configured is not None:
        alone &= outlook.verdict != configured.verdict
    return dataclasses.replace(outlook, confirmed=outlook.confirmed & ~alone)


def _shrunk(columns: Columns, *others: Activity | Forecast) -> Columns:
    """Return the same with less memory: most of what is remembered of a socket is remembered of none, or twice."""
    known = [column for other in others for column in _arrays(other).values()]
    smaller: dict[str, Any] = {}
    for name, column in _arrays(columns).items():
        smaller[name] = shrunk(column, known)
        known.append(smaller[name])
    return dataclasses.replace(columns, **smaller)


def _arrays(columns: Assigned | Activity | Forecast) -> dict[str, Column]:
    each = {field.name: getattr(columns, field.name) for field in dataclasses.fields(columns)}
    return {name: column for name, column in each.items() if isinstance(column, np.ndarray)}


def judged_anew(judgement: Judgement, activity: Activity) -> Judgement:
    """Return the judgement of the same scan with what was learned of its sockets since."""
    before = judgement.without_evidence
    if before is not None:
        before = (before[0], forecast(judgement.table, activity, before[0]))
    told = forecast(judgement.table, activity, judgement.assigned)
    told = _with_evidence_presumed(told, judgement.assigned, before and before[1])
    return dataclasses.replace(judgement, activity=activity, forecast=told, without_evidence=before)


def with_bare_presumed(judgement: Judgement, since: float) -> Judgement:
    """Return the judgement of scans since an instant, with `bare` as presumed where these may have missed a rhythm.

    A peer that keeps a connection probes once in each idle timeout, at least: scans for less may not have seen it.
    """
    forecast, only_data = judgement.forecast, judgement.assigned.only_data
    presumed = (forecast.verdict == Verdict.BARE.value) & (forecast.now - since < forecast.timeout)
    if only_data is not None:
        presumed &= ~only_data  # no probe counts there
    return dataclasses.replace(
        judgement, forecast=dataclasses.replace(forecast, confirmed=forecast.confirmed & ~presumed)
    )


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
    by_verdict = dict(zip(Verdict, numbers, strict=True))
    return Counts(len(judgement.table), judgement.table.namespaces, by_verdict, _count_guessed(judgement))


def _count_guessed(judgement: Judgement) -> int:
    """Count the connections that are safe only if the timeout of their path is as long as it is guessed to be."""
    outlook, assigned = judgement.forecast, judgement.assigned
    guesses = [path.timeout if path.origin.guessed and path.timeout != FOREVER else np.nan for path in assigned.paths]
    guessed = outlook.timeout == np.array(guesses)[assigned.index]  # one that has survived more has another timeout
    return int(np.count_nonzero(guessed & ~outlook.by_firewall & (outlook.verdict == Verdict.SAFE.value)))
