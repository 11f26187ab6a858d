"""What is known of a socket's idle time where the engine does not read it."""

import dataclasses

import numpy as np
import pytest

from keepaliveD.model.actions import Outcome, ReadIdleTimes
from keepaliveD.model.arming import LOOKED, TARGET, Access
from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Timer
from keepaliveD.policy.verdicts.activity import Activity
from keepaliveD.policy.verdicts.connections import connections
from keepaliveD.policy.verdicts.idle_times import learn, learn_armed, to_read
from keepaliveD.policy.verdicts.judge import Judgement, judge
from tests.support.tables import CONFIGURED, FIREWALL, Socket, idle, table, watch

BEFORE = SocketKeepalive(True, Keepalive(280, 75, 9))
TIMER: Socket = {"timer": Timer.KEEPALIVE, "cookie": 1}


def said(judgement: Judgement) -> tuple[Verdict, bool]:
    return Verdict(judgement.forecast.verdict[0]), bool(judgement.forecast.confirmed[0])


def read(memory: Activity, keepidle: int, interval: int) -> Activity:
    """The memory once the daemon has read the settings of the first socket."""
    targets, looked = np.zeros(1, TARGET), np.zeros(1, LOOKED)
    targets["cookie"] = 1
    looked["access"], looked["stands"] = Access.DONE, (keepidle, interval, 9, 1)
    return learn(memory, Outcome(ReadIdleTimes(targets, np.zeros(1, np.uint64)), looked=looked))


@pytest.mark.parametrize("result", [ArmingResult.ARMED, ArmingResult.FAILED])
def test_a_socket_that_was_armed_has_the_idle_time_that_was_set(result: ArmingResult) -> None:
    """Its timer ends so near to the instant at which the earlier one would have that it might be that one."""
    known = watch(table(1000.0, idle(150.0, timer=Timer.KEEPALIVE, expires=130.0)))
    memory = dataclasses.replace(known.activity, knows_keepidle=known.activity.cookie > 0)
    after = SocketKeepalive(True, Keepalive(130, 20, 31))
    arming = Arming(connections(known, np.array([0])), result, BEFORE, after)
    memory = learn_armed(memory, [arming])
    assert memory.keepidle[0] == (130.0 if result is ArmingResult.ARMED else 280.0)
    later = table(1150.0, idle(0.0, timer=Timer.KEEPALIVE, expires=130.0, segments_in=11, segments_out=11))
    judgement = judge(later, memory, [FIREWALL], [])
    assert judgement.activity.knows_keepidle[0]
    assert Verdict(judgement.forecast.verdict[0]) is Verdict.SAFE


@pytest.mark.parametrize(("interval", "verdict"), [(135, (Verdict.LATE, False)), (25, (Verdict.SAFE, True))])
def test_a_timer_that_ran_before_the_first_scan_may_be_as_late_as_one_of_the_interval(
    interval: int, verdict: tuple[Verdict, bool]
) -> None:
    """Data that came since it was set makes it look shorter: 96 s, which fire 12 s late at most, and 135 s do 17."""
    path = Path("path", 110.0, CONFIGURED)
    first = watch(table(1000.0, idle(10.0, expires=110.0) | TIMER), path=path)
    memory = read(first.activity, 26, interval)
    later = table(1015.0, idle(1.0, expires=95.0, segments_in=11, segments_out=11) | TIMER)
    assert said(judge(later, memory, [path], [])) == verdict


@pytest.mark.parametrize("interval", [0, 135])
def test_a_timer_of_an_interval_that_nobody_has_read_may_be_as_late_as_its_length_since_the_one_before(
    interval: int,
) -> None:
    """A probe left at 1036.5 s and set it to 135 s; the data of 1095 s makes it look like one of 76.5 s."""
    path = Path("path", 90.0, CONFIGURED)
    scans = [
        table(1000.0, idle(0.0, expires=26.0) | TIMER),
        table(1028.0, idle(18.0, expires=8.0, segments_in=11) | TIMER),
        table(1040.0, idle(30.0, expires=131.5, segments_in=12, segments_out=11, since_acked=3.5) | TIMER),
    ]
    probed = watch(*scans, path=path)
    assert (probed.activity.keepidle[0], bool(probed.activity.knows_keepidle[0])) == (26.0, True)
    memory = read(probed.activity, 26, interval) if interval else probed.activity
    spoken = table(1100.0, idle(5.0, expires=71.5, segments_in=13, segments_out=12) | TIMER)
    assert said(judge(spoken, memory, [path], [])) == (Verdict.LATE, False)


def test_a_timer_that_was_set_anew_before_it_fired_shows_no_idle_time() -> None:
    """A program switched keepalive off and on: the kernel sets the timer to the whole idle time, whatever was quiet."""
    scans = [
        table(1000.0, idle(4.0, expires=2.0) | TIMER),
        table(1001.0, idle(5.0, expires=5.5) | TIMER),
    ]
    assert not watch(*scans).activity.knows_keepidle[0]


@pytest.mark.parametrize(("acked", "known"), [(0.2, False), (4.8, True)])
def test_what_came_just_before_a_late_look_may_have_come_after_the_timer_fired(acked: float, *, known: bool) -> None:
    """The timer fired at 1008, and the row was read at 1008.2, in a scan that began at 1007.8."""
    first = table(1000.0, idle(3.0, expires=8.0) | TIMER)
    second = table(1007.8, idle(11.2, since_acked=acked, expires=0.8) | TIMER)
    judgement = watch(first, dataclasses.replace(second, reading=0.6))
    assert bool(judgement.activity.knows_keepidle[0]) is known


def test_an_interval_is_read_where_a_verdict_hangs_on_it() -> None:
    """A check showed the idle time. Then the timer fired three times between two scans, or once."""
    path = Path("path", 53.0, CONFIGURED)
    scans = [
        table(1000.0, idle(0.0, expires=40.0) | TIMER),
        table(1035.0, idle(10.0, expires=5.0, segments_in=11) | TIMER),
        table(1060.0, idle(35.0, expires=5.0, segments_in=11) | TIMER),
        table(1150.0, idle(5.0, expires=35.0, segments_in=14, segments_out=13) | TIMER),
    ]
    judgement = watch(*scans, path=path)
    assert judgement.activity.knows_keepidle[0]
    assert said(judgement) == (Verdict.LATE, False)
    actions, memory = to_read(judgement, judgement.activity, 30.0)
    assert [one.targets["cookie"].tolist() for one in actions] == [[1]]
    later = table(1151.0, idle(6.0, expires=34.0, segments_in=14, segments_out=13) | TIMER)
    assert said(judge(later, read(memory, 40, 40), [path], [])) == (Verdict.SAFE, True)


def test_the_settings_of_one_users_socket_are_read_however_many_urgent_ones_another_has() -> None:
    path = Path("path", 110.0, CONFIGURED)
    mine = idle(80.0, expires=40.0, timer=Timer.KEEPALIVE, cookie=1, uid=0)
    many = [idle(100.0, expires=20.0, timer=Timer.KEEPALIVE, cookie=number + 2, uid=65534) for number in range(2000)]
    first = watch(table(1000.0, *many, mine), path=path)
    (action,), _ = to_read(first, first.activity, 60.0)
    assert 1 in action.targets["cookie"]
