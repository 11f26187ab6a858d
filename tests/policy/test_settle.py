"""What is set on one socket: never weaker than before, and always what the kernel takes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepaliveD.model import MAX_IDLE, MAX_PROBES, ArmAction, Armed, ArmRule, Fate, Keepalive, SocketKeepalive, Wish
from keepaliveD.policy.settle import settle, settle_again, settle_back

KERNEL = Keepalive(7200, 75, 9)
OURS = Keepalive(180, 20, 31)

ODD_SYSCTLS = st.sampled_from([0, -1, 1, 40_000, 2**31 // 1000, MAX_IDLE, MAX_IDLE + 1])
SETTABLE = st.integers(1, MAX_IDLE)
SYSTEM = st.builds(Keepalive, SETTABLE | ODD_SYSCTLS, SETTABLE | ODD_SYSCTLS, st.integers(0, 256))
CHOSEN = st.builds(Keepalive, SETTABLE, SETTABLE, st.integers(1, MAX_PROBES))
ACTING = st.sampled_from([ArmAction.REARM, ArmAction.ENABLE])


def wish(action: ArmAction, times: Keepalive = OURS) -> Wish:
    return Wish(ArmRule("arm[1]", action, times.idle, times.interval, times.probes), times)


def off(times: Keepalive = KERNEL) -> SocketKeepalive:
    return SocketKeepalive(False, times)


def on(times: Keepalive = KERNEL) -> SocketKeepalive:
    return SocketKeepalive(True, times)


def enable(before: SocketKeepalive, system: Keepalive | None = KERNEL) -> SocketKeepalive | Fate:
    return settle(before, system, wish(ArmAction.ENABLE))


def rearm(before: SocketKeepalive, system: Keepalive | None = KERNEL) -> SocketKeepalive | Fate:
    return settle(before, system, wish(ArmAction.REARM))


class Case(NamedTuple):
    """A socket in a namespace: which of its three settings its program chose."""

    system: Keepalive
    chosen: Keepalive
    own: tuple[bool, bool, bool]
    on: bool

    @property
    def before(self) -> SocketKeepalive:
        """What getsockopt(2) tells: its own settings, and the system's for the rest."""
        mixed = [mine if own else its for mine, its, own in zip(*map(tuple_of, self[:2]), self.own, strict=True)]
        return SocketKeepalive(self.on, Keepalive(*mixed))


def tuple_of(times: Keepalive) -> tuple[int, int, int]:
    return times.idle, times.interval, times.probes


CASES = st.builds(Case, SYSTEM, CHOSEN, st.tuples(st.booleans(), st.booleans(), st.booleans()), st.booleans())

# enable


def test_a_socket_that_never_asked_gets_what_the_rule_says() -> None:
    assert enable(off()) == on(OURS)


def test_times_that_the_system_shortened_already_are_set_on_the_socket_too() -> None:
    """getsockopt(2) tells the new ones, while the timer may run on the old ones: only setting them moves it."""
    assert enable(on(OURS), OURS) == rearm(on(OURS), OURS) == on(OURS)


@pytest.mark.parametrize(
    ("own", "result"),
    [
        (Keepalive(60, 75, 9), Keepalive(60, 20, 31)),
        (Keepalive(3600, 75, 9), Keepalive(180, 20, 31)),
        (Keepalive(7200, 5, 9), Keepalive(180, 5, 31)),
        (Keepalive(7200, 300, 9), Keepalive(180, 20, 31)),
        (Keepalive(7200, 75, 3), Keepalive(180, 20, 3)),
        (Keepalive(7200, 75, 100), Keepalive(180, 20, 100)),
        (Keepalive(10, 1, 1), Keepalive(10, 1, 1)),
    ],
)
def test_a_programs_stricter_times_and_its_number_of_probes_stay(own: Keepalive, result: Keepalive) -> None:
    """What it chose is seen by that it differs from its namespace's."""
    assert enable(on(own)) == on(result)
    assert enable(off(own)) == on(result)


# rearm


def test_rearm_makes_the_timer_true_of_who_asked_and_chose_nothing() -> None:
    assert rearm(on()) == on(OURS)


def test_rearm_does_not_switch_on() -> None:
    assert rearm(off()) is Fate.OBSERVED


@pytest.mark.parametrize("idle", [1, 60, 179, 181, 7199, MAX_IDLE])
def test_rearm_leaves_an_idle_time_that_was_chosen(idle: int) -> None:
    """A program's 60 s is never raised, and its 3600 s is not lowered."""
    assert rearm(on(Keepalive(idle, 75, 9))) is Fate.OWN


def test_rearm_leaves_an_interval_and_a_number_that_were_chosen() -> None:
    """Each by itself."""
    assert rearm(on(Keepalive(7200, 300, 9))) == on(Keepalive(180, 300, 31))
    assert rearm(on(Keepalive(7200, 75, 3))) == on(Keepalive(180, 20, 3))


def test_rearm_in_a_namespace_that_cannot_be_read_leaves_everything() -> None:
    """What is not known to be the system's may be the program's."""
    assert rearm(on(), None) is Fate.OWN
    assert rearm(off(), None) is Fate.OBSERVED


def test_enable_in_a_namespace_that_cannot_be_read_keeps_the_number_of_probes() -> None:
    assert enable(off(), None) == on(Keepalive(180, 20, 9))


# odd systems


@pytest.mark.parametrize("odd", [0, -1, 40_000])
def test_a_system_with_values_that_no_socket_takes_gets_ours(odd: int) -> None:
    """sysctl(8) takes 0, "at once", -1, "never", and more than a socket's 32767 s."""
    system = Keepalive(odd, odd, 256)
    assert enable(off(system), system) == rearm(on(system), system) == on(OURS)


@pytest.mark.parametrize("probes", [0, 128, 255, 256])
def test_a_number_of_probes_that_no_socket_takes_is_not_kept(probes: int) -> None:
    """Without a system to compare with it would count as chosen."""
    assert enable(off(Keepalive(7200, 75, probes)), None) == on(OURS)


# always


@given(CASES, ACTING, CHOSEN)
def test_whatever_stands_there_it_never_gets_weaker_and_can_be_set(
    case: Case, action: ArmAction, wanted: Keepalive
) -> None:
    """The promise to every program on the machine."""
    before = case.before
    for system in (case.system, None):
        after = settle(before, system, wish(action, wanted))
        if isinstance(after, Fate):
            assert action is ArmAction.REARM
            assert after is (Fate.OWN if before.on else Fate.OBSERVED)
            continue
        assert after.on
        assert settable(after.times)
        assert before.times.idle <= 0 or after.times.idle <= before.times.idle
        assert before.times.interval <= 0 or after.times.interval <= before.times.interval
        assert after.times.probes in (before.times.probes, wanted.probes)
        if before.times.probes == case.chosen.probes != case.system.probes:
            assert after.times.probes == case.chosen.probes
        if action is ArmAction.REARM and before.times.interval == case.chosen.interval != case.system.interval:
            assert after.times.interval == case.chosen.interval


@given(CASES, CHOSEN)
def test_what_was_enabled_is_not_changed_by_the_same_rule(case: Case, wanted: Keepalive) -> None:
    """By hand it may be asked for as often as one likes."""
    once = settle(case.before, case.system, wish(ArmAction.ENABLE, wanted))
    assert isinstance(once, SocketKeepalive)
    again = settle(once, case.system, wish(ArmAction.ENABLE, wanted))
    assert isinstance(again, SocketKeepalive)
    assert tuple_of(again.times)[:2] == tuple_of(once.times)[:2]
    if once.times.probes != case.system.probes:
        assert again == once


def settable(times: Keepalive) -> bool:
    """Whether setsockopt(2) takes these."""
    return 1 <= times.idle <= MAX_IDLE and 1 <= times.interval <= MAX_IDLE and 1 <= times.probes <= MAX_PROBES


ANY_TIMES = st.builds(Keepalive, ODD_SYSCTLS | SETTABLE, ODD_SYSCTLS | SETTABLE, st.integers(0, 256))


@given(ANY_TIMES, ANY_TIMES | st.none(), ACTING)
@example(Keepalive(180, 40_000, 31), OURS, ArmAction.REARM)
@example(Keepalive(180, 0, 31), OURS, ArmAction.REARM)
def test_a_system_that_changes_between_two_looks_spoils_nothing(
    stands: Keepalive, system: Keepalive | None, action: ArmAction
) -> None:
    """Its values are read after the socket's, so that these may still be the old ones, which no program chose."""
    after = settle(on(stands), system, wish(action))
    assert isinstance(after, Fate) or settable(after.times)


# armed already


ARMED = Armed(off(), on(OURS))


def test_what_stands_as_it_was_armed_has_enough() -> None:
    assert settle_again(ARMED, KERNEL, wish(ArmAction.ENABLE)) is Fate.ENOUGH
    assert settle_again(ARMED, KERNEL, wish(ArmAction.ENABLE, KERNEL)) is Fate.ENOUGH
    assert settle_again(ARMED, KERNEL, wish(ArmAction.REARM, Keepalive(60, 10, 3))) is Fate.ENOUGH


def test_a_rule_that_became_stricter_reaches_it() -> None:
    assert settle_again(ARMED, KERNEL, wish(ArmAction.ENABLE, Keepalive(60, 30, 31))) == on(Keepalive(60, 20, 31))


@given(CASES, ACTING, CHOSEN, ACTING, CHOSEN)
def test_another_rule_never_weakens_it_and_is_content_after_one_time(
    case: Case, first: ArmAction, times: Keepalive, second: ArmAction, others: Keepalive
) -> None:
    """So there is no entry in every scan."""
    once = settle(case.before, case.system, wish(first, times))
    if isinstance(once, Fate):
        return
    twice = settle_again(Armed(case.before, once), case.system, wish(second, others))
    if isinstance(twice, Fate):
        assert twice is Fate.ENOUGH
        return
    assert settable(twice.times)
    assert twice.times.idle <= once.times.idle
    assert twice.times.interval <= once.times.interval
    assert settle_again(Armed(case.before, twice), case.system, wish(second, others)) is Fate.ENOUGH


@pytest.mark.parametrize("idle", [0, -1, 40_000])
def test_what_no_socket_takes_cannot_be_put_back_but_keepalive_is_switched_off_all_the_same(idle: int) -> None:
    """Systems may be set to it, and setsockopt(2) would refuse the whole."""
    armed = Armed(SocketKeepalive(False, Keepalive(idle, 75, 9)), SocketKeepalive(True, Keepalive(180, 20, 31)))
    back = SocketKeepalive(False, Keepalive(180, 75, 9))
    assert settle_back(armed.after, armed) == back
    assert settle_back(back, armed) is Fate.ENOUGH
