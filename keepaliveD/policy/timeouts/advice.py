"""Advice about idle timeouts: what scans and ends of connections show of each path, at most one a path and day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keepaliveD.model.findings import Finding
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets
from keepaliveD.policy.timeouts.moments import Death, Moments
from keepaliveD.policy.timeouts.path_evidence import (
    Events,
    Subject,
    findings,
    nothing_known,
    observe,
    shortened,
    to_advise,
)
from keepaliveD.policy.timeouts.routes import DEFAULT, ByRoute
from keepaliveD.policy.verdicts.activity import Activity, find

MOST_PATHS = 256  # the first ones, that evidence is kept of: 9 KB each
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: no two addresses of one family come to the same number
FIRST_PERSON = 1000  # the users below are the system's own (login.defs(5), SYS_UID_MAX) ...
OF_SERVICES = 61184, 65519  # ... and so are these, which systemd gives to services (systemd.exec(5), DynamicUser=)
FIRST_OF_CLIENTS = 32768  # whoever connects gets a port from here on, by default (net.ipv4.ip_local_port_range)


def are_evidence(rows: Sockets | Column, netns: int) -> Bools:
    """Return which connections show what holds for the host: those that its services opened, in its own `netns`.

    In a namespace of his own anybody makes firewalls as he likes, any user has peers elsewhere that fall silent, and
    whoever may connect to a service ends his connections as he likes. Who opened one is seen by its ports.
    """
    user = rows["uid"]
    of_service = (user < FIRST_PERSON) | ((user >= OF_SERVICES[0]) & (user <= OF_SERVICES[1]))
    opened_here = (rows["local_port"] >= FIRST_OF_CLIENTS) & (rows["remote_port"] < FIRST_OF_CLIENTS)
    counted: Bools = of_service & opened_here & (rows["netns"] == netns)
    return counted


class Advisor:
    """Counts the silences that connections survived, and those in which they died. `products` are usual timeouts.

    Only rows that are `counted` do: see are_evidence.
    """

    def __init__(self, paths: Sequence[Path], products: Sequence[float]) -> None:
        self._cookie = np.empty(0, np.uint64)
        self._survived = np.empty(0)  # of these sockets, the longest silence so far
        self._paths: Sequence[Path] = ()
        self._shorter: Mapping[str, Path] = {}  # by name, where evidence has shortened a guess
        self._advised: Mapping[Subject, float] = {}  # when
        self.by_route = ByRoute()
        self.findings: Sequence[Finding] = ()  # what contradicts the timeouts now, whether it was reported or not
        self.follow(paths, products)

    def follow(self, paths: Sequence[Path], products: Sequence[float]) -> None:
        """Advise about these paths from now on; what was counted for others is forgotten."""
        if paths[:MOST_PATHS] != self._paths:
            self._paths, self._shorter, self.findings = paths[:MOST_PATHS], {}, ()
            self._evidence, self._has_news = nothing_known(len(self._paths)), False
            self._moments = Moments(len(self._paths))
            self.by_route.forget()
        self._products = products

    def with_evidence(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Return the same paths, with the timeouts that evidence has shortened; the very same where it has none."""
        return [self._shorter.get(path.name, path) for path in paths] if self._shorter else paths

    def scanned(self, memory: Activity, path: Indices, counted: Bools, sockets: Sockets) -> None:
        """Count the silences of connections that were longer than any that they had survived before."""
        row, known = find(self._cookie, memory.cookie)
        before = self._survived[row] if len(self._survived) else np.zeros(len(memory.cookie))
        longer = np.flatnonzero(known & counted & (memory.survived > before))
        new = np.flatnonzero(~known & counted & (path == DEFAULT))
        self._cookie, self._survived = memory.cookie, memory.survived
        self._moments.scanned(memory.taken_at, path, counted, sockets)
        if len(new):
            self.by_route.meet(sockets, new, memory.taken_at)
        if len(longer):
            none = np.zeros(len(longer), np.bool_)
            silences = Events(path[longer].astype(np.intp), memory.survived[longer], none, np.zeros(len(longer), "u8"))
            self._count(silences)
            self.by_route.count(sockets, longer, silences)

    def died(self, ended: Column, path: Column, cause: Column, counted: Bools) -> None:
        """Take in ends of connections, of which those count that the path had forgotten; each moment counts once."""
        self._moments.died(ended, path, cause, np.flatnonzero(counted))

    def _count_deaths(self, now: float) -> None:
        """Count the one death of each moment that is over."""
        for path, (death, *others) in self._moments.closed(now):
            one = Events(np.array([path], np.intp), np.array([death.silence]), np.ones(1, np.bool_), _peer(death))
            self._count(one._replace(other_peer=_another(death, others)))
            by_it = [other for other in others if other.row["local_low"] == death.row["local_low"]]
            self.by_route.count(death.row, np.zeros(1, np.intp), one._replace(other_peer=_another(death, by_it)))

    def due(self, now: float) -> tuple[Finding, ...]:
        """Return what to advise now."""
        self._count_deaths(now)
        if not self._has_news:
            return ()
        self._has_news = False
        by_route = self.by_route.findings(self._paths[DEFAULT], self._products) if self._paths else []
        self.findings = [*findings(self._paths, self._evidence, self._products), *by_route]
        self._shorter = shortened(self.findings, self._shorter)
        to_report, self._advised = to_advise(self.findings, self._advised, now)
        return tuple(to_report)

    def _count(self, events: Events) -> None:
        known = events.path < len(self._paths)
        if known.any():
            self._evidence, self._has_news = observe(self._evidence, events.select(known)), True


def _peer(death: Death) -> Column:
    """Return the number of its peer."""
    peer: Column = death.row["remote_low"] ^ (death.row["remote_high"] * MIX)
    return peer


def _another(death: Death, others: Sequence[Death]) -> Column:
    """Return the number of another peer, if these have one."""
    mine = _peer(death)
    return next((peer for peer in map(_peer, others) if peer[0] != mine[0]), mine)
