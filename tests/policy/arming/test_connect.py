"""What can be decided while a connection is established."""

import dataclasses
from ipaddress import ip_network
from itertools import product

import pytest

from keepaliveD.model.connections import Owner, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from keepaliveD.policy.arming.arming import times
from keepaliveD.policy.arming.connect import (
    MOST_OPENINGS,
    MOST_OWNERS,
    MOST_PATHS,
    MOST_ROUTES,
    ConnectPlan,
    Opening,
    Route,
    decided,
    plan,
)
from tests.support.tables import CONFIGURED

TEN, LOOPBACK = ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")
DEFAULT = Path("default", 240.0, CONFIGURED)
LASTING = Path("lasting", FOREVER, CONFIGURED, networks=(LOOPBACK,))
ENABLE = ArmRule("all", ArmAction.ENABLE, 180, 20, 31)
REST = ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)
LEAVE = Opening(None, 0, None)


def rule(**selectors: object) -> ArmRule:
    return ArmRule("some", ArmAction.ENABLE, 180, 20, 31, **selectors)  # type: ignore[arg-type]


def openings(*rules: ArmRule) -> list[Opening]:
    return list(plan(rules, (), [DEFAULT]).openings)


def test_new_connections_on_a_path_that_counts_only_data_are_not_armed() -> None:
    """And no rule that concerns it alone is followed."""
    proxy = dataclasses.replace(DEFAULT, counts=WhatCounts.DATA)
    assert plan([ENABLE], (), [proxy]) == ConnectPlan()
    office = Path("office", 90.0, CONFIGURED, networks=(TEN,))
    rooms = {route.network: route.room for route in plan([ENABLE], (), [proxy, office]).routes}
    assert rooms[None] is None
    assert rooms[TEN]


def test_a_rule_for_all_arms_all_and_nothing_behind_it_is_reached() -> None:
    assert openings(ENABLE, REST) == [Opening(None, 0, ENABLE)]


def test_each_pair_of_a_network_and_a_port_is_an_opening() -> None:
    some = rule(networks=(TEN, LOOPBACK), ports=(22, 25))
    found = openings(some, REST)
    assert found[:4] == [Opening(network, port, some) for network in (TEN, LOOPBACK) for port in (22, 25)]
    assert found[4:] == [Opening(None, 0, None, 1)]


def test_ignored_networks_come_first_and_are_left_alone() -> None:
    assert plan([ENABLE], (LOOPBACK,), [DEFAULT]).openings == (Opening(LOOPBACK, 0, None), Opening(None, 0, ENABLE))


@pytest.mark.parametrize("unsure", [{"processes": ("psql",)}, {"users": (5,)}, {"verdicts": (Verdict.BARE,)}])
def test_what_only_a_scan_can_decide_is_left_to_it_and_so_is_all_that_it_may_concern(unsure: dict[str, object]) -> None:
    """The first rule that matches counts, so nothing may overtake one that perhaps matches."""
    first = rule(networks=(TEN,), **unsure)
    assert not decided(first)
    followed = plan([first, ENABLE], (), [DEFAULT])
    assert followed.openings == (Opening(TEN, 0, None), Opening(None, 0, ENABLE, 1))
    assert followed.followed == {1}


def test_a_rule_behind_one_that_may_concern_everything_is_not_followed() -> None:
    assert plan([rule(processes=("psql",)), ENABLE], (), [DEFAULT]) == ConnectPlan()


def test_units_and_containers_are_known_by_the_cgroup_of_a_socket() -> None:
    """The first rule that matches counts, so others are tried only for sockets whose cgroup is not meant."""
    backup, guest = rule(units=("backup@*",), ports=(22,)), rule(containers=("c1",))
    assert decided(backup)
    first, second, *_ = openings(backup, guest, ENABLE, REST)
    assert (first.port, first.rule, second.rule) == (22, backup, guest)
    assert [first.matches_owner(Owner(unit=unit)) for unit in ("backup@a.service", "ssh.service", "")] == [
        True,
        False,
        False,
    ]
    assert [second.matches_owner(Owner(container=name)) for name in ("c1", "c2")] == [True, False]


def test_a_rule_that_also_asks_for_the_process_concerns_whoever_has_the_unit() -> None:
    """So only their connections are left to the next scan."""
    first, second = openings(rule(units=("ssh*",), processes=("sshd",)), ENABLE)
    assert first.rule is None
    assert first.matches_owner(Owner(unit="ssh.service"))
    assert not first.matches_owner(Owner(unit="cron.service"))
    assert second == Opening(None, 0, ENABLE, 1)


def test_a_rule_for_a_path_concerns_connections_that_take_it() -> None:
    office = Path("office", 90.0, CONFIGURED, networks=(TEN,))
    first = rule(paths=("off*",))
    found = plan([first, REST], (), [DEFAULT, office])
    (bit,) = {route.path for route in found.routes if route.network == TEN}
    assert found.openings[0] == Opening(None, 0, first, paths=1 << bit)
    assert found.followed == {0}


def test_a_rule_for_a_path_that_never_forgets_has_nothing_to_arm() -> None:
    assert plan([rule(paths=("lasting",)), REST], (), [DEFAULT, LASTING]).followed == frozenset()


def test_where_no_rule_enables_or_no_path_forgets_there_is_nothing_to_do() -> None:
    """And no program has to be loaded."""
    assert plan([REST], (LOOPBACK,), [DEFAULT]) == ConnectPlan()
    assert plan([ENABLE], (), [Path("default", FOREVER, CONFIGURED)]) == ConnectPlan()


def test_the_most_specific_path_comes_first() -> None:
    """As policy.paths.assign has it: prefix, then ports, then an interface; of equals the first."""
    paths = [
        DEFAULT,
        Path("wide", 60.0, CONFIGURED, networks=(ip_network("10.0.0.0/8"),)),
        Path("narrow", 70.0, CONFIGURED, networks=(ip_network("10.1.0.0/16"),)),
        Path("ports", 80.0, CONFIGURED, networks=(ip_network("10.0.0.0/8"),), ports=(22, 25)),
        Path("second", 90.0, CONFIGURED, networks=(ip_network("10.0.0.0/8"),)),
    ]
    found = plan([ENABLE], (), paths).routes
    assert [(str(route.network), route.port, route.room and round(route.room * 71 / 63)) for route in found] == [
        ("10.1.0.0/16", 0, 70),
        ("10.0.0.0/8", 22, 80),
        ("10.0.0.0/8", 25, 80),
        ("10.0.0.0/8", 0, 60),
        ("10.0.0.0/8", 0, 90),
        ("None", 0, 240),
    ]


def test_a_path_that_is_selected_by_interface_may_be_taken_so_its_connections_are_left() -> None:
    wan = Path("wan", 60.0, CONFIGURED, networks=(TEN,), interface="wan0")
    assert plan([ENABLE], (), [DEFAULT, wan]).routes[0] == Route(TEN, 0, 0, None)


def test_a_path_that_never_forgets_leaves_its_connections_alone() -> None:
    assert plan([ENABLE], (), [DEFAULT, LASTING]).routes[0] == Route(LOOPBACK, 0, 0, None)


def test_the_times_that_fit_a_path_follow_from_two_numbers() -> None:
    """The kernel's program adds and compares; policy.arming divides."""
    for timeout, interval in product((0.5, 1, 3, 4, 5, 9, 60, 61.5, 240, 3600, 432000, 1e9), (1, 20, 75, 32767)):
        auto = ArmRule("auto", ArmAction.ENABLE, None, interval, 9)
        (route,) = plan([auto], (), [Path("default", timeout, CONFIGURED)]).routes
        shorter = min(interval, max(1, route.third))
        idle = min(max(1, route.below - shorter), 32767)
        assert times(auto, timeout)[:2] == (idle, min(shorter, idle)), timeout


def test_rules_that_there_is_no_room_for_are_named_and_their_connections_left() -> None:
    networks = tuple(ip_network(f"10.{number}.0.0/16") for number in range(MOST_OPENINGS - 2))
    many = ArmRule("many", ArmAction.ENABLE, 180, 20, 31, networks=networks)
    whole = plan([many, ENABLE], (), [DEFAULT])
    assert (len(whole.openings), whole.followed, whole.cut) == (MOST_OPENINGS - 1, frozenset({0, 1}), ())
    cut = plan([many, rule(ports=(22, 25)), ENABLE], (), [DEFAULT])
    assert (cut.openings[-1], cut.followed) == (LEAVE, frozenset({0}))
    assert cut.cut[0].startswith(
        "new connections that rule some or a later one matches are armed at the next scan: watch.ignore and [[arm]]"
    )


def test_more_ignored_networks_than_there_is_room_for_leave_everything() -> None:
    networks = tuple(ip_network(f"10.{number}.0.0/16") for number in range(MOST_OPENINGS))
    found = plan([ENABLE], networks, [DEFAULT])
    assert (found.openings, len(found.cut)) == ((), 1)


def test_more_rules_for_units_than_there_is_room_for_are_cut() -> None:
    rules = [rule(units=(f"u{number}",)) for number in range(MOST_OWNERS + 1)]
    found = plan([*rules, ENABLE], (), [DEFAULT])
    assert (len(found.followed), found.openings[-1]) == (MOST_OWNERS, LEAVE)
    assert "rules select by unit or container" in found.cut[0]


@pytest.mark.parametrize(
    "paths",
    [
        [
            Path(f"p{number}", 60.0, CONFIGURED, networks=(ip_network(f"10.{number}.0.0/16"),))
            for number in range(MOST_PATHS)
        ],
        [
            Path("ten", 60.0, CONFIGURED, networks=(TEN,)),
            Path("p", 60.0, CONFIGURED, ports=tuple(range(1, MOST_ROUTES + 1))),
        ],
    ],
)
def test_more_paths_than_there_is_room_for_are_cut(paths: list[Path]) -> None:
    found = plan([ENABLE], (), [DEFAULT, *paths])
    assert found.routes[-1] == Route(None, 0, 0, None)
    assert len(found.routes) <= MOST_ROUTES
    assert "new connections on path" in found.cut[0]
