"""Which device forgets: simulated chains of devices, tested hop by hop."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from keepaliveD.policy.measuring.measurement import EndOfSilence, How, Result
from keepaliveD.policy.measuring.tomography import (
    Device,
    Elsewhere,
    HopAnswer,
    HopPlan,
    HopResult,
    conclude,
    plan,
    routers_back,
    stopped_by,
)

NEVER = float("inf")


def outcome(each: HopPlan, timeouts: list[float], late: set[int]) -> HopResult:
    """What comes of a test; a device in `late` counts packets after it has routed them: a probe's last hop does not."""
    for hop, timeout in enumerate(timeouts, start=1):
        spare = 1 if hop in late else 0
        is_kept = hop + spare < each.first or hop - spare > each.last
        if not is_kept and each.quiet > timeout:
            return HopResult(each, Result(each.quiet, EndOfSilence.FORGOTTEN, how=How.SILENCE, by=each.quiet + 0.3))
    return HopResult(each, Result(each.quiet, EndOfSilence.SURVIVED))


def found(
    timeouts: list[float],
    *,
    both_ends: bool,
    late: frozenset[int] = frozenset(),
    stops: Sequence[int] = (),
) -> list[Device]:
    shortest = min(timeouts)
    plans = plan(len(timeouts), shortest * 0.96, shortest * 1.05, shortest * 4, both_ends=both_ends)
    assert len(plans) <= 160
    return conclude([outcome(each, timeouts, set(late)) for each in plans], len(timeouts), stopped_by=stops)


CHAINS = [[12.0, 24.0], [24.0, 12.0], [NEVER, 24.0, NEVER, 12.0], [12.0, NEVER, 24.0], [300.0], [NEVER, 12.0, 12.5]]


@pytest.mark.parametrize("timeouts", CHAINS)
def test_two_ends_show_the_timeout_of_every_device(timeouts: list[float]) -> None:
    for device in found(timeouts, both_ends=True):
        truth = min(timeouts[hop - 1] for hop in device.hops)
        if truth == NEVER:
            assert device.forgotten is None
            continue
        assert device.survived is not None
        assert device.forgotten is not None
        assert device.survived <= truth <= device.forgotten
        assert device.forgotten / device.survived < 1.4


@pytest.mark.parametrize("timeouts", CHAINS)
def test_one_end_alone_names_the_farthest_of_the_shortest_and_says_what_is_hidden(timeouts: list[float]) -> None:
    shortest = min(timeouts)
    devices = found(timeouts, both_ends=False)
    named = [device for device in devices if device.forgotten]
    assert any(min(timeouts[hop - 1] for hop in device.hops) <= shortest * 1.05 for device in named)
    for device in devices:
        if device.hidden:
            assert min(timeouts[device.hops[-1] :]) < NEVER
        elif device.forgotten is not None:
            assert device.survived is not None
            assert any(device.survived <= timeouts[hop - 1] <= device.forgotten for hop in device.hops)


def test_a_device_that_counts_packets_late_is_one_of_several_hops() -> None:
    devices = found([NEVER, NEVER, 12.0, NEVER, NEVER], both_ends=True, late=frozenset({3}))
    assert [device.hops for device in devices] == [(1,), (2, 3, 4), (5,)]


def test_neighbours_with_one_timeout_are_not_told_apart() -> None:
    assert [device.hops for device in found([12.0, 12.0], both_ends=True)] == [(1, 2)]


def test_no_device_forgets_before_what_the_whole_path_survived() -> None:
    tests = [outcome(HopPlan(1, 1, quiet), [12.0], set()) for quiet in (10.0, 12.6)]
    (device,) = conclude(tests, 1, survived=11.8)
    assert (device.survived, device.forgotten) == (11.8, 12.6 + 0.3)


@pytest.mark.parametrize(("left", "back"), [(0, None), (64, 0), (61, 3), (125, 3), (255, 0), (31, 1)])
def test_the_ttl_of_the_peers_packets_counts_the_routers_on_the_way_back(left: int, back: int | None) -> None:
    assert routers_back(left) == back


EXPIRED, REFUSED, NONE = HopAnswer.EXPIRED, HopAnswer.REFUSED, HopAnswer.NONE
ALL = (True, True, True)
STOPS = {
    "the last hop that answers drops": ((EXPIRED, NONE, NONE, NONE), ALL, (1,)),
    "the last hop before a reset rejects": ((EXPIRED, EXPIRED, REFUSED, REFUSED), ALL, (2,)),
    "a hop that reports nothing may be the one": ((EXPIRED, NONE, NONE, NONE), (True, False, True), (1, 2)),
    "the last hop, or the peer": ((EXPIRED, EXPIRED, EXPIRED, NONE), ALL, (3, 4)),
    "all hops behind the last one that reports": ((EXPIRED, NONE, NONE, REFUSED), (True, False, False), (1, 2, 3, 4)),
    "this host, or a hop that filters before it routes": ((NONE, NONE, NONE, NONE), ALL, (0, 1)),
    "a report after the last hop is no hop's": ((EXPIRED, EXPIRED, EXPIRED, EXPIRED), ALL, ()),
    "connections that take several devices": ((EXPIRED, NONE, EXPIRED, NONE), ALL, ()),
    "a connection that lives": ((EXPIRED, EXPIRED, EXPIRED, None), ALL, ()),
    "no hop reports anything": ((NONE, NONE, NONE, NONE), (False, False, False), ()),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_hop_is_named_only_as_far_as_the_answers_say(name: str) -> None:
    answers, reports, hops = STOPS[name]
    assert stopped_by(answers, reports) == hops


HERE, PEER, WAY_BACK = Elsewhere.HERE, Elsewhere.PEER, Elsewhere.WAY_BACK
PLACES: dict[str, tuple[list[float], bool, tuple[int, ...], list[tuple[Elsewhere, ...]]]] = {
    "the first hop, or this host": ([12.0, NEVER], True, (0, 1), [(HERE,), ()]),
    "the first hop, at which packets stop": ([12.0, NEVER], True, (1,), [(), ()]),
    "the first hop, where nothing else is known": ([12.0, NEVER], True, (), [(HERE,), ()]),
    "the last hop, or what is behind it": ([NEVER, 12.0], True, (2, 3), [(), (PEER, WAY_BACK)]),
    "the last hop, where nothing else is known": ([NEVER, 12.0], True, (), [(), (PEER, WAY_BACK)]),
    "a hop that a farther one outlasts": ([NEVER, 12.0, NEVER], True, (), [(), (), ()]),
    "one end alone": ([NEVER, 12.0], False, (2, 3), [(), (PEER, WAY_BACK)]),
    "one end alone, and a farther one that outlasts": ([12.0, NEVER], False, (1,), [(), ()]),
    "a longer timeout, of which packets show nothing": (
        [24.0, 12.0],
        True,
        (2, 3),
        [(HERE, WAY_BACK), (PEER, WAY_BACK)],
    ),
    "the same timeout at all hops": ([12.0, 12.0], True, (2, 3), [(PEER, WAY_BACK)]),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_may_forget_in_place_of_a_hop_is_named(name: str) -> None:
    """Innocent routers were named: the host itself, the peer, or a device on the way back had forgotten."""
    timeouts, both_ends, stopped, elsewhere = PLACES[name]
    devices = found(timeouts, both_ends=both_ends, stops=stopped)
    assert [device.elsewhere for device in devices] == elsewhere
