"""What the columns of `keepalivectl sockets` show: of one connection, or of many that share an owner and a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from keepaliveD.log.entries.connections import Whose, named, whose
from keepaliveD.model.connections import Connection, Due, Verdict, WhatCounts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.text import printable, quoted

Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True)
class Column(Generic[Shown]):
    """One column: its name for `--columns`, its heading, what it shows.

    In a terminal that is too narrow the columns with the lowest `rank` are left out first. A cell is shortened down to
    `shortest` characters, if that is not 0.
    """

    name: str
    heading: str
    cell: Callable[[Shown], str]
    rank: int
    shortest: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Connections of one owner with one verdict, the most urgent first."""

    connections: Sequence[Connection]

    @property
    def first(self) -> Connection:
        """Return the most urgent connection."""
        return self.connections[0]

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of all of them."""
        return self.first.verdict


def grouped(connections: Iterable[Connection]) -> list[Group]:
    """Return the connections by owner and verdict, the most urgent groups first, as the connections are."""
    members: dict[tuple[Whose, Verdict], list[Connection]] = {}
    for one in connections:
        members.setdefault((whose(one.owner, one.uid), one.verdict), []).append(one)
    return [Group(tuple(each)) for each in members.values()]


# of one connection


def _verdict(one: Connection) -> str:
    return one.verdict.label + ("" if one.confirmed else "?")


def _span(seconds: float) -> str:
    return "-" if math.isnan(seconds) else span(seconds)


def _left(one: Connection) -> float:
    """Return the time left: of a safe one none is over, however long ago the scan was after which a probe was due."""
    return 0.0 if one.verdict is Verdict.SAFE and one.left < 0.0 else one.left


def _next_packet(one: Connection) -> str:
    if one.due is Due.NOTHING:
        return "no data" if one.counts is WhatCounts.DATA else "none"
    if one.due is Due.END:
        return f"unanswered: ends in {span(max(0.0, one.due_in))}"
    return f"{one.due.label} in {span(max(0.0, one.due_in))}"


def _keepalive(one: Connection) -> str:
    return one.keepalive.value + (" (MPTCP)" if one.subflow else "")


def _process(one: Connection) -> str:
    return f"{quoted(one.owner.process)}[{one.owner.pid}]" if one.owner.pid else "-"


def _container(one: Connection) -> str:
    return quoted(one.owner.container) if one.owner.container else "-"


def _belongs_to(group: Group) -> str:
    """Return whose a group is; only a unit is a bare word."""
    owner = whose(group.first.owner, group.first.uid)
    return printable(owner.unit) or named(owner)


EACH: tuple[Column[Connection], ...] = (
    Column("verdict", "VERDICT", _verdict, 100),
    Column("left", "LEFT", lambda one: _span(_left(one)), 90),
    Column("idle", "IDLE", lambda one: _span(one.idle), 20),
    Column("next", "NEXT PACKET", _next_packet, 30),
    Column("keepalive", "KEEPALIVE", _keepalive, 60),
    Column("local", "LOCAL", lambda one: str(one.local), 10),
    Column("remote", "REMOTE", lambda one: str(one.remote), 80),
    Column("process", "PROCESS", _process, 50, shortest=12),
    Column("unit", "UNIT", lambda one: printable(one.owner.unit) or "-", 70, shortest=24),
    Column("path", "PATH", lambda one: printable(one.path), 40, shortest=12),
)
MORE: tuple[Column[Connection], ...] = (  # only where they are asked for
    Column(
        "container",
        "CONTAINER",
        lambda one: quoted(one.owner.container) if one.owner.container else "-",
        0,
        shortest=12,
    ),
    Column("user", "UID", lambda one: str(one.uid), 0),
    Column("state", "STATE", lambda one: one.state, 0),
    Column("timeout", "TIMEOUT", lambda one: _span(one.timeout), 0),
    Column("origin", "ORIGIN", lambda one: printable(str(one.origin)), 0, shortest=12),
    Column("namespace", "NETNS", lambda one: str(one.netns), 0),
    Column("cookie", "COOKIE", lambda one: f"sk:{one.cookie:x}", 0),
)


# of many


def _some(group: Group, words: Callable[[Connection], str]) -> str:
    """Return what the most urgent one says, and how many others say something else."""
    others = len({words(one) for one in group.connections}) - 1
    return f"{words(group.first)} +{others}" if others else words(group.first)


def _group_verdict(group: Group) -> str:
    """With a question mark if it is not certain of all of them."""
    sure = all(one.confirmed for one in group.connections)
    return group.verdict.label + ("" if sure else "?")


def _least(seconds: Iterable[float]) -> str:
    known = [each for each in seconds if not math.isnan(each)]
    return span(min(known)) if known else "-"


def _most(seconds: Iterable[float]) -> str:
    known = [each for each in seconds if not math.isnan(each)]
    return span(max(known)) if known else "-"


def _group_next(group: Group) -> str:
    soonest = min(group.connections, key=lambda one: FOREVER if one.due is Due.NOTHING else one.due_in)
    return _next_packet(soonest)


GROUPS: tuple[Column[Group], ...] = (
    Column("verdict", "VERDICT", _group_verdict, 100),
    Column("count", "COUNT", lambda group: str(len(group.connections)), 95),
    Column("left", "LEFT", lambda group: _least(map(_left, group.connections)), 90),
    Column("idle", "IDLE", lambda group: _most(one.idle for one in group.connections), 10),
    Column("next", "NEXT PACKET", _group_next, 20),
    Column("unit", "UNIT", _belongs_to, 80, shortest=24),
    Column("keepalive", "KEEPALIVE", lambda group: _some(group, _keepalive), 50),
    Column("remote", "REMOTE", lambda group: _some(group, lambda one: str(one.remote)), 70),
    Column("path", "PATH", lambda group: _some(group, lambda one: printable(one.path)), 60, shortest=12),
)
