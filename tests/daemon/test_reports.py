"""The report of very many connections: it stays columns, and holds up neither the daemon nor its worker."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from keepaliveD.daemon.perform import Performer
from keepaliveD.log import entries
from keepaliveD.model.actions import Outcome
from keepaliveD.model.connections import Connection, Owner, Verdict, WhatCounts
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.rules import OnDrift, Path, Rules, Watching
from keepaliveD.model.sockets import Indices
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.platforms.requests import FindOwners
from keepaliveD.policy import scans
from keepaliveD.policy.verdicts import connections
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.connections import select, with_owners
from keepaliveD.policy.verdicts.judge import Judgement, judge
from keepaliveD.policy.verdicts.measured import without_measured
from tests.support.fakes import FakeAtConnect, FakeTuner
from tests.support.tables import CONFIGURED, idle, table

GUESSED = Path("default", 240.0, Origin(Source.GUESS))
PROXY = Path("proxy", 60.0, CONFIGURED, ports=(443,), counts=WhatCounts.DATA)
MANY = 2000


def test_the_report_of_many_connections_is_the_same_from_columns_as_from_objects() -> None:
    """Owners, paths, users and verdicts differ, and some of these were reported as expired before."""
    sockets = [
        idle(310.0 if number % 3 else 20.0, cookie=number, uid=number % 2, remote_port=443 if number % 5 == 0 else 22)
        for number in range(1, 61)
    ]
    judgement = judge(table(1000.0, *sockets), nothing_known(), [GUESSED, PROXY], ())
    owners = [Owner(7, "sshd", "ssh.service"), Owner(5, "amandad"), Owner()]
    found = with_owners(select(judgement, np.arange(60)), owners, np.arange(60) % 4 % 3)
    before = tuple(Verdict.UNKNOWN if number % 7 else Verdict.CUT for number in range(60))
    said = [list(entries.of(Outcome(ReportConnections(each, before)))) for each in (found, tuple(found))]
    assert said[0] == said[1]
    assert len(said[0]) > 6


def test_a_report_of_many_connections_makes_objects_only_of_those_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    make = connections.connections

    def counting(judgement: Judgement, rows: Indices, owners: Iterable[Owner] = ()) -> tuple[Connection, ...]:
        made.append(len(rows))
        return make(judgement, rows, owners)

    for module in (connections, scans):
        monkeypatch.setattr(module, "connections", counting, raising=False)
    decider = scans.ScanDecider(Rules(wanted={}, on_drift=OnDrift.WARN, paths=(GUESSED,), ignore=(), warn_before=60.0))
    at_risk = (idle(220.0, cookie=number, local_port=number) for number in range(1, MANY + 1))
    _, actions = decider.observe(table(1000.0, *at_risk))
    (report,) = (action for action in actions if isinstance(action, ReportConnections))
    (entry,) = entries.of(without_measured(Outcome(report)))
    assert entry.fields["KEEPALIVE_COUNT"] == len(report.connections) == MANY
    assert sum(made) < 10


def test_of_many_reported_connections_only_units_are_looked_for() -> None:
    """To look for the processes of a million sockets took so long that the worker was taken for one that hangs."""
    scan = table(1000.0, *(idle(310.0, cookie=number, cgroup=3 + number % 2) for number in range(MANY)))
    found = select(judge(scan, nothing_known(), [GUESSED], ()), np.arange(MANY))
    performer = Performer(Platform("fake", FakeTuner(), FakeAtConnect(), never_open), None)
    steps = performer.perform(ReportConnections(found, (Verdict.UNKNOWN,) * MANY))
    request = next(steps)
    assert isinstance(request, FindOwners)
    assert (request.inodes.tolist(), request.cgroups.tolist()) == ([0, 0], [3, 4])
    with pytest.raises(StopIteration) as done:
        steps.send(([Owner(unit="ssh.service"), Owner()], np.array([0, 1])))
    reported = done.value.value.action.connections
    assert [one.owner.unit for one in reported[:3]] == ["ssh.service", "", "ssh.service"]


def never_open(watching: Watching) -> Session:
    """Fail: nothing is read here."""
    raise AssertionError(watching)
