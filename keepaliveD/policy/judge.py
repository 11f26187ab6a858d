"""From a table of sockets to a judgement of each: paths, activity, forecast, in this order."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keepaliveD.model import (
    AT_RISK,
    Connection,
    Counts,
    Due,
    Endpoint,
    IPNetwork,
    Path,
    Shown,
    SocketTable,
    Switch,
    TcpState,
    Timer,
    Verdict,
)
from keepaliveD.policy.activity import Activity, observe
from keepaliveD.policy.forecast import Forecast, forecast
from keepaliveD.policy.paths import Assigned, assign, ignored

SWITCH = {Switch.ON: Shown.ON, Switch.OFF: Shown.OFF}
TIMER = {Timer.KEEPALIVE: Shown.ON, Timer.OFF: Shown.OFF}  # tells where the switch itself is not known
SURVIVED = "longest silence it survived"


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that is known of one scan; every column follows `table`."""

    table: SocketTable
    assigned: Assigned
    activity: Activity
    forecast: Forecast


def judge(table: SocketTable, before: Activity, paths: Sequence[Path], ignore: Sequence[IPNetwork]) -> Judgement:
    """Judge every socket of the table whose peer is not to be ignored."""
    passed_over = ignored(table.sockets, ignore)
    if passed_over.any():
        table = dataclasses.replace(table, sockets=table.sockets.select(~passed_over))
    assigned = assign(table, paths)
    activity = observe(before, table, assigned.timeout)
    return Judgement(table, assigned, activity, forecast(table, activity, assigned))


def count(judgement: Judgement) -> Counts:
    """How many connections there are, by verdict."""
    numbers = np.bincount(judgement.forecast.verdict, minlength=len(Verdict)).tolist()
    return Counts(len(judgement.table), judgement.table.namespaces, dict(zip(Verdict, numbers, strict=True)))


def connections(judgement: Judgement, rows: Iterable[int]) -> tuple[Connection, ...]:
    """The chosen rows as objects, for people and the journal."""
    return tuple(_connection(judgement, int(row)) for row in rows)


def by_urgency(judgement: Judgement, *, at_risk_only: bool) -> tuple[Connection, ...]:
    """Connections as objects: those at risk first, those that are forgotten soonest at the top."""
    at_risk = np.isin(judgement.forecast.verdict, [int(verdict) for verdict in AT_RISK])
    order = np.lexsort((judgement.forecast.cut_at, ~at_risk))
    return connections(judgement, order[: at_risk.sum()] if at_risk_only else order)


def _connection(judgement: Judgement, row: int) -> Connection:
    sockets, activity, forecast = judgement.table.sockets, judgement.activity, judgement.forecast
    path = judgement.assigned.paths[judgement.assigned.index[row]]
    timeout = float(forecast.timeout[row])
    return Connection(
        cookie=int(sockets["cookie"][row]),
        netns=int(sockets["netns"][row]),
        inode=int(sockets["inode"][row]),
        uid=int(sockets["uid"][row]),
        cgroup=int(sockets["cgroup"][row]),
        local=_endpoint(judgement, "local", row),
        remote=_endpoint(judgement, "remote", row),
        state=TcpState(sockets["state"][row]).name,
        keepalive=SWITCH.get(sockets["keepalive"][row]) or TIMER.get(sockets["timer"][row], Shown.HIDDEN),
        verdict=Verdict(forecast.verdict[row]),
        due=Due(forecast.due[row]),
        due_in=float(forecast.due_at[row]) - forecast.now,
        idle=forecast.now - float(activity.last_packet[row]),
        left=float(forecast.cut_at[row]) - forecast.now,
        keepidle=float(activity.keepidle[row]),
        path=path.name,
        timeout=timeout,
        origin=SURVIVED if timeout > path.timeout else path.origin,
        confirmed=bool(forecast.confirmed[row]),
    )


def _endpoint(judgement: Judgement, side: str, row: int) -> Endpoint:
    sockets = judgement.table.sockets
    address = ipaddress.IPv6Address(int(sockets[f"{side}_high"][row]) << 64 | int(sockets[f"{side}_low"][row]))
    return Endpoint(str(address.ipv4_mapped or address), int(sockets[f"{side}_port"][row]))
