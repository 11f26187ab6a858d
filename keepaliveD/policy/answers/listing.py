"""List the connections of the last scan, a few at a time, by their cookies.

Whoever lists them remembers only the last cookie: the scan may be followed by others before he goes on. Then each
connection that lives all the while is still listed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import Connection, Counts, Owner, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.patterns import Patterns
from keepaliveD.model.rules import ArmRule, IPNetwork
from keepaliveD.model.sockets import Bools, Column, Indices
from keepaliveD.policy.arming.arming import concerned
from keepaliveD.policy.verdicts.connections import connections
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.policy.verdicts.paths import in_network

FEW = 64  # rows that are looked at in one go


@dataclass(frozen=True, slots=True)
class Listed:
    """A judged scan, `age` seconds old, with its rows in the order of their cookies.

    `units` are those of cgroups, None where the daemon does not find out units.
    """

    judgement: Judgement
    order: Indices
    units: Mapping[int, str] | None
    age: float


class Selection(NamedTuple):
    """Which connections are wanted: those that a rule would match, and of these namespaces, units and paths, or of any.

    Of `addresses` any may be that of either end.

    The rule has no patterns: those of a rule are kept as regular expressions for good, and anybody may send others.
    """

    rule: ArmRule
    namespaces: Sequence[int]
    units: Patterns
    paths: Patterns
    addresses: Sequence[IPNetwork]


class Page(NamedTuple):
    """Some connections, and the cookie after which to go on, None at the end."""

    connections: Sequence[Connection]
    next_after: int | None


class Lister:
    """Puts the rows of a scan in order, and counts its namespaces: once for all who ask."""

    def __init__(self) -> None:
        self._order: tuple[float, Indices] | None = None  # the instant of the scan, and what came of it
        self._namespaces: tuple[float, list[tuple[int, Counts]]] | None = None

    def listed(self, judgement: Judgement, units: Mapping[int, str] | None, now: float) -> Listed:
        """Return this judgement, to be listed."""
        scan = judgement.forecast.now
        if self._order is None or self._order[0] != scan:
            self._order = scan, np.argsort(judgement.table.sockets["cookie"], kind="stable")
        return Listed(judgement, self._order[1], units, now - scan)

    def namespaces(self, judgement: Judgement) -> list[tuple[int, Counts]]:
        """Return how many connections each network namespace has, by verdict, in the order of their inodes."""
        scan = judgement.forecast.now
        if self._namespaces is None or self._namespaces[0] != scan:
            self._namespaces = scan, _namespaces(judgement)
        return self._namespaces[1]


def page(listed: Listed, wanted: Selection, after: int | None) -> Page:
    """Look at the next few connections after this cookie, and return those that are wanted."""
    judgement, cookies = listed.judgement, listed.judgement.table.sockets["cookie"]
    rows = rows_after(listed, after, FEW)
    if not len(rows):
        return Page((), None)
    last = int(cookies[rows[-1]])
    chosen = np.diff(cookies[rows], prepend=~cookies[rows[:1]]) != 0  # a dump may list a socket twice
    chosen &= concerned(judgement, wanted.rule, rows)
    if wanted.namespaces:
        chosen &= np.isin(judgement.table.sockets["netns"][rows], wanted.namespaces)
    if wanted.addresses:
        sockets = judgement.table.sockets.select(rows)
        ends = [in_network(sockets, each, end) for each in wanted.addresses for end in ("local", "remote")]
        chosen &= np.any(ends, axis=0)
    if wanted.paths:
        names = [each.name for each in judgement.assigned.paths]
        chosen &= _among(wanted.paths, judgement.assigned.index[rows], names.__getitem__)
    units = listed.units or {}
    if wanted.units:
        chosen &= _among(wanted.units, judgement.table.sockets["cgroup"][rows], lambda cgroup: units.get(cgroup, ""))
    found = connections(judgement, rows[chosen])
    named = [one.with_owner(Owner(unit=units.get(one.cgroup, ""))) for one in found]
    return Page(named, None if rows[-1] == listed.order[-1] else last)


def _among(wanted: Patterns, numbers: Column, name: Callable[[int], str]) -> Bools:
    """Return which of these numbers stand for a name that is wanted; each is looked at once."""
    few, which = np.unique(numbers, return_inverse=True)
    names = [name(number) for number in few.tolist()]
    return np.array([bool(each) and wanted.match(each) for each in names], np.bool_)[which]


def rows_after(listed: Listed, after: int | None, most: int) -> Indices:
    """Return the rows of the next connections after this cookie, in the order of their cookies."""
    cookies = listed.judgement.table.sockets["cookie"]
    start = 0 if after is None else int(np.searchsorted(cookies, np.uint64(after), "right", sorter=listed.order))
    return listed.order[start : start + most]


def _namespaces(judgement: Judgement) -> list[tuple[int, Counts]]:
    inodes, which = np.unique(judgement.table.sockets["netns"], return_inverse=True)
    kinds = which * len(Verdict) + judgement.forecast.verdict
    counts = np.bincount(kinds, minlength=len(inodes) * len(Verdict)).reshape(-1, len(Verdict))
    return [
        (inode, Counts(sum(row), 1, dict(zip(Verdict, row, strict=True))))
        for inode, row in zip(inodes.tolist(), counts.tolist(), strict=True)
    ]
