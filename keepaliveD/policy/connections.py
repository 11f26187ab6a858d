"""Make objects of rows of a judgement: for people, for the journal, and for arming."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepaliveD.model.connections import AT_RISK, Connection, Due, Endpoint, Verdict
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.sockets import Column, Indices, Sockets, Switch, TcpState, Timer
from keepaliveD.policy.judge import Judgement

OWN_FIREWALL = Origin(Source.FIREWALL, "conntrack")
SURVIVED = Origin(Source.EVIDENCE, "longest silence it survived")

STATES = {state.value: state.name for state in TcpState}
SHOWN = {Timer.KEEPALIVE.value: Shown.ON, Timer.OFF.value: Shown.OFF}
KNOWN = {Switch.ON.value: Shown.ON, Switch.OFF.value: Shown.OFF}


@dataclass(frozen=True, slots=True, eq=False)
class Selected(Sequence[Connection]):
    """The connections in these rows, made anew for each that iterates: a million of them take a gigabyte."""

    judgement: Judgement
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Connection]:
        return iter(connections(self.judgement, self.rows))

    def __getitem__(self, which: Any) -> Any:
        return connections(self.judgement, self.rows)[which]


def connections(judgement: Judgement, rows: Indices) -> tuple[Connection, ...]:
    """Return the connections in these rows."""
    sockets, activity, forecast = judgement.table.sockets, judgement.activity, judgement.forecast
    timeouts = forecast.timeout[rows].tolist()
    paths = [judgement.assigned.paths[index] for index in judgement.assigned.index[rows].tolist()]
    columns: tuple[Collection[Any], ...] = (  # in the order of Connection's fields
        *(sockets[name][rows].tolist() for name in ("cookie", "netns", "inode", "uid", "cgroup")),
        endpoints(sockets, "local", rows),
        endpoints(sockets, "remote", rows),
        [STATES[state] for state in sockets["state"][rows].tolist()],
        _shown(sockets["keepalive"][rows], sockets["timer"][rows]),
        [Verdict(verdict) for verdict in forecast.verdict[rows].tolist()],
        [Due(due) for due in forecast.due[rows].tolist()],
        (forecast.due_at[rows] - forecast.now).tolist(),
        (forecast.now - activity.last_packet[rows]).tolist(),
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
    )
    return tuple(Connection(*fields) for fields in zip(*columns, strict=True))


def with_cookies(judgement: Judgement, cookies: Collection[int]) -> tuple[Connection, ...]:
    """Return the connections with these cookies, as far as they still exist."""
    wanted = np.fromiter(cookies, np.uint64, len(cookies))
    return connections(judgement, np.flatnonzero(np.isin(judgement.table.sockets["cookie"], wanted)))


def by_urgency(judgement: Judgement, *, at_risk_only: bool) -> tuple[Connection, ...]:
    """Return the connections, those at risk first, and of these the one that the path forgets soonest."""
    return connections(judgement, order_of_urgency(judgement, at_risk_only=at_risk_only))


def order_of_urgency(judgement: Judgement, *, at_risk_only: bool) -> Indices:
    """Return their rows in that order."""
    at_risk = np.isin(judgement.forecast.verdict, [int(verdict) for verdict in AT_RISK])
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
