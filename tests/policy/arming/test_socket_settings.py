"""What is set on one socket: never weaker than before, always what the kernel takes, and only what helps."""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepaliveD.model.arming import CHANGE, LOOKED, Access
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import ALL, FIELDS, MAX_IDLE, MAX_PROBES, NONE, Found, Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, ArmingResult, PutBack
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.policy.arming.choices import what_became
from keepaliveD.policy.arming.meaning import fits, longest
from keepaliveD.policy.arming.socket_settings import Wanted, as_before, decide_arming, decide_disarming, without_arming
from tests.support.armed_at_connect import TABLE, Line, by_scan

KERNEL = Keepalive(7200, 75, 9)
OURS = Keepalive(180, 20, 31)
TIMEOUT = 240.0

ODD_SYSCTLS = st.sampled_from([0, -1, 1, 40_000, 2**31 // 1000, MAX_IDLE, MAX_IDLE + 1])
SETTABLE = st.integers(1, MAX_IDLE)
SYSTEM = st.builds(Keepalive, SETTABLE | ODD_SYSCTLS, SETTABLE | ODD_SYSCTLS, st.integers(0, 256))
CHOSEN = st.builds(Keepalive, SETTABLE, SETTABLE, st.integers(1, MAX_PROBES))
ACTING = st.sampled_from([ArmAction.REARM, ArmAction.ENABLE])
RISKS = st.sampled_from([Verdict.LATE, Verdict.BARE, Verdict.CUT, Verdict.SAFE])
TIMEOUTS = st.sampled_from([FOREVER]) | st.floats(1.0, 40_000)


def wish(action: ArmAction, times: Keepalive = OURS) -> Wish:
    return Wish(ArmRule("arm[1]", action, times.idle, times.interval, times.probes), times)


def off(times: Keepalive = KERNEL) -> SocketKeepalive:
    return SocketKeepalive(False, times)


def on(times: Keepalive = KERNEL) -> SocketKeepalive:
    return SocketKeepalive(True, times)


def inherited(times: Keepalive, system: Keepalive | None) -> Own:
    """As a duplicate of the descriptor tells it: what equals the system's."""
    same = (field for field, one, its in zip(FIELDS, times, system or (), strict=False) if one == its)
    return functools.reduce(operator.or_, same, NONE)


def found(stands: SocketKeepalive, system: Keepalive | None = KERNEL) -> Found:
    return Found(stands, inherited(stands.times, system), system)


def request(
    action: ArmAction, times: Keepalive = OURS, timeout: float = TIMEOUT, verdict: Verdict = Verdict.LATE
) -> Wanted:
    return Wanted(wish(action, times), timeout, verdict)


@pytest.mark.parametrize(("milliseconds", "refused"), [(0, False), (1, True), (780_000, True), (780_001, False)])
@pytest.mark.parametrize("before", [off(KERNEL), on(KERNEL)])
def test_a_socket_whose_user_timeout_ends_it_before_its_probes_do_is_left(
    before: SocketKeepalive, milliseconds: int, refused: bool
) -> None:
    """Keepalive of 180/20/31 gives a peer 180 s and 30 intervals; with TCP_USER_TIMEOUT no probe is counted."""
    answer = decide_arming(found(before)._replace(user_timeout=milliseconds), request(ArmAction.ENABLE))
    assert (answer is ArmingResult.USER_TIMEOUT) == refused


Answer = SocketKeepalive | ArmingResult


def after(answer: Armed | ArmingResult) -> Answer:
    """What is to stand there."""
    return answer.after if isinstance(answer, Armed) else answer


def enable(before: SocketKeepalive, system: Keepalive | None = KERNEL) -> Answer:
    return after(decide_arming(found(before, system), request(ArmAction.ENABLE)))


def rearm(before: SocketKeepalive, system: Keepalive | None = KERNEL) -> Answer:
    return after(decide_arming(found(before, system), request(ArmAction.REARM)))


def outage(times: Keepalive) -> int:
    """Seconds that an idle connection survives for certain."""
    return (times.probes - 1) * times.interval


class Case(NamedTuple):
    """A socket in a namespace: which of its three settings its program chose."""

    system: Keepalive
    chosen: Keepalive
    own: tuple[bool, bool, bool]
    on: bool

    @property
    def found(self) -> Found:
        """What BPF tells of it."""
        mixed = [mine if own else its for mine, its, own in zip(self.chosen, self.system, self.own, strict=True)]
        follows = (field for field, own in zip(FIELDS, self.own, strict=True) if not own)
        stands = SocketKeepalive(self.on, Keepalive(*mixed))
        return Found(stands, functools.reduce(operator.or_, follows, NONE), self.system)


CASES = st.builds(Case, SYSTEM, CHOSEN, st.tuples(st.booleans(), st.booleans(), st.booleans()), st.booleans())


@pytest.mark.parametrize("line", TABLE, ids=[line.why for line in TABLE])
def test_policy_decides_as_the_program_in_the_kernel_does(line: Line) -> None:
    """By the table that tests/kernel holds connect.bpf.c to."""
    assert by_scan(line.case, line.rule) == line.scanned


# enable


def test_a_socket_that_never_asked_gets_what_the_rule_says() -> None:
    assert decide_arming(found(off()), request(ArmAction.ENABLE)) == Armed(off(), on(OURS), ALL)


def test_times_that_the_system_shortened_already_are_set_on_the_socket_too() -> None:
    """The timer may run on the old ones: only setting them moves it. And the system's may change again."""
    assert enable(on(OURS), OURS) == rearm(on(OURS), OURS) == on(OURS)


@pytest.mark.parametrize(
    ("own", "result"),
    [
        (Keepalive(60, 300, 9), Keepalive(60, 20, 121)),
        (Keepalive(3600, 75, 9), Keepalive(180, 20, 31)),
        (Keepalive(7200, 5, 9), Keepalive(180, 5, 31)),
        (Keepalive(7200, 300, 9), Keepalive(180, 20, 121)),
        (Keepalive(7200, 75, 3), Keepalive(180, 20, 31)),
        (Keepalive(7200, 75, 31), Keepalive(180, 20, 114)),
        (Keepalive(10, 1, 1), Keepalive(10, 1, 1)),
        (Keepalive(7200, 1, 1), Keepalive(180, 1, 31)),
        (Keepalive(60, 10, 3), Keepalive(60, 10, 3)),
        (Keepalive(200, 15, 10), Keepalive(200, 15, 10)),
        (Keepalive(250, 15, 10), Keepalive(180, 15, 12)),
    ],
)
def test_no_respect_in_which_a_programs_own_is_stricter_is_weakened(own: Keepalive, result: Keepalive) -> None:
    """Times stay where they are shorter, a number of probes as far as no outage ends the connection sooner."""
    stands = Found(on(own), inherited(own, KERNEL), KERNEL)
    assert after(decide_arming(stands, request(ArmAction.ENABLE))) == on(result)


@pytest.mark.parametrize(
    ("own", "result"),
    [
        (Keepalive(200, 75, 9), Keepalive(180, 20, 31)),
        (Keepalive(7200, 5, 9), Keepalive(180, 5, 121)),
        (Keepalive(250, 15, 10), Keepalive(180, 15, 41)),
        (Keepalive(10, 1, 1), Keepalive(10, 5, 121)),
        (Keepalive(7200, 75, 31), Keepalive(180, 20, 114)),
        (Keepalive(7200, 300, 9), Keepalive(180, 20, 121)),
    ],
)
def test_where_keepalive_was_off_no_outage_ends_it_that_the_rule_would_survive(
    own: Keepalive, result: Keepalive
) -> None:
    """Nothing ended it before: a dead peer can be noticed no later, and a program's low number was never in force."""
    stands = Found(off(own), inherited(own, KERNEL), KERNEL)
    assert after(decide_arming(stands, request(ArmAction.ENABLE))) == on(result)


@pytest.mark.parametrize("stricter", [Keepalive(60, 10, 3), Keepalive(60, 10, 5)])
def test_what_is_stricter_stays_also_where_it_equals_the_systems(stricter: Keepalive) -> None:
    """A dead peer is noticed after 90 s, not after 370 s."""
    assert enable(on(stricter), stricter) == rearm(on(stricter), stricter) == on(stricter)


def test_an_outage_that_needs_too_many_probes_gets_a_longer_interval() -> None:
    """A socket takes 127 of them. And a shorter idle time, for two must leave before the path forgets."""
    many = found(on(Keepalive(7200, 75, 100)))
    assert after(decide_arming(many, request(ArmAction.ENABLE, timeout=300.0))) == on(Keepalive(180, 59, MAX_PROBES))
    assert after(decide_arming(many, request(ArmAction.ENABLE, timeout=240.0))) == on(Keepalive(153, 59, MAX_PROBES))


def test_a_silence_that_is_longer_than_the_new_idle_time_leaves_time_for_fewer_probes() -> None:
    """The first then leaves at once: up to 34 s after the last packet, and a dead peer is noticed after 52 s still."""
    stands = Found(on(Keepalive(34, 2, 9)), NONE, KERNEL)
    wanted = Keepalive(12, 5, 31)
    late, cut = (request(ArmAction.ENABLE, wanted, 20.0, verdict) for verdict in (Verdict.LATE, Verdict.CUT))
    assert after(decide_arming(stands, late)) == on(Keepalive(12, 2, 17))
    assert after(decide_arming(stands, cut)) == on(Keepalive(12, 2, 9))
    armed = decide_arming(stands, late)
    assert isinstance(armed, Armed)
    again = cut._replace(armed=armed, again=True)
    assert decide_arming(Found(armed.after, NONE, KERNEL), again) is ArmingResult.ALREADY_SET


def test_with_a_longer_interval_no_more_probes_are_set_than_notice_a_dead_peer_as_early() -> None:
    """At 1 s there would be 145 of them for an outage of 144 s, at 2 s 127 would notice it a minute later."""
    stands = found(on(Keepalive(196, 18, 9)))
    answer = decide_arming(stands, request(ArmAction.ENABLE, Keepalive(159, 1, 31), timeout=180.0))
    assert after(answer) == on(Keepalive(157, 2, 73))


def test_what_a_program_chose_and_is_safe_stays_as_it_is() -> None:
    """Its timer may run on older times: that is all there is to mend."""
    own = Keepalive(200, 75, 9)
    assert enable(on(own)) == on(own)
    assert after(decide_arming(found(on(own)), request(ArmAction.ENABLE, timeout=220.0))) == on(OURS)


def test_a_person_may_shorten_even_what_is_safe() -> None:
    by_hand = request(ArmAction.ENABLE, timeout=FOREVER)._replace(by_hand=True)
    assert after(decide_arming(found(on(Keepalive(900, 75, 9))), by_hand)) == on(OURS)


# rearm


def test_rearm_makes_the_timer_true_of_who_asked_and_chose_nothing() -> None:
    assert rearm(on()) == on(OURS)


def test_rearm_does_not_switch_on() -> None:
    assert rearm(off()) is ArmingResult.LEFT_BY_RULE


@pytest.mark.parametrize("idle", [1, 60, 179, 181, 7199, MAX_IDLE])
def test_rearm_leaves_an_idle_time_that_was_chosen(idle: int) -> None:
    """A program's 60 s is never raised, and its 3600 s is not lowered."""
    assert rearm(on(Keepalive(idle, 75, 9))) is ArmingResult.KEPT_BY_PROGRAM


def test_rearm_leaves_an_interval_that_was_chosen_or_all_of_it_where_that_is_too_long() -> None:
    assert rearm(on(Keepalive(7200, 100, 9))) == on(Keepalive(180, 100, 31))
    assert rearm(on(Keepalive(7200, 300, 9))) is ArmingResult.KEPT_BY_PROGRAM


def test_rearm_in_a_namespace_that_cannot_be_read_leaves_everything() -> None:
    """What is not known to be the system's may be the program's."""
    assert rearm(on(), None) is ArmingResult.KEPT_BY_PROGRAM
    assert rearm(off(), None) is ArmingResult.LEFT_BY_RULE


def test_rearm_arms_what_a_daemon_has_put_back_unless_its_program_has_chosen_since() -> None:
    """The kernel shows these times as the socket's own."""
    entry = PutBack(on(), ALL)
    back = as_before(Found(on(), Own(0), OURS), entry)
    assert decide_arming(back, request(ArmAction.REARM)) == Armed(on(), on(OURS), ALL)
    chosen = Found(on(Keepalive(900, 75, 9)), Own(0), OURS)
    assert as_before(chosen, entry) == chosen
    assert decide_arming(chosen, request(ArmAction.REARM)) is ArmingResult.KEPT_BY_PROGRAM


# what helps


@pytest.mark.parametrize("action", [ArmAction.ENABLE, ArmAction.REARM])
def test_what_would_come_too_late_is_not_set(action: ArmAction) -> None:
    """Neither 180 s on a path of 90 s, nor 90 s on one of 100 s, where the timer may fire at 101.25 s."""
    assert decide_arming(found(on()), request(action, timeout=90.0)) is ArmingResult.TOO_LONG
    assert decide_arming(found(on()), request(action, Keepalive(90, 20, 31), 100.0)) is ArmingResult.TOO_LONG
    assert after(decide_arming(found(on()), request(action, Keepalive(88, 20, 31), 100.0))) == on(Keepalive(88, 20, 31))


def test_the_period_of_answered_probes_counts_too() -> None:
    """They come at the longer of idle time and interval."""
    assert decide_arming(found(on()), request(ArmAction.ENABLE, Keepalive(30, 74, 31), 80.0)) is ArmingResult.TOO_LONG


def test_a_connection_that_is_cut_is_armed_all_the_same() -> None:
    """Its program gets an error instead of nothing, ever."""
    cut = request(ArmAction.ENABLE, timeout=90.0, verdict=Verdict.CUT)
    assert after(decide_arming(found(off()), cut)) == on(OURS)


@pytest.mark.parametrize(
    ("action", "stands", "wanted", "result"),
    [
        (ArmAction.ENABLE, off(), Keepalive(85, 20, 9), ArmingResult.TOO_LONG),
        (ArmAction.REARM, on(Keepalive(7200, 100, 9)), OURS, ArmingResult.KEPT_BY_PROGRAM),
    ],
)
def test_a_connection_that_is_only_presumed_to_be_cut_is_armed_with_times_that_keep_it(
    action: ArmAction, stands: SocketKeepalive, wanted: Keepalive, result: ArmingResult
) -> None:
    """It may live, and the path, which waits 90 s, would forget it: that is not to arm it."""
    cut = request(action, wanted, timeout=90.0, verdict=Verdict.CUT)
    assert isinstance(decide_arming(found(stands), cut), Armed)
    assert decide_arming(found(stands), cut._replace(certain=False)) is result
    fitting = request(ArmAction.ENABLE, Keepalive(30, 10, 9), timeout=90.0, verdict=Verdict.CUT)
    assert isinstance(decide_arming(found(off()), fitting._replace(certain=False)), Armed)


def test_what_is_safe_as_it_is_needs_nothing() -> None:
    """By hand any connection may be meant; what follows the system may change with it."""
    safe = request(ArmAction.ENABLE, verdict=Verdict.SAFE)._replace(by_hand=True)
    assert decide_arming(Found(on(OURS), NONE, KERNEL), safe) is ArmingResult.ALREADY_SET
    assert decide_arming(Found(on(OURS), ALL, OURS), safe) == Armed(on(OURS), on(OURS), ALL)


@given(st.floats(0.1, 40_000))
def test_the_longest_that_is_named_as_a_remedy_is_the_longest_that_fits(timeout: float) -> None:
    most = longest(timeout)
    assert most == 0 or fits(Keepalive(most, 1, 1), timeout)
    assert not fits(Keepalive(most + 1, 1, 1), timeout)


# odd systems


@pytest.mark.parametrize("odd", [0, -1, 40_000])
def test_a_system_with_values_that_no_socket_takes_gets_ours(odd: int) -> None:
    """sysctl(8) takes 0, "at once", -1, "never", and more than a socket's 32767 s."""
    system = Keepalive(odd, odd, 0)
    assert enable(off(system), system) == rearm(on(system), system) == on(OURS)


@pytest.mark.parametrize("probes", [0, 128, 255, 256])
def test_a_number_of_probes_that_no_socket_takes_is_not_kept(probes: int) -> None:
    """Without a system to compare with it would count as chosen."""
    answer = enable(off(Keepalive(7200, 75, probes)), None)
    assert isinstance(answer, SocketKeepalive)
    assert settable(answer.times)


# always


@given(CASES, ACTING, CHOSEN, TIMEOUTS, RISKS)
@example(Case(KERNEL, Keepalive(10, 1, 100), (True, True, True), False), ArmAction.ENABLE, OURS, 240.0, Verdict.BARE)
def test_whatever_stands_there_it_never_gets_weaker_can_be_set_and_helps(
    case: Case, action: ArmAction, wanted: Keepalive, timeout: float, verdict: Verdict
) -> None:
    """The promise to every program on the machine."""
    before = case.found.stands.times
    answer = decide_arming(case.found, request(action, wanted, timeout, verdict))
    if isinstance(answer, ArmingResult):
        assert answer in (ArmingResult.TOO_LONG, ArmingResult.ALREADY_SET) or action is ArmAction.REARM
        return
    result = answer.after.times
    assert answer.before == case.found.stands
    assert answer.after.on
    assert settable(result)
    assert verdict is Verdict.CUT or fits(result, timeout)
    assert before.idle <= 0 or result.idle <= before.idle
    stood = before.interval if case.on else max(before.interval, wanted.interval)
    assert before.interval <= 0 or result.interval <= stood
    if min(before) > 0 and result.probes < MAX_PROBES:
        assert outage(result) >= outage(before)
        assert case.on or outage(result) >= outage(wanted)
    assert case.on or result.probes >= wanted.probes
    if action is ArmAction.REARM and not case.found.inherited & Own.INTERVAL:
        assert result.interval == before.interval


@given(CASES, CHOSEN)
def test_what_was_enabled_is_not_changed_by_the_same_rule(case: Case, wanted: Keepalive) -> None:
    """By hand it may be asked for as often as one likes."""
    by_hand = request(ArmAction.ENABLE, wanted, FOREVER)._replace(by_hand=True)
    once = decide_arming(case.found, by_hand)
    assert isinstance(once, Armed)
    stands = Found(once.after, NONE, case.system)
    assert decide_arming(stands, by_hand._replace(armed=once, verdict=Verdict.SAFE)) is ArmingResult.ALREADY_SET


def settable(times: Keepalive) -> bool:
    """Whether setsockopt(2) takes these."""
    return 1 <= times.idle <= MAX_IDLE and 1 <= times.interval <= MAX_IDLE and 1 <= times.probes <= MAX_PROBES


ANY_TIMES = st.builds(Keepalive, ODD_SYSCTLS | SETTABLE, ODD_SYSCTLS | SETTABLE, st.integers(0, 256))


@given(ANY_TIMES, ANY_TIMES | st.none(), ACTING)
@example(Keepalive(180, 40_000, 31), OURS, ArmAction.REARM)
@example(Keepalive(180, 0, 31), OURS, ArmAction.REARM)
def test_a_system_that_changes_between_two_scans_spoils_nothing(
    stands: Keepalive, system: Keepalive | None, action: ArmAction
) -> None:
    """Its values are read after the socket's, so that these may still be the old ones, which no program chose."""
    answer = decide_arming(found(on(stands), system), request(action))
    assert isinstance(answer, ArmingResult) or settable(answer.after.times)


# armed already


ARMED = Armed(off(), on(OURS), ALL)


def again(
    armed: Armed, action: ArmAction = ArmAction.ENABLE, times: Keepalive = OURS, timeout: float = TIMEOUT
) -> Answer:
    """What becomes of one that stands as it was armed, under whatever the system says now."""
    answers = {
        after(
            decide_arming(
                Found(armed.after, NONE, system), request(action, times, timeout)._replace(armed=armed, again=True)
            )
        )
        for system in (KERNEL, OURS, None)
    }
    (answer,) = answers
    return answer


def test_what_stands_as_it_was_armed_has_enough() -> None:
    assert again(ARMED) is ArmingResult.ALREADY_SET
    assert again(ARMED, times=KERNEL) is ArmingResult.ALREADY_SET
    assert again(ARMED, ArmAction.REARM, Keepalive(60, 10, 3)) is ArmingResult.ALREADY_SET


def test_what_stands_as_it_was_armed_and_no_longer_helps_is_said_to() -> None:
    """The path forgets sooner than was thought."""
    assert again(ARMED, timeout=90.0) is ArmingResult.TOO_LONG


def test_a_rule_that_became_stricter_reaches_it() -> None:
    """And an outage is survived for as long as before."""
    answer = decide_arming(
        Found(ARMED.after, NONE, KERNEL), request(ArmAction.ENABLE, Keepalive(60, 30, 31))._replace(armed=ARMED)
    )
    assert answer == Armed(off(), on(Keepalive(60, 20, 31)), ALL)


def test_a_timer_that_was_recorded_but_never_restarted_is_restarted() -> None:
    """kill -9 came between the two: what stands there is what the system says, and was recorded as ours."""
    recorded = Armed(on(OURS), on(OURS), ALL)
    ask = request(ArmAction.REARM)._replace(armed=recorded)
    assert after(decide_arming(Found(on(OURS), ALL, OURS), ask)) == on(OURS)
    assert decide_arming(Found(on(OURS), ALL, OURS), ask._replace(again=True)) is ArmingResult.ALREADY_SET


def test_what_was_recorded_but_never_set_is_set() -> None:
    """As the system's settings may be by now."""
    ask = request(ArmAction.ENABLE)._replace(armed=ARMED)
    assert after(decide_arming(found(off(OURS), OURS), ask)) == on(OURS)
    assert decide_arming(found(off(OURS), OURS), ask._replace(again=True)) is ArmingResult.CHANGED_SINCE


WISHES = st.tuples(ACTING, CHOSEN)


@given(CASES, WISHES, WISHES, TIMEOUTS)
def test_another_rule_never_weakens_it_and_is_content_after_one_time(
    case: Case, first: tuple[ArmAction, Keepalive], second: tuple[ArmAction, Keepalive], timeout: float
) -> None:
    """So there is no entry in every scan."""
    once = decide_arming(case.found, request(*first, timeout))
    if isinstance(once, ArmingResult):
        return
    ask = request(*second, timeout)._replace(armed=once, again=True)
    twice = decide_arming(Found(once.after, NONE, case.system), ask)
    if isinstance(twice, ArmingResult):
        assert twice is ArmingResult.ALREADY_SET
        return
    assert settable(twice.after.times)
    assert twice.after.times.idle <= once.after.times.idle
    assert twice.after.times.interval <= once.after.times.interval
    assert twice.inherited == once.inherited
    assert decide_arming(Found(twice.after, NONE, case.system), ask._replace(armed=twice)) is ArmingResult.ALREADY_SET


# put back


@given(CASES, CHOSEN, SYSTEM)
def test_what_is_put_back_is_what_its_program_chose_and_for_the_rest_what_the_system_says_now(
    case: Case, wanted: Keepalive, now: Keepalive
) -> None:
    """The settings may have changed in between: by us at the stop, or by anybody."""
    armed = decide_arming(case.found, request(ArmAction.ENABLE, wanted, FOREVER))
    assert isinstance(armed, Armed)
    back = decide_disarming(Found(armed.after, NONE, now), armed)
    expected = Keepalive(*(mine if own else its for mine, its, own in zip(case.chosen, now, case.own, strict=True)))
    assert without_arming(Found(armed.after, NONE, now), armed) == SocketKeepalive(case.on, expected)
    if back is ArmingResult.ALREADY_SET:
        back = armed.after
    assert isinstance(back, SocketKeepalive)
    assert back.on == case.on
    assert all(
        one == its or not settable_as(field, its) for field, one, its in zip(FIELDS, back.times, expected, strict=True)
    )
    assert settable(back.times)


def settable_as(field: Own, value: int) -> bool:
    return 1 <= value <= (MAX_PROBES if field is Own.PROBES else MAX_IDLE)


@pytest.mark.parametrize("system", [KERNEL, OURS, Keepalive(60, 10, 5)])
def test_what_was_changed_since_is_left_and_nothing_else(system: Keepalive) -> None:
    """That is one whose four values are not those that we wrote: never one that the system moved."""
    assert decide_disarming(Found(on(OURS), NONE, system), ARMED) == off(system)
    assert decide_disarming(Found(on(OURS._replace(probes=30)), NONE, system), ARMED) is ArmingResult.CHANGED_SINCE
    assert decide_disarming(Found(off(OURS), NONE, Keepalive(1, 1, 1)), ARMED) is ArmingResult.CHANGED_SINCE


def test_what_was_recorded_but_never_set_needs_nothing_put_back() -> None:
    assert decide_disarming(found(off(OURS), OURS), ARMED) is ArmingResult.ALREADY_SET


@pytest.mark.parametrize("idle", [0, -1, 40_000])
def test_what_no_socket_takes_cannot_be_put_back_but_keepalive_is_switched_off_all_the_same(idle: int) -> None:
    """Systems may be set to it, and setsockopt(2) would refuse the whole."""
    system = Keepalive(idle, 75, 9)
    armed = Armed(off(system), on(OURS), ALL)
    back = SocketKeepalive(False, Keepalive(180, 75, 9))
    assert decide_disarming(Found(armed.after, NONE, system), armed) == back
    assert decide_disarming(Found(back, NONE, system), armed) is ArmingResult.ALREADY_SET


# records in the earlier format, which did not tell what was the system's, and set only what differed


EARLIER = Armed(off(OURS), on(OURS), Own.UNTOLD)


def test_a_socket_armed_by_an_earlier_version_is_known_as_ours_whatever_the_system_says() -> None:
    """Its idle time was set, and the rest follows the system."""
    for system in (OURS, KERNEL):
        stands = Found(on(Keepalive(180, system.interval, system.probes)), Own.INTERVAL | Own.PROBES, system)
        assert decide_disarming(stands, EARLIER) == off(stands.stands.times)
        assert (
            decide_arming(stands, request(ArmAction.ENABLE)._replace(armed=EARLIER, again=True))
            is not ArmingResult.CHANGED_SINCE
        )
    assert decide_disarming(Found(on(Keepalive(900, 75, 9)), NONE, KERNEL), EARLIER) is ArmingResult.CHANGED_SINCE
    assert decide_disarming(Found(off(OURS), NONE, OURS), EARLIER) is ArmingResult.ALREADY_SET


# a program's TCP_USER_TIMEOUT


@pytest.mark.parametrize("action", [ArmAction.REARM, ArmAction.ENABLE])
@pytest.mark.parametrize("inherited", [ALL, NONE])
def test_a_timer_is_not_restarted_where_the_user_timeout_would_end_an_outage_sooner(
    action: ArmAction, inherited: Own
) -> None:
    """The times stand already, but the timer that runs is an older, longer one: the socket has not felt them yet."""
    late = request(action)._replace(verdict=Verdict.LATE)
    stands = Found(on(OURS), inherited, OURS if inherited else KERNEL, 1500)
    if inherited or action is ArmAction.ENABLE:
        assert decide_arming(stands, late) is ArmingResult.USER_TIMEOUT
    assert decide_arming(stands._replace(user_timeout=10**6), late) is not ArmingResult.USER_TIMEOUT


@pytest.mark.parametrize("again", [False, True])
def test_what_was_armed_before_is_not_set_again_where_its_program_has_a_user_timeout_since(again: bool) -> None:
    armed = Armed(off(), on(OURS), ALL)
    stricter = OURS._replace(idle=60)
    ask = request(ArmAction.ENABLE, stricter)._replace(armed=armed, again=again, verdict=Verdict.LATE)
    assert after(decide_arming(Found(on(OURS), NONE, KERNEL), ask)) is not None
    assert decide_arming(Found(on(OURS), NONE, KERNEL, 1500), ask) is ArmingResult.USER_TIMEOUT


# unanswered probes


@pytest.mark.parametrize("armed", [None, Armed(off(), on(OURS), ALL)])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_socket_with_an_unanswered_probe_is_not_set(armed: Armed | None, by_hand: bool) -> None:
    """Its timer would be restarted, and might find as many probes unanswered as it has."""
    stands = on(OURS) if armed else on()
    ask = request(ArmAction.ENABLE, OURS._replace(idle=60))._replace(armed=armed, by_hand=by_hand)
    assert isinstance(decide_arming(Found(stands, NONE, KERNEL), ask), Armed)
    assert decide_arming(Found(stands, NONE, KERNEL, unanswered=1), ask) is ArmingResult.PROBE_UNANSWERED


def test_an_unanswered_probe_hides_no_other_reason_and_nothing_that_stands_already() -> None:
    rearm = request(ArmAction.REARM)
    assert decide_arming(found(off())._replace(unanswered=1), rearm) is ArmingResult.LEFT_BY_RULE
    safe = request(ArmAction.ENABLE)._replace(verdict=Verdict.SAFE)
    assert decide_arming(Found(on(OURS), NONE, KERNEL, unanswered=1), safe) is ArmingResult.ALREADY_SET


@pytest.mark.parametrize(
    ("before", "unanswered", "is_left"),
    [(off(), 31, False), (on(), 8, False), (on(), 9, True)],
    ids=["its keepalive was off", "fewer than it had", "as many as it had"],
)
def test_a_socket_is_not_disarmed_where_its_unanswered_probes_would_end_it(
    before: SocketKeepalive, unanswered: int, is_left: bool
) -> None:
    armed = Armed(before, on(OURS), ALL)
    answer = decide_disarming(Found(on(OURS), NONE, KERNEL, unanswered=unanswered), armed)
    assert answer == (ArmingResult.PROBE_UNANSWERED if is_left else before)


HALF_SET = [
    off(Keepalive(7200, 75, 31)),
    on(Keepalive(7200, 20, 31)),
    on(Keepalive(180, 75, 31)),
    off(Keepalive(180, 75, 9)),
]


@pytest.mark.parametrize("stands", HALF_SET)
def test_a_socket_in_which_a_part_of_ours_stands_gets_back_the_rest(stands: SocketKeepalive) -> None:
    """The process that set one option after the other was killed in between, whether it armed or disarmed."""
    assert decide_disarming(Found(stands, NONE, KERNEL), Armed(off(), on(OURS), ALL)) == off()


@pytest.mark.parametrize("stands", [on(Keepalive(7200, 60, 31)), on(Keepalive(180, 20, 8))])
def test_a_socket_that_its_program_has_set_since_is_no_half_set_one(stands: SocketKeepalive) -> None:
    answer = decide_disarming(Found(stands, NONE, KERNEL), Armed(off(), on(OURS), ALL))
    assert answer is ArmingResult.CHANGED_SINCE


@pytest.mark.parametrize(
    ("stands", "access"),
    [
        (on(OURS), Access.DONE),
        (off(), Access.FAILED),
        *((half, Access.FAILED) for half in HALF_SET),
        (on(Keepalive(7200, 60, 31)), Access.CHANGED_MEANWHILE),
    ],
)
def test_what_was_half_set_by_a_worker_that_is_lost_has_failed_and_is_ours(
    stands: SocketKeepalive, access: Access
) -> None:
    """So it is recorded as it stands, and armed again at the next scan."""
    changes, looked = np.zeros(1, CHANGE), np.zeros(1, LOOKED)
    for column, keepalive in ((changes["expected"], off()), (changes["after"], on(OURS)), (looked["stands"], stands)):
        column[0] = *keepalive.times, keepalive.on
    assert what_became(changes, looked)["access"].tolist() == [access.value]
