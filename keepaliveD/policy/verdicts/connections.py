"""Make objects of rows of a judgement: for people, for the journal, and for arming."""

from __future__ import annotations

import functools
import ipaddress
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keepaliveD.model.actions import Arm, Outcome
from keepaliveD.model.connections import AT_RISK, Connection, Due, Endpoint, Owner, Verdict, WhatCounts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.sockets import Column, Indices, Sockets, Switch, TcpState, Timer, is_any
from keepaliveD.policy.verdicts.forecast import unanswered_after
from keepaliveD.policy.verdicts.judge import Judgement

OWN_FIREWALL = Origin(Source.FIREWALL, "conntrack")
SURVIVED = Origin(Source.EVIDENCE, "longest silence it survived")

PART = 10_000  # connections of which objects are made at a time

STATES = {state.value: state.name for state in TcpState}
SHOWN = {Timer.KEEPALIVE.value: Shown.ON, Timer.OFF.value: Shown.OFF}
KNOWN = {Switch.ON.value: Shown.ON, Switch.OFF.value: Shown.OFF}


@dataclass(frozen=True, slots=True, eq=False)
class Selected(Sequence[Connection]):
    """The connections in these rows. Objects are made anew for each that iterates: a million of them take a gigabyte.

    `owners` are all owners that were found, `owner_of` is the number of each connection's.
    """

    judgement: Judgement
    rows: Indices
    owners: Sequence[Owner]
    owner_of: Column

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Connection]:
        for start in range(0, len(self), PART):
            part = self[start : start + PART]
            yield from connections(self.judgement, part.rows, [self.owners[one] for one in part.owner_of.tolist()])

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int):
            return connections(self.judgement, self.rows[[which]], [self.owners[self.owner_of[which]]])[0]
        return Selected(self.judgement, self.rows[which], self.owners, self.owner_of[which])

    def column(self, name: str) -> Column:
        """Return one of COLUMNS."""
        rows, outlook, assigned = self.rows, self.judgement.forecast, self.judgement.assigned
        sockets = self.judgement.table.sockets
        found: Column
        match name:
            case "timeout" | "verdict" | "confirmed":
                found = getattr(outlook, name)[rows]
            case "left":
                found = outlook.cut_at[rows] - outlook.now
            case "presumed":
                found = _are_presumed(self.judgement, rows)
            case "counts_data":
                found = _each([path.counts is WhatCounts.DATA for path in assigned.paths], assigned.index[rows])
            case "is_off":
                switch, timer = sockets["keepalive"][rows], sockets["timer"][rows]
                unknown = (switch == Switch.UNKNOWN.value) & (timer == Timer.OFF.value)
                found = (switch == Switch.OFF.value) | unknown
            case "pid":
                found = _each([owner.pid for owner in self.owners], self.owner_of)
            case _:
                found = sockets[name][rows]
        return found


COLUMNS: dict[str, tuple[type, Callable[[Connection], Any]]] = {
    **{name: (np.uint64, operator.attrgetter(name)) for name in ("cookie", "netns", "inode", "uid", "cgroup")},
    **{name: (np.float64, operator.attrgetter(name)) for name in ("timeout", "left")},
    "verdict": (np.uint8, operator.attrgetter("verdict")),
    "pid": (np.int64, operator.attrgetter("owner.pid")),
    "confirmed": (np.bool_, operator.attrgetter("confirmed")),
    "presumed": (np.bool_, operator.attrgetter("origin.presumed")),
    "counts_data": (np.bool_, lambda one: one.counts is WhatCounts.DATA),
    "is_off": (np.bool_, lambda one: one.keepalive is Shown.OFF),
}


def select(judgement: Judgement, rows: Indices) -> Selected:
    """Return the connections in these rows, whose owners nobody has looked for."""
    return Selected(judgement, rows, (Owner(),), np.zeros(len(rows), np.intp))


def column(connections: Sequence[Connection], name: str) -> Column:
    """Return what these connections have under this name, one of COLUMNS."""
    if isinstance(connections, Selected):
        return connections.column(name)
    kind, of = COLUMNS[name]
    return np.fromiter(map(of, connections), kind, len(connections))


def part(connections: Sequence[Connection], rows: Column) -> Sequence[Connection]:
    """Return the connections in these places, which are numbers or a mask."""
    if isinstance(connections, Selected):
        chosen: Selected = connections[rows]
        return chosen
    places = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    return tuple(map(connections.__getitem__, places.tolist()))


def owners_of(connections: Sequence[Connection]) -> tuple[Sequence[Owner], Column]:
    """Return the owners of these connections, and the number of each connection's."""
    if isinstance(connections, Selected):
        return connections.owners, connections.owner_of
    return [one.owner for one in connections], np.arange(len(connections))


def owners_in(outcome: Outcome, most: int) -> dict[int, Owner]:
    """Return by cookie who holds the connections that were reported or armed, of at most so many alike."""
    found: dict[int, Owner] = {}
    match outcome.action:
        case ReportConnections(reported):
            groups: list[Sequence[Connection]] = [reported]
        case Arm():
            groups = [arming.connections for arming in outcome.armings]
        case _:
            groups = []
    for group in (each[:most] for each in groups):
        owners, which = owners_of(group)
        found |= zip(column(group, "cookie").tolist(), [owners[number] for number in which.tolist()], strict=True)
    return found


def paths_of(connections: Sequence[Connection]) -> tuple[Sequence[str], Column]:
    """Return the names of the paths of these connections, and the number of each connection's."""
    if isinstance(connections, Selected):
        assigned = connections.judgement.assigned
        return [path.name for path in assigned.paths], assigned.index[connections.rows]
    return [one.path for one in connections], np.arange(len(connections))


def with_owners(connections: Sequence[Connection], owners: Sequence[Owner], which: Column) -> Sequence[Connection]:
    """Return the same connections with these owners, of which each has the one with this number."""
    if isinstance(connections, Selected):
        return Selected(connections.judgement, connections.rows, owners, which)
    known = {one.owner: one.owner for one in connections[:1]}  # most have the same, which is then the same object
    its = [known.get(owner, owner) for owner in owners]
    return tuple(
        [
            one if one.owner is (owner := its[number]) or one.owner == owner else one.with_owner(owner)
            for one, number in zip(connections, which.tolist(), strict=True)
        ]
    )


def _are_presumed(judgement: Judgement, rows: Indices) -> Column:
    """Return of which connections the idle timeout is a guess, or evidence: see the origin of a Connection."""
    outlook, assigned = judgement.forecast, judgement.assigned
    path_of = assigned.index[rows]
    survived = outlook.timeout[rows] > _each([path.timeout for path in assigned.paths], path_of)
    by_path = _each([path.origin.presumed for path in assigned.paths], path_of)
    presumed: Column = (by_path | survived) & ~outlook.by_firewall[rows]
    return presumed


def _each(values: Sequence[Any], numbers: Column) -> Column:
    """Return the value that each of these numbers stands for."""
    each: Column = np.array(values)[numbers]
    return each


def connections(judgement: Judgement, rows: Indices, owners: Iterable[Owner] = ()) -> tuple[Connection, ...]:
    """Return the connections in these rows, with these owners if they are known."""
    sockets, activity, forecast = judgement.table.sockets, judgement.activity, judgement.forecast
    timeouts = forecast.timeout[rows].tolist()
    paths = [judgement.assigned.paths[index] for index in judgement.assigned.index[rows].tolist()]
    by_latest = (forecast.cut_at[rows] == forecast.cut_by[rows]) & (forecast.timeout[rows] != FOREVER)
    newest = np.where(by_latest, activity.last_packet_by[rows], activity.last_packet[rows])  # as its cut counts it
    columns: tuple[Collection[Any], ...] = (  # in the order of Connection's fields
        *(sockets[name][rows].tolist() for name in ("cookie", "netns", "inode", "uid", "cgroup")),
        endpoints(sockets, "local", rows),
        endpoints(sockets, "remote", rows),
        [STATES[state] for state in sockets["state"][rows].tolist()],
        _shown(sockets["keepalive"][rows], sockets["timer"][rows]),
        [Verdict(verdict) for verdict in forecast.verdict[rows].tolist()],
        [Due(due) for due in forecast.due[rows].tolist()],
        np.fmax(forecast.due_at[rows] - forecast.now, 0.0).tolist(),
        (forecast.now - newest).tolist(),
        (forecast.cut_at[rows] - forecast.now).tolist(),
        activity.keepidle[rows].tolist(),
        [path.name for path in paths],
        timeouts,
        [
            OWN_FIREWALL if by_firewall else SURVIVED if timeout > path.timeout else path.origin
            for timeout, path, by_firewall in zip(timeouts, paths, forecast.by_firewall[rows].tolist(), strict=True)
        ],
        forecast.confirmed[rows].tolist(),
        [path.counts for path in paths],
        (sockets["subflow"][rows] != 0).tolist(),
        unanswered_after(sockets.select(rows), activity.keepintvl[rows]).tolist(),
    )
    known = [owners] if owners else []
    return tuple(Connection(*fields) for fields in zip(*columns, *known, strict=True))


def with_cookies(judgement: Judgement, cookies: Collection[int]) -> tuple[Connection, ...]:
    """Return the connections with these cookies, as far as they still exist."""
    wanted = np.fromiter(cookies, np.uint64, len(cookies))
    return connections(judgement, np.flatnonzero(np.isin(judgement.table.sockets["cookie"], wanted)))


def by_urgency(judgement: Judgement, *, at_risk_only: bool) -> tuple[Connection, ...]:
    """Return the connections, those at risk first, and of these the one that the path forgets soonest."""
    return connections(judgement, order_of_urgency(judgement, at_risk_only=at_risk_only))


def order_of_urgency(judgement: Judgement, *, at_risk_only: bool) -> Indices:
    """Return their rows in that order."""
    at_risk = is_any(judgement.forecast.verdict, AT_RISK)
    order = np.lexsort((judgement.forecast.cut_at, ~at_risk))
    return order[: at_risk.sum()] if at_risk_only else order


def _shown(switch: Column, timer: Column) -> list[Shown]:
    """Return what to show of keepalive: what the engine read, or else what the timer shows."""
    return [
        KNOWN.get(known) or SHOWN.get(ticking, Shown.HIDDEN)
        for known, ticking in zip(switch.tolist(), timer.tolist(), strict=True)
    ]


def endpoints(sockets: Sockets | Column, side: str, rows: Indices) -> list[Endpoint]:
    """Return one end of the connections in these rows; `side` is "local" or "remote"."""
    high, low, port = (sockets[f"{side}_{part}"][rows].tolist() for part in ("high", "low", "port"))
    return [
        Endpoint(_address(upper << 64 | lower), number) for upper, lower, number in zip(high, low, port, strict=True)
    ]


@functools.lru_cache(maxsize=1024)
def _address(number: int) -> str:
    """Return an address as people write it; a v4-mapped one as IPv4."""
    address = ipaddress.IPv6Address(number)
    return str(address.ipv4_mapped or address)
