"""Which sockets are armed: whose rule, how far, with which times, and how often they are asked."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepaliveD.model.actions import Arm, Outcome
from keepaliveD.model.connections import Owner, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import KernelError, NotPermitted
from keepaliveD.model.keepalive import MAX_IDLE, MAX_PROBES, TIMER_SLACK, Keepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, OnDrift, Path, Rules, Wish
from keepaliveD.model.sockets import SocketTable, Switch, Timer
from keepaliveD.policy.arming import arming
from keepaliveD.policy.arming.arming import by_hand, by_rules, first_matching, plan, times
from keepaliveD.policy.arming.choices import Recorded
from keepaliveD.policy.arming.meaning import ENOUGH, probes_before
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.verdicts.activity import Activity, nothing_known
from keepaliveD.policy.verdicts.judge import Judgement, judge
from tests.support import samples
from tests.support.tables import CONFIGURED, Socket, idle, table

OBSERVE, REARM, ENABLE = ArmAction.OBSERVE, ArmAction.REARM, ArmAction.ENABLE
OFFICE = Path("office", 300.0, CONFIGURED, (ipaddress.ip_network("10.0.0.0/8"),))
CLOUD = Path("cloud", 350.0, CONFIGURED, (ipaddress.ip_network("198.51.100.0/24"),))
PATHS = [Path("default", 240.0, Origin(Source.GUESS)), OFFICE, CLOUD]

BARE = idle(10.0)
LATE = idle(10.0, timer=Timer.KEEPALIVE, expires=7190.0)
SAFE = idle(10.0, timer=Timer.KEEPALIVE, expires=170.0)


def rule(action: ArmAction, name: str = "arm[1]", **selectors: Any) -> ArmRule:
    return ArmRule(name, action, 180, 20, 31, **selectors)


def nets(*networks: str) -> tuple[Any, ...]:
    return tuple(map(ipaddress.ip_network, networks))


def judged(scan: SocketTable, memory: Activity | None = None, paths: Sequence[Path] = PATHS) -> Judgement:
    return judge(scan, nothing_known() if memory is None else memory, paths, ())


def armed(rules: Sequence[ArmRule], *sockets: Socket) -> dict[int, tuple[str, ...]]:
    """Which sockets are to be armed, and by which rules: one of them, once its owner is known."""
    actions, _ = plan(judged(table(1000.0, *sockets)), rules)
    return {
        connection.cookie: tuple(wish.rule.name for wish in action.wishes)
        for action in actions
        for connection in action.connections
    }


def is_armed(rule: ArmRule, socket: Socket) -> bool:
    return bool(armed([rule], socket))


# selectors that the table answers


@pytest.mark.parametrize(
    ("selector", "matching", "other"),
    [
        ({"users": (34, 35)}, {"uid": 35}, {"uid": 36}),
        ({"users": (0,)}, {"uid": 0}, {"uid": 1}),
        ({"users": (4294967294,)}, {"uid": 4294967294}, {"uid": 0}),
        ({"networks": nets("10.20.0.0/16")}, {"remote": "10.20.0.9"}, {"remote": "10.21.0.9"}),
        ({"networks": nets("10.20.0.0/16")}, {"remote": "10.20.0.9"}, {"local": "10.20.0.9"}),
        ({"networks": nets("192.0.2.0/24", "2001:db8::/32")}, {"remote": "2001:db8::1"}, {"remote": "2001:db9::1"}),
        ({"ports": (10080,)}, {"remote_port": 10080}, {"remote_port": 10081}),
        ({"ports": (22, 10080)}, {"local_port": 10080, "remote_port": 5}, {"local_port": 1008, "remote_port": 5}),
        ({"paths": ("office",)}, {"remote": "10.0.0.1"}, {"remote": "198.51.100.1"}),
        ({"paths": ("off*", "clo?d")}, {"remote": "198.51.100.1"}, {"remote": "203.0.113.1"}),
        ({"paths": ("default",)}, {"remote": "203.0.113.1"}, {"remote": "10.0.0.1"}),
        ({"verdicts": (Verdict.BARE,)}, {}, {"timer": Timer.KEEPALIVE, "expires": 7190.0}),
        ({"verdicts": (Verdict.LATE, Verdict.CUT)}, {"timer": Timer.KEEPALIVE, "expires": 7190.0}, {}),
    ],
)
def test_a_selector_takes_what_it_names_and_nothing_else(selector: Any, matching: Socket, other: Socket) -> None:
    assert is_armed(rule(ENABLE, **selector), BARE | matching)
    assert not is_armed(rule(ENABLE, **selector), BARE | other)
    assert is_armed(rule(ENABLE), BARE | other), "without it, that one too"


def test_nothing_is_armed_on_a_path_that_counts_only_data() -> None:
    """Not even by hand: no packet of keepalive counts there."""
    proxy = dataclasses.replace(CLOUD, counts=WhatCounts.DATA)
    scan = table(1000.0, BARE, LATE | {"cookie": 2})
    judgement = judged(scan, paths=[PATHS[0], proxy])
    assert plan(judgement, [rule(ENABLE)])[0] == []
    (action,) = by_hand(judgement, [1, 2], rule(ENABLE))
    orders, left = by_rules(action, action.connections, Recorded({}))
    assert not orders.connections
    assert [(arming.result, len(arming.connections)) for arming in left] == [(ArmingResult.ONLY_DATA, 2)]


def test_the_verdict_cut_can_be_named() -> None:
    silent = idle(500.0)
    assert is_armed(rule(ENABLE, verdicts=(Verdict.CUT,)), silent)
    assert not is_armed(rule(ENABLE, verdicts=(Verdict.BARE,)), silent)


def test_all_selectors_of_a_rule_must_agree() -> None:
    both = rule(ENABLE, users=(34,), ports=(10080,))
    assert is_armed(both, BARE | {"uid": 34, "remote_port": 10080})
    assert not is_armed(both, BARE | {"uid": 34})
    assert not is_armed(both, BARE | {"remote_port": 10080})


# which rule


def test_the_first_rule_that_matches_counts() -> None:
    rules = [rule(ENABLE, "a", ports=(22,)), rule(ENABLE, "b", ports=(22, 80)), rule(ENABLE, "c")]
    sockets = [BARE | {"cookie": port, "remote_port": port} for port in (22, 80, 443)]
    assert armed(rules, *sockets) == {22: ("a",), 80: ("b",), 443: ("c",)}


def test_observe_ends_the_search() -> None:
    """One word for: never touch these."""
    rules = [rule(OBSERVE, "a", ports=(22,)), rule(ENABLE, "b")]
    sockets = [BARE | {"cookie": port, "remote_port": port} for port in (22, 80)]
    assert armed(rules, *sockets) == {80: ("b",)}


@pytest.mark.parametrize("selector", [{"units": ("x",)}, {"processes": ("x",)}, {"containers": ("x",)}])
def test_a_rule_that_asks_for_the_owner_leaves_later_ones_open(selector: Any) -> None:
    """Until the owner is known, either may be the one."""
    rules = [rule(ENABLE, "a", **selector), rule(ENABLE, "b"), rule(ENABLE, "c")]
    assert armed(rules, BARE) == {1: ("a", "b")}


def test_observe_for_an_owner_leaves_later_ones_open_too() -> None:
    assert armed([rule(OBSERVE, "a", units=("x",)), rule(ENABLE, "b")], BARE) == {1: ("a", "b")}
    assert armed([rule(ENABLE, "a", units=("x",)), rule(OBSERVE, "b")], BARE) == {1: ("a", "b")}


def test_whom_no_rule_would_touch_nobody_looks_for() -> None:
    """To find the owners costs more than all else."""
    assert armed([rule(OBSERVE, "a", units=("x",)), rule(OBSERVE, "b")], BARE) == {}
    assert armed([rule(REARM, "a", units=("x",)), rule(REARM, "b")], BARE) == {}
    assert armed([rule(ENABLE, "a", units=("x",), ports=(1,)), rule(OBSERVE, "b")], BARE) == {}


def test_without_rules_nothing_is_armed() -> None:
    assert armed([], BARE, LATE) == {}


# how far


def test_rearm_takes_only_sockets_whose_keepalive_is_on() -> None:
    assert armed([rule(REARM)], BARE | {"cookie": 1}, LATE | {"cookie": 2}) == {2: ("arm[1]",)}


def test_keepalive_that_an_engine_knows_to_be_on_counts_without_a_timer() -> None:
    assert armed([rule(REARM)], BARE | {"keepalive": Switch.ON}) == {1: ("arm[1]",)}
    assert armed([rule(REARM)], BARE | {"keepalive": Switch.OFF}) == {}


def test_a_rule_to_rearm_shadows_one_to_enable() -> None:
    """First match wins, also where the first has nothing to do."""
    assert armed([rule(REARM, "a"), rule(ENABLE, "b")], BARE | {"cookie": 1}, LATE | {"cookie": 2}) == {2: ("a",)}


@pytest.mark.parametrize(
    "socket",
    [
        pytest.param(SAFE, id="safe"),
        pytest.param(BARE | {"inode": 0}, id="an orphan: no program is left"),
        pytest.param(BARE | {"timer": Timer.RETRANSMIT, "expires": 400.0}, id="a retransmit is pending"),
        pytest.param(BARE | {"timer": Timer.ZERO_WINDOW, "expires": 400.0}, id="a zero-window probe is pending"),
        pytest.param(BARE | {"timer": Timer.KEEPALIVE, "expires": 7000.0, "probes": 1}, id="an unanswered probe"),
        pytest.param(BARE | {"state": 8}, id="CLOSE_WAIT: no timeout is known"),
        pytest.param(BARE | {"state": 5}, id="FIN_WAIT2"),
    ],
)
def test_nothing_else_is_touched(socket: Socket) -> None:
    """Only connections that are at risk, and that keepalive would help."""
    assert not is_armed(rule(ENABLE), socket)
    assert is_armed(rule(ENABLE), BARE)


# what an action holds


def test_connections_of_one_path_and_the_same_rules_are_one_action() -> None:
    """So owners are found in one pass, and a thousand sockets are no thousand actions."""
    rules = [rule(ENABLE, "a", ports=(22,)), dataclasses.replace(rule(ENABLE, "b"), idle=None)]
    sockets = [
        BARE | {"cookie": 10 * number + extra, "remote": remote, "remote_port": port}
        for number, (remote, port) in enumerate(
            [("10.0.0.1", 22), ("198.51.100.1", 22), ("10.0.0.1", 80), ("198.51.100.1", 80)]
        )
        for extra in range(3)
    ]
    actions, _ = plan(judged(table(1000.0, *sockets)), rules)
    found = {
        tuple(one.cookie for one in action.connections): [(wish.rule.name, wish.times.idle) for wish in action.wishes]
        for action in actions
    }
    assert found == {
        (0, 1, 2): [("a", 180)],
        (10, 11, 12): [("a", 180)],
        (20, 21, 22): [("b", 246)],
        (30, 31, 32): [("b", 290)],
    }
    assert not any(action.by_hand for action in actions)


def test_an_action_is_about_so_many_connections_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million connections as objects take a gigabyte."""
    monkeypatch.setattr("keepaliveD.policy.arming.arming.AT_ONCE", 2)
    scan = judged(table(1000.0, *(BARE | {"cookie": number} for number in range(5))))
    actions, _ = plan(scan, [rule(ENABLE, "a")])
    assert [[one.cookie for one in action.connections] for action in actions] == [[0, 1], [2, 3], [4]]
    assert [len(action.connections) for action in actions] == [2, 2, 1]
    assert actions[0].connections[1].cookie == 1


def test_by_hand_takes_those_named_whatever_their_outlook() -> None:
    scan = table(1000.0, *(each | {"cookie": number} for number, each in enumerate([BARE, LATE, SAFE, BARE])))
    hand = rule(ENABLE, "hand")
    (action,) = by_hand(judged(scan), [1, 2, 2**64 - 1], hand)
    assert [one.cookie for one in action.connections] == [1, 2]
    assert action.by_hand
    assert action.wishes == (Wish(hand, Keepalive(180, 20, 31)),)
    assert by_hand(judged(scan), [], hand) == []


# whom a rule means


ME = Owner(7, "amandad", "amanda@backup.service", "c0ffee")


@pytest.mark.parametrize(
    ("selector", "means"),
    [
        ({}, True),
        ({"units": ("amanda*.service",)}, True),
        ({"units": ("cron.service", "amanda@backup.service")}, True),
        ({"units": ("amanda",)}, False),
        ({"units": ("AMANDA*",)}, False),
        ({"processes": ("amand?",)}, False),
        ({"processes": ("amand[abd]d", "x")}, True),
        ({"containers": ("c0f*",)}, True),
        ({"containers": ("*",), "processes": ("sshd",)}, False),
        ({"units": ("amanda*",), "processes": ("amandad",), "containers": ("c0ffee",)}, True),
    ],
)
def test_an_owner_is_meant_by_patterns(selector: Any, means: bool) -> None:
    wish = Wish(rule(ENABLE, **selector), Keepalive(180, 20, 31))
    assert (first_matching([wish], ME) is wish) == means


@pytest.mark.parametrize("selector", [{"units": ("*",)}, {"processes": ("*",)}, {"containers": ("?*", "*")}])
def test_any_does_not_mean_none(selector: Any) -> None:
    """container = "*" is for whatever runs in one: who could not be told is not taken for somebody."""
    wish = Wish(rule(ENABLE, **selector), Keepalive(180, 20, 31))
    assert first_matching([wish], Owner()) is None
    assert first_matching([wish], ME) is wish


def test_of_the_rules_that_may_count_the_first_that_means_the_owner_does() -> None:
    wishes = [Wish(rule(ENABLE, name, units=units), Keepalive(1, 1, 1)) for name, units in [("a", ("x",)), ("b", ())]]
    assert first_matching(wishes, ME) is wishes[1]
    assert first_matching(wishes, Owner(unit="x")) is wishes[0]
    assert first_matching(wishes[:1], ME) is None


# idle = "auto"

TIMEOUTS = st.floats(0.01, 100_000) | st.integers(1, 40_000).map(float) | st.sampled_from([1e9, 1e300])
AUTO = st.builds(
    ArmRule, st.just("arm[1]"), st.just(ENABLE), st.none(), st.integers(1, MAX_IDLE), st.integers(ENOUGH, MAX_PROBES)
)


@given(AUTO, TIMEOUTS)
@example(dataclasses.replace(rule(ENABLE), idle=None), 300.0)
@example(dataclasses.replace(rule(ENABLE), idle=None), math.nextafter(2.25, 3))
def test_auto_leaves_two_probes_wherever_whole_seconds_can(rule: ArmRule, timeout: float) -> None:
    """One may get lost on the way."""
    chosen = times(rule, timeout)
    assert 1 <= chosen.interval <= chosen.idle <= MAX_IDLE
    assert chosen.interval <= rule.interval
    assert chosen.probes == rule.probes
    possible = probes_before(Keepalive(1, 1, ENOUGH), timeout) >= ENOUGH
    assert (probes_before(chosen, timeout) >= ENOUGH) == possible


@given(AUTO, TIMEOUTS | st.just(FOREVER))
def test_auto_is_the_longest_that_does(rule: ArmRule, timeout: float) -> None:
    """Probes are traffic; and the rule's interval stays where two probes fit with it."""
    chosen = times(rule, timeout)
    if chosen.idle < MAX_IDLE:
        longer = chosen._replace(idle=chosen.idle + 1)
        assert probes_before(longer, timeout) < ENOUGH
    if rule.interval <= timeout / (1 + TIMER_SLACK) / (ENOUGH + 1):
        assert chosen.interval == rule.interval


def test_auto_on_a_path_that_never_forgets_is_the_longest_there_is() -> None:
    """By hand any connection may be meant."""
    assert times(dataclasses.replace(rule(ENABLE), idle=None), FOREVER) == Keepalive(MAX_IDLE, 20, 31)


@pytest.mark.parametrize(
    ("timeout", "chosen"),
    [
        (300.0, (246, 20)),  # probes at 276.75 and 299.25 s at the latest
        (240.0, (192, 20)),
        (225.0, (179, 20)),  # 180 s and an interval are exactly the 200 s that there are: too late
        (60.0, (36, 17)),
        (5.0, (3, 1)),  # 3.375 and 4.5 s
        (2.26, (1, 1)),
        (2.25, (1, 1)),  # not possible
        (0.01, (1, 1)),
    ],
)
def test_what_auto_comes_to(timeout: float, chosen: tuple[int, int]) -> None:
    """Worked out by hand: less than timeout / 1.125, less an interval."""
    assert times(dataclasses.replace(rule(ENABLE), idle=None), timeout) == Keepalive(*chosen, 31)


def test_times_that_a_rule_names_are_taken_as_they_are() -> None:
    assert times(ArmRule("a", ENABLE, 7000, 80, 3), 10.0) == Keepalive(7000, 80, 3)


# how often


class Life:
    """A daemon's engine, scan by scan, with an armer that answers as it is told."""

    def __init__(self, *rules: ArmRule) -> None:
        self.rules = Rules({}, OnDrift.REAPPLY, PATHS, (), 60.0, rules)
        self.decider = ScanDecider(self.rules)
        self.result = ArmingResult.ARMED
        self.reported: list[int] = []

    def scan(self, now: float, *sockets: Socket) -> list[int]:
        """The cookies that are asked for."""
        _, actions = self.decider.observe(table(now, *sockets))
        asked: list[int] = []
        self.reported = []
        for action in actions:
            if isinstance(action, Arm):
                asked += [one.cookie for one in action.connections]
                armings = (Arming(tuple(action.connections), self.result),)
                self.decider.record(Outcome(action, armings=armings))
            elif isinstance(action, ReportConnections):
                self.reported += [one.cookie for one in action.connections]
        return asked

    def reload(self) -> None:
        self.decider.follow(self.rules)


def quiet(now: float, **others: Any) -> Socket:
    """Silent since 990."""
    return idle(now - 990.0, **others)


def kept(now: float) -> Socket:
    """The same, with keepalive that is in time."""
    return quiet(now, timer=Timer.KEEPALIVE, expires=1170.0 - now)


def test_a_socket_is_asked_for_once() -> None:
    life = Life(rule(ENABLE))
    life.result = ArmingResult.NOT_PERMITTED
    assert life.scan(1000.0, quiet(1000.0)) == [1]
    assert life.scan(1015.0, quiet(1015.0)) == []
    assert life.scan(1400.0, quiet(1400.0)) == [], "also once it is cut"
    assert life.decider.results == {ArmingResult.NOT_PERMITTED: 1}


def test_a_reload_asks_again() -> None:
    """Somebody has given the right, or another rule."""
    life = Life(rule(ENABLE))
    life.result = ArmingResult.NOT_PERMITTED
    life.scan(1000.0, quiet(1000.0))
    life.reload()
    assert life.scan(1015.0, quiet(1015.0)) == [1]
    assert life.scan(1030.0, quiet(1030.0)) == []


def test_a_socket_without_a_use_for_a_rule_is_considered_once_for_each_verdict() -> None:
    life = Life(rule(ENABLE, verdicts=(Verdict.CUT,)))
    assert life.scan(1000.0, quiet(1000.0)) == []
    assert life.scan(1200.0, quiet(1200.0)) == []
    assert life.scan(1400.0, quiet(1400.0)) == [1], "it is cut now"


def test_who_switches_keepalive_on_late_is_still_rearmed() -> None:
    """Bare at first sight, as between connect(2) and setsockopt(2)."""
    life = Life(rule(REARM))
    assert life.scan(1000.0, quiet(1000.0)) == []
    assert life.scan(1015.0, quiet(1015.0, timer=Timer.KEEPALIVE, expires=7200.0)) == [1]


def test_what_was_armed_is_asked_for_once_more_where_it_is_at_risk_again() -> None:
    """Somebody has set it since: that is noticed, once."""
    life = Life(rule(ENABLE))
    assert life.scan(1000.0, quiet(1000.0)) == [1]
    assert life.scan(1015.0, kept(1015.0)) == []
    life.result = ArmingResult.CHANGED_SINCE
    assert life.scan(1030.0, quiet(1030.0)) == [1]
    assert life.scan(1045.0, quiet(1045.0)) == []
    assert life.decider.results == {ArmingResult.ARMED: 1, ArmingResult.CHANGED_SINCE: 1}


def test_what_was_armed_and_is_cut_all_the_same_is_past_help() -> None:
    """Its probes are on their way, and end it."""
    life = Life(rule(ENABLE))
    life.scan(1000.0, quiet(1000.0))
    assert life.scan(1400.0, quiet(1400.0)) == []
    life.reload()
    assert life.scan(1415.0, quiet(1415.0)) == []


def test_a_reload_does_not_arm_anew_what_is_armed() -> None:
    life = Life(rule(ENABLE))
    life.scan(1000.0, quiet(1000.0))
    life.reload()
    assert life.scan(1015.0, kept(1015.0)) == []


def test_who_was_left_by_the_rule_of_its_owner_is_considered_again_when_its_outlook_changes() -> None:
    """That there is a rule for somebody else must make no difference."""
    life = Life(rule(ENABLE, units=("x",)), rule(REARM, "keepalive.arm"))
    life.result = ArmingResult.LEFT_BY_RULE
    assert life.scan(1000.0, quiet(1000.0)) == [1]
    assert life.scan(1015.0, quiet(1015.0)) == []
    life.result = ArmingResult.ARMED
    assert life.scan(1030.0, quiet(1030.0, timer=Timer.KEEPALIVE, expires=7200.0)) == [1]
    assert life.scan(1045.0, kept(1045.0)) == []


def test_what_somebody_has_set_again_is_left_for_good() -> None:
    """Also by a reload: there is no second round."""
    life = Life(rule(ENABLE))
    life.scan(1000.0, quiet(1000.0))
    life.result = ArmingResult.CHANGED_SINCE
    assert life.scan(1015.0, quiet(1015.0)) == [1]
    life.reload()
    assert life.scan(1030.0, quiet(1030.0)) == []
    assert life.scan(1400.0, quiet(1400.0)) == []


def test_another_socket_is_another_case() -> None:
    """New ones come, old ones go, and the table's order changes."""
    life = Life(rule(ENABLE))
    assert life.scan(1000.0, quiet(1000.0, cookie=1), quiet(1000.0, cookie=2)) == [1, 2]
    scan = [quiet(1015.0, cookie=3), quiet(1015.0, cookie=2), quiet(1015.0, cookie=1)]
    life.result = ArmingResult.ALREADY_SET
    assert sorted(life.scan(1015.0, *scan)) == [1, 2, 3]
    assert life.scan(1030.0, quiet(1030.0, cookie=2), quiet(1030.0, cookie=4)) == [4]


def test_where_arming_is_refused_nothing_more_is_asked_until_a_reload() -> None:
    life = Life(rule(ENABLE))
    _, (action, *_) = life.decider.observe(table(1000.0, quiet(1000.0)))
    life.decider.record(Outcome(action, refused=NotPermitted("a sandbox")))
    assert life.scan(1015.0, quiet(1015.0), quiet(1015.0, cookie=2)) == []
    life.reload()
    assert life.scan(1030.0, quiet(1030.0), quiet(1030.0, cookie=2)) == [1, 2]


def test_who_was_at_risk_while_arming_was_suspended_is_asked_for_when_it_is_tried_again() -> None:
    """For a minute, then for two, and so on to an hour, however often that is."""
    life = Life(rule(ENABLE))
    refused_at = [1000.0, 1075.0, *(1210.0 + 300 * 2**number for number in range(4))]
    for now in refused_at:
        _, (action, *_) = life.decider.observe(table(now, quiet(now), quiet(now, cookie=2)))
        assert isinstance(action, Arm)
        assert [one.cookie for one in action.connections] == [1, 2], now
        life.decider.record(Outcome(action, refused=NotPermitted("a sandbox")))
        assert life.scan(now + 15.0, quiet(now + 15.0), quiet(now + 15.0, cookie=2)) == []
    assert life.scan(9000.0, quiet(9000.0), quiet(9000.0, cookie=2)) == [1, 2]
    assert life.scan(9015.0, kept(9015.0), kept(9015.0)) == []


def test_what_may_pass_at_any_time_is_tried_again_at_each_scan() -> None:
    """However long a disk is full."""
    life = Life(rule(ENABLE))
    for now in range(1000, 1600, 15):
        _, (action, *_) = life.decider.observe(table(float(now), quiet(float(now))))
        assert isinstance(action, Arm), now
        life.decider.record(Outcome(action, refused=KernelError("no space left")))


def test_who_is_not_armed_is_warned_of_while_others_are() -> None:
    """A scan later it may be too late."""
    life = Life(rule(ENABLE, users=(5,)))
    assert life.scan(1330.0, quiet(1330.0, cookie=1, uid=5), quiet(1330.0, cookie=2)) == [1]
    assert life.reported == [2]


def test_who_was_asked_for_in_vain_is_warned_of_while_others_are_armed() -> None:
    life = Life(rule(ENABLE))
    life.result = ArmingResult.NOT_PERMITTED
    life.scan(1000.0, quiet(1000.0))
    assert life.scan(1330.0, quiet(1330.0), quiet(1330.0, cookie=2)) == [2]
    assert life.reported == [1]


def test_nobody_is_warned_of_what_is_being_armed() -> None:
    """What comes of that is told anyway; where it was in vain, the warning follows."""
    life = Life(rule(ENABLE))
    life.result = ArmingResult.NOT_PERMITTED
    assert life.scan(1300.0, quiet(1300.0)) == [1]
    assert life.reported == []
    life.scan(1315.0, quiet(1315.0))
    assert life.reported == [1]


# nothing changed


@pytest.mark.parametrize("rules", [[rule(ENABLE)], [rule(REARM)], [rule(ENABLE, units=("x",)), rule(REARM)], []])
def test_a_scan_in_which_nothing_changed_costs_nothing(rules: list[ArmRule], monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is the same object, and no rule is even looked at."""
    sockets = [quiet(1000.0, cookie=1), LATE | {"cookie": 2}, SAFE | {"cookie": 3}]
    asked, memory = plan(judged(table(1000.0, *sockets)), rules)
    refused = [Arming(tuple(action.connections), ArmingResult.NOT_PERMITTED) for action in asked]
    memory = arming.remember(memory, refused)
    monkeypatch.setattr(arming, "_chances", lambda *_: pytest.fail("looked at the rules"))
    again = judged(table(1000.0, *sockets), memory)
    actions, same = plan(again, rules)
    assert actions == []
    assert same is again.activity


@pytest.mark.parametrize("certain", [False, True])
def test_what_a_presumed_cut_was_refused_is_tried_again(*, certain: bool) -> None:
    """Once the cut is certain, any times show it to the program."""
    cut = dataclasses.replace(samples.BARE, verdict=Verdict.CUT, confirmed=certain)
    memory = dataclasses.replace(
        nothing_known(), cookie=np.array([cut.cookie], np.uint64), arming=np.array([arming.Considered.TRYING], np.uint8)
    )
    (mark,) = arming.remember(memory, [Arming((cut,), ArmingResult.TOO_LONG)]).arming.tolist()
    assert mark == (arming.Considered.REFUSED if certain else arming.Considered.TRYING)


def test_to_remember_nothing_is_to_change_nothing() -> None:
    memory = nothing_known()
    assert arming.remember(memory, ()) is memory


def test_a_host_without_sockets_needs_nothing() -> None:
    actions, memory = plan(judged(table(1000.0)), [rule(ENABLE)])
    assert actions == []
    assert len(memory) == 0


# any rules


SOCKETS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    uid=st.integers(0, 3),
    remote=st.sampled_from(["10.0.0.1", "198.51.100.1", "203.0.113.1"]),
    remote_port=st.integers(1, 3),
    local_port=st.integers(1, 3),
    inode=st.integers(0, 2),
    timer=st.sampled_from(Timer),
    expires=st.sampled_from([0.0, 100.0, 7000.0]),
)
OWNERS = st.builds(Owner, st.just(1), st.sampled_from(["p", "q"]), st.sampled_from(["u", "v"]), st.just("c"))
PATTERNS = st.sampled_from([(), (), ("u", "p"), ("*",), ("v",)])
RULES = st.builds(
    ArmRule,
    st.just(""),
    st.sampled_from(ArmAction),
    st.none() | st.just(180),
    st.just(20),
    st.just(31),
    units=PATTERNS,
    processes=PATTERNS,
    users=st.sampled_from([(), (), (1,), (1, 2)]),
    networks=st.sampled_from([(), (), nets("10.0.0.0/8")]),
    ports=st.sampled_from([(), (), (1,), (2, 3)]),
    paths=st.sampled_from([(), (), ("office",), ("*d*",)]),
    verdicts=st.sampled_from([(), (), (Verdict.BARE,), (Verdict.LATE, Verdict.CUT)]),
)


def matches(rule: ArmRule, socket: Any, verdict: Verdict, path: str, owner: Owner) -> bool:
    """What the manual says of one rule, socket by socket."""
    remote = ipaddress.ip_address(socket["remote"])
    return (
        (not rule.users or socket["uid"] in rule.users)
        and (not rule.networks or any(remote in network for network in rule.networks))
        and (not rule.ports or bool({socket["remote_port"], socket["local_port"]} & set(rule.ports)))
        and (not rule.paths or any(p.strip("*") in path for p in rule.paths))
        and (not rule.verdicts or verdict in rule.verdicts)
        and (not rule.units or "*" in rule.units or owner.unit in rule.units)
        and (not rule.processes or "*" in rule.processes or owner.process in rule.processes)
    )


@given(st.lists(RULES, max_size=4), st.lists(st.tuples(SOCKETS, OWNERS), min_size=1, max_size=5))
def test_columns_choose_as_the_manual_says_one_by_one(
    rules: list[ArmRule], owned: list[tuple[dict[str, Any], Owner]]
) -> None:
    """The first rule that matches, for each socket alone; what none would touch is not asked for."""
    rules = [dataclasses.replace(each, name=str(number)) for number, each in enumerate([*rules, rule(OBSERVE)])]
    sockets = [idle(10.0, **socket, cookie=number) for number, (socket, _) in enumerate(owned)]
    judgement = judged(table(1000.0, *sockets))
    actions, memory = plan(judgement, rules)
    wishes = {one.cookie: action.wishes for action in actions for one in action.connections}
    for number, (socket, owner) in enumerate(owned):
        verdict = Verdict(judgement.forecast.verdict[number])
        path = PATHS[judgement.assigned.index[number]].name
        first = next(each for each in rules if matches(each, socket, verdict, path, owner))
        on = socket["timer"] is Timer.KEEPALIVE
        acts = first.action is ENABLE or (first.action is REARM and on)
        helps = socket["timer"] in (Timer.OFF, Timer.KEEPALIVE, Timer.TIMEWAIT) and socket["inode"] != 0
        at_risk = verdict in (Verdict.LATE, Verdict.BARE, Verdict.CUT)
        chosen = first_matching(wishes.get(number, ()), owner)
        if acts and helps and at_risk:
            assert chosen
            assert chosen.rule == first
        elif chosen and helps and at_risk:
            assert chosen.rule == first
        else:
            assert not chosen
    assert np.array_equal(memory.cookie, judgement.activity.cookie)
