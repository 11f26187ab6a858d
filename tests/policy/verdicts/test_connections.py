"""Many connections stay columns: what is read from the columns is what the objects say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from keepaliveD.model.actions import Arm
from keepaliveD.model.connections import Connection, Owner, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.results import Arming, ArmingResult, Mark
from keepaliveD.model.rules import ArmAction, ArmRule, Path, Wish
from keepaliveD.model.sockets import Switch, Timer
from keepaliveD.policy.arming import arming
from keepaliveD.policy.arming.arming import by_rules
from keepaliveD.policy.arming.choices import Recorded, targets
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.connections import (
    COLUMNS,
    Selected,
    column,
    connections,
    owners_of,
    part,
    paths_of,
    select,
    with_owners,
)
from keepaliveD.policy.verdicts.judge import Judgement, judge
from tests.support.tables import CONFIGURED, Socket, idle, table

GUESSED = Path("default", 240.0, Origin(Source.GUESS))
PROXY = Path("proxy", 60.0, CONFIGURED, ports=(443,), counts=WhatCounts.DATA)
OWNERS = [Owner(7, "sshd", "ssh.service"), Owner(5, "amandad", "amanda.service"), Owner()]
WHICH = np.array([1, 0, 2, 1])


def judged() -> Judgement:
    """Four sockets: without a timer, with one, on a path that counts only data, and known to be off."""
    on: Socket = {"timer": Timer.KEEPALIVE, "expires": 7190.0, "cookie": 2}
    sockets = (
        idle(10.0, cookie=1),
        idle(90.0) | on,
        idle(20.0, cookie=3, remote_port=443),
        idle(30.0, cookie=4, keepalive=Switch.OFF, timer=Timer.RETRANSMIT, expires=1.0),
    )
    return judge(table(1000.0, *sockets), nothing_known(), [GUESSED, PROXY], ())


def selected() -> Selected:
    """Return them with their owners."""
    found = with_owners(select(judged(), np.arange(4)), OWNERS, WHICH)
    assert isinstance(found, Selected)
    return found


def said(connections: Sequence[Connection]) -> list[str]:
    """Return what these connections hold, as text: NaN does not equal itself."""
    return list(map(repr, connections))


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_say_what_the_objects_say(name: str) -> None:
    np.testing.assert_array_equal(column(selected(), name), column(tuple(selected()), name))


def test_each_connection_has_the_owner_that_was_found_for_it() -> None:
    objects = tuple(select(judged(), np.arange(4)))
    assert said(selected()) == said(with_owners(objects, OWNERS, WHICH))
    assert said([selected()[1]]) == said(tuple(selected())[1:2])
    assert said(selected()[1:3]) == said(tuple(selected())[1:3])


def test_a_part_has_the_same_connections_whether_they_are_columns_or_objects() -> None:
    for rows in (np.array([3, 0]), np.array([True, False, False, True])):
        assert said(part(selected(), rows)) == said(part(tuple(selected()), rows))
    np.testing.assert_array_equal(targets(selected()), targets(tuple(selected())))


def test_owners_and_paths_are_those_of_the_objects() -> None:
    for of in (owners_of, paths_of):
        by_column, by_object = (of(each) for each in (selected(), tuple(selected())))
        assert [by_column[0][one] for one in by_column[1]] == [by_object[0][one] for one in by_object[1]]


@pytest.mark.parametrize("action", ArmAction)
@pytest.mark.parametrize("entries", [{}, {1: Mark.LEFT_ALONE}])
def test_rules_choose_the_same_whether_the_connections_are_columns_or_objects(
    action: ArmAction, entries: dict[int, Mark]
) -> None:
    wish = Wish(ArmRule("arm[1]", action, 180, 20, 31, units=("amanda*",)), Keepalive(180, 20, 31))
    both = [by_rules(Arm((), (wish,)), each, Recorded(entries)) for each in (selected(), tuple(selected()))]
    (orders, left), (as_objects, left_as_objects) = both
    assert (said(orders.connections), orders.wishes) == (said(as_objects.connections), as_objects.wishes)
    assert orders.wish_of.tolist() == as_objects.wish_of.tolist()
    assert [(one.result, said(one.connections)) for one in left] == [
        (one.result, said(one.connections)) for one in left_as_objects
    ]


@pytest.mark.parametrize("result", [ArmingResult.ARMED, ArmingResult.LEFT_BY_RULE, ArmingResult.TOO_LONG])
def test_results_are_remembered_alike(result: ArmingResult) -> None:
    memory = judged().activity

    def remembered(connections: Selected | tuple[Connection, ...]) -> list[int]:
        after: list[int] = arming.remember(memory, [Arming(connections, result)]).arming.tolist()
        return after

    assert remembered(selected()[1:]) == remembered(tuple(selected())[1:])
    assert remembered(selected()[1:])[0] == memory.arming[0]


def test_a_connection_says_after_which_silence_the_first_packet_left_that_is_not_answered() -> None:
    """Three probes left, the first after 180 s; that of netlink, which does not read intervals, is not known."""
    asked = idle(225.0, timer=Timer.KEEPALIVE, expires=15.0, probes=3)
    read: Socket = {"keepidle": 180, "keepintvl": 20, "keepcnt": 9}
    look = judge(table(1000.0, asked | read, asked, idle(225.0)), nothing_known(), [GUESSED], ())
    assert [one.unanswered_after for one in connections(look, np.arange(3))] == [180.0, FOREVER, FOREVER]


def test_data_that_this_host_drops_itself_was_first_tried_after_the_silence_before_it() -> None:
    """It stays unsent, and is tried again after 0.2, 0.4 and 0.8 s, each time as the newest data."""
    unsent = idle(17.6, since_sent=0.2, timer=Timer.ZERO_WINDOW, expires=1.4, probes=3)
    (one,) = connections(judge(table(1000.0, unsent), nothing_known(), [GUESSED], ()), np.arange(1))
    assert one.unanswered_after == pytest.approx(16.0, abs=0.05)


def test_a_connection_is_quiet_since_the_packet_from_which_its_cut_is_counted() -> None:
    """Its first probe has just left, in time: what is left and how long it was quiet make up the timeout."""
    probed = idle(100.2, timer=Timer.KEEPALIVE, keepalive=Switch.ON, expires=19.8, probes=1, since_packet=0.2)
    settings: Socket = {"keepidle": 100, "keepintvl": 20, "keepcnt": 9}
    before = judge(table(1000.0, idle(99.0)), nothing_known(), [GUESSED], ())
    sent: Socket = {"segments_out": 11}
    (one,) = connections(judge(table(1001.2, probed | settings | sent), before.activity, [GUESSED], ()), np.arange(1))
    assert one.verdict is Verdict.SAFE
    assert one.idle == pytest.approx(0.2)
    assert one.idle + one.left == pytest.approx(one.timeout, abs=0.2)
