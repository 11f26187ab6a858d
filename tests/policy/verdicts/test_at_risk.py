"""Which units have connections at risk: what status says of them."""

from __future__ import annotations

from keepaliveD.model.connections import Verdict
from keepaliveD.model.snapshot import AtRisk
from keepaliveD.policy.verdicts.at_risk import MOST, at_risk
from tests.support.tables import idle, table, watch

UNITS = {7: "backup.service", 8: "web.service", 9: "web.service"}


def test_connections_of_one_unit_are_one_and_the_most_urgent_comes_first() -> None:
    """Also of several cgroups, as of a service with cgroups of its own."""
    looks = watch(
        table(
            1000.0,
            idle(10.0, cookie=1, cgroup=8, uid=33),
            idle(50.0, cookie=2, cgroup=9, uid=0),
            idle(20.0, cookie=3, cgroup=7, uid=0),
        )
    )
    first, second = at_risk(looks, UNITS)
    assert (first.unit, first.verdict, first.count, first.user) == ("web.service", Verdict.BARE, 2, 0)
    assert 240 < first.left <= 250
    assert (second.unit, second.count) == ("backup.service", 1)


def test_connections_of_no_known_unit_are_their_users() -> None:
    looks = watch(table(1000.0, idle(10.0, cookie=1, uid=33), idle(20.0, cookie=2, uid=1000)))
    assert [(one.unit, one.user, one.count) for one in at_risk(looks, UNITS)] == [("", 1000, 1), ("", 33, 1)]


def test_verdicts_are_kept_apart() -> None:
    looks = watch(table(1000.0, idle(10.0, cookie=1, cgroup=7), idle(4000.0, cookie=2, cgroup=7)))
    assert [one.verdict for one in at_risk(looks, UNITS)] == [Verdict.CUT, Verdict.BARE]


def test_no_more_are_listed_than_fit_into_an_answer() -> None:
    looks = watch(table(1000.0, *(idle(float(number), cookie=number, uid=number) for number in range(1, MOST + 50))))
    assert len(at_risk(looks, UNITS)) == MOST


def test_no_number_of_users_crowds_a_unit_out() -> None:
    users = (idle(20.0 + number, cookie=number, uid=number) for number in range(2, MOST + 50))
    looks = watch(table(1000.0, *users, idle(10.0, cookie=1, cgroup=7)))
    assert at_risk(looks, UNITS)[-1].unit == "backup.service"


def test_no_number_of_login_sessions_crowds_a_unit_out() -> None:
    """A user may log in very often; his connections are one user's, however many sessions they belong to."""
    sessions = {number: f"session-{number}.scope" for number in range(100, 2 * MOST + 100)}
    its = (idle(20.0, cookie=number, cgroup=number, uid=1000) for number in sessions)
    looks = watch(table(1000.0, *its, idle(10.0, cookie=1, cgroup=7)))
    of_user, of_unit = at_risk(looks, UNITS | sessions)
    assert (of_user.unit, of_user.user, of_user.count) == ("", 1000, 2 * MOST)
    assert of_unit.unit == "backup.service"


def test_where_nothing_is_at_risk_there_is_nothing() -> None:
    looks = watch(table(1000.0))
    found: tuple[AtRisk, ...] = at_risk(looks, UNITS)
    assert found == ()
