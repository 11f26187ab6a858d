"""Requests to a session: everything that touches what belongs to others, and may hang with it.

Whatever needs an answer is a generator (`Steps`): it yields a request and receives the answer, or the error
that the request raised. The daemon has a worker carry requests out; keepalivectl does so itself (`directly`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar, overload

import numpy as np

from keepaliveD.model.actions import AskFirewall, Outcome, ReadIdleTimes
from keepaliveD.model.arming import LOOKED
from keepaliveD.model.autopsy import Alike, Death
from keepaliveD.model.connections import Connection, Owner
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import Refusal
from keepaliveD.model.routes import Route
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Column, SocketTable
from keepaliveD.platforms.base import Session
from keepaliveD.policy.arming.choices import targets
from keepaliveD.policy.verdicts import firewall
from keepaliveD.policy.verdicts.activity import Activity
from keepaliveD.policy.verdicts.connections import column, with_owners
from keepaliveD.policy.verdicts.judge import Judgement, judged_anew

Result = TypeVar("Result")


class Request(Protocol):
    """One question or one thing to do, which can be sent to another process, as can its answer."""

    @property
    def repeatable(self) -> bool:
        """Return whether the request may be carried out again if the first answer was lost."""

    def carry_out(self, session: Session) -> Any:
        """Return the answer. Raises Refusal."""


Steps = Generator[Request, Any, Result]


@dataclass(frozen=True, slots=True)
class Open:
    """Open a session that reads sockets as `watching` says. If that fails, the session before stays.

    The answer describes the engine.
    """

    watching: Watching
    repeatable = True

    def carry_out(self, session: Session) -> str:
        """Return the description of the engine of this session, which is open."""
        return session.watcher.engine_description


@dataclass(frozen=True, slots=True)
class Scan:
    """Read every TCP socket; `now` is when."""

    now: float
    repeatable = True

    def carry_out(self, session: Session) -> SocketTable:
        """Return all sockets that can be seen."""
        return session.watcher.scan(self.now)


@dataclass(frozen=True, slots=True)
class FindSocketsOf:
    """Find the sockets of processes."""

    pids: Sequence[int]
    repeatable = True

    def carry_out(self, session: Session) -> dict[int, frozenset[int] | Refusal]:
        """Return their inodes by process, or why they are not known."""
        return session.owners.held_by(self.pids)


@dataclass(frozen=True, slots=True)
class FindOwners:
    """Find process, unit and container of sockets; both are columns.

    `units_suffice`: of no process, unless the armer reaches the sockets by their processes.
    """

    inodes: Column
    cgroups: Column
    units_suffice: bool = False
    repeatable = True

    def carry_out(self, session: Session) -> tuple[list[Owner], Column]:
        """Return the owners, and which of them is that of each socket."""
        if self.units_suffice and session.armer.by_cookie:
            cgroups, which = np.unique(self.cgroups, return_inverse=True)
            return session.owners.find([0] * len(cgroups), cgroups.tolist()), which
        found = session.owners.find(self.inodes.tolist(), self.cgroups.tolist())
        objects = dict(zip(map(id, found), found, strict=True))  # most share theirs: to compare them takes longer
        number = {one: number for number, one in enumerate(objects)}.__getitem__
        return list(objects.values()), np.fromiter(map(number, map(id, found)), np.int64, len(found))


def owners_of(inodes: Column, cgroups: Column, *, units_suffice: bool = False) -> Steps[tuple[list[Owner], Column]]:
    """Return the owners of sockets, and which of them is that of each socket."""
    found: tuple[list[Owner], Column] = yield FindOwners(
        inodes.astype(np.uint64), cgroups.astype(np.uint64), units_suffice
    )
    return found


@overload
def find_owners(
    connections: tuple[Connection, ...], *, units_suffice: bool = False
) -> Steps[tuple[Connection, ...]]: ...
@overload
def find_owners(connections: Sequence[Connection], *, units_suffice: bool = False) -> Steps[Sequence[Connection]]: ...
def find_owners(connections: Sequence[Connection], *, units_suffice: bool = False) -> Steps[Sequence[Connection]]:
    """Return the same connections with their owners, as far as this process may look; see FindOwners.

    Only numbers go there and back: to send 100,000 connections takes seconds.
    """
    inodes, cgroups = column(connections, "inode"), column(connections, "cgroup")
    owners, which = yield from owners_of(inodes, cgroups, units_suffice=units_suffice)
    return with_owners(connections, owners, which)


def find_units_of(connections: Sequence[Connection]) -> Steps[Sequence[Connection]]:
    """Return the same connections with their units and containers alone: their cgroups say these, and are few."""
    cgroups, which = np.unique(column(connections, "cgroup"), return_inverse=True)
    owners, number = yield from owners_of(np.zeros(len(cgroups)), cgroups)
    return with_owners(connections, owners, number[which])


def find_owners_of_ended(reports: Sequence[Alike]) -> Steps[tuple[Alike, ...]]:
    """Return the same reports with the owners of their examples, as far as this process may look.

    A program that was told an error still holds the socket. One that closed it does not: nobody looks for that, nor
    for the process of an example among many. What was known before stays known when process and cgroup are gone.
    """
    ended = [(death, not alike.is_summary) for alike in reports for death in alike.examples]
    inodes = np.array([death.inode if is_single and death.is_held else 0 for death, is_single in ended], np.uint64)
    owners, which = yield FindOwners(inodes, np.array([death.cgroup for death, _ in ended], np.uint64))
    found = iter([owners[number] for number in which.tolist()])
    return tuple(
        dataclasses.replace(alike, examples=tuple(_with_owner(death, next(found)) for death in alike.examples))
        for alike in reports
    )


def _with_owner(death: Death, found: Owner) -> Death:
    before = death.owner
    process = found if found.pid else before
    named = found.unit or before.unit, found.container or before.container
    return dataclasses.replace(death, owner=Owner(process.pid, process.process, *named))


def find_units(cgroups: Sequence[int]) -> Steps[dict[int, str]]:
    """Return the systemd unit of each cgroup, "" where it has none."""
    owners, which = yield FindOwners(np.zeros(len(cgroups), np.uint64), np.array(cgroups, np.uint64))
    return {cgroup: owners[number].unit for cgroup, number in zip(cgroups, which.tolist(), strict=True)}


def find_routes(ends: Column) -> Steps[list[Route | None]]:
    """Return the routes of the first of these, as many as there is time for; None without one."""
    found: list[Route | None] = yield AskForRoutes(ends)
    return found


@dataclass(frozen=True, slots=True)
class ReadSocketSettings:
    """Read the keepalive settings of sockets; model.arming has the columns."""

    targets: Column
    closing: bool
    repeatable = True

    def carry_out(self, session: Session) -> Column:
        """Return what stands in the first of these sockets, as many as are read at once."""
        return session.armer.read(self.targets, closing=self.closing)


@dataclass(frozen=True, slots=True, eq=False)
class ConsultFirewall:
    """Ask this host's own firewall about connections; model.firewall has the columns."""

    flows: Column
    repeatable = True

    def carry_out(self, session: Session) -> Column:
        """Return what it remembers of each."""
        return session.firewall.ask(self.flows)


@dataclass(frozen=True, slots=True, eq=False)
class AskForRoutes:
    """Ask by which routes this host reaches peers: rows of policy.routes.ENDS."""

    ends: Column
    repeatable = True

    def carry_out(self, session: Session) -> list[Route | None]:
        """Return those of the first of these, as many as there is time for."""
        return session.routes.find(self.ends)


@dataclass(frozen=True, slots=True)
class ChangeSocketSettings:
    """Set keepalive in the sockets in which the expected settings still stand."""

    changes: Column
    closing: bool
    repeatable = False

    def carry_out(self, session: Session) -> Column:
        """Return the result of each change."""
        return session.armer.change(self.changes, closing=self.closing)


def look(action: ReadIdleTimes | AskFirewall) -> Steps[Column]:
    """Return what this action asks for: rows of model.arming.LOOKED, or of model.firewall.ENTRY."""
    if isinstance(action, AskFirewall):
        entries: Column = yield ConsultFirewall(action.flows)
        return entries
    targets, looked = action.targets, np.zeros(0, LOOKED)
    yield FindOwners(targets["inode"].astype(np.uint64), action.cgroups)  # by which an armer reaches the sockets
    while len(looked) < len(targets):
        looked = np.concatenate([looked, (yield ReadSocketSettings(targets[len(looked) :], closing=False))])
    return looked


def look_into(connections: Sequence[Connection]) -> Steps[Column]:
    """Return what stands in the sockets of these connections, whose owners were found: rows of model.arming.LOOKED."""
    rest, looked = targets(connections), np.zeros(0, LOOKED)
    while len(rest):
        some: Column = yield ReadSocketSettings(rest, closing=True)
        looked, rest = np.concatenate([looked, some]), rest[len(some) :]
    return looked


def with_firewall(judgement: Judgement, warn_before: float) -> Steps[Judgement]:
    """Return the same judgement, made with what this host's own firewall says of the most urgent connections."""
    return (yield from _learning(judgement, *firewall.to_ask(judgement, judgement.activity, warn_before)))


def with_firewall_about(judgement: Judgement, connections: Sequence[Connection]) -> Steps[Judgement]:
    """Return the same judgement, made with what this host's own firewall says of these connections."""
    return (yield from _learning(judgement, *firewall.to_ask_about(judgement, judgement.activity, connections)))


def _learning(judgement: Judgement, actions: Sequence[AskFirewall], memory: Activity) -> Steps[Judgement]:
    for action in actions:
        memory = firewall.learn(memory, Outcome(action, looked=(yield from look(action))))
    return judged_anew(judgement, memory)


def scan(now: float) -> Steps[SocketTable]:
    """Return all sockets that can be seen; `now` is when."""
    table: SocketTable = yield Scan(now)
    return table


def sockets_of(pid: int) -> Steps[frozenset[int]]:
    """Return the inodes of the sockets that a process holds. Raises NoInput, NotPermitted, Unsupported."""
    inodes = (yield from sockets_of_each([pid]))[pid]
    if isinstance(inodes, Refusal):
        raise inodes
    return inodes


def sockets_of_each(pids: Sequence[int]) -> Steps[dict[int, frozenset[int] | Refusal]]:
    """Return the inodes of the sockets that each of these processes holds, or why they are not known."""
    inodes: dict[int, frozenset[int] | Refusal] = yield FindSocketsOf(pids)
    return inodes


def directly(steps: Steps[Result], session: Session) -> Result:
    """Carry out the requests of `steps` in this process, and return what the steps return. Raises what they raise."""
    try:
        request = next(steps)
        while True:
            try:
                answer = request.carry_out(session)
            except Refusal as refusal:
                request = steps.throw(refusal)
            else:
                request = steps.send(answer)
    except StopIteration as end:
        result: Result = end.value
        return result
