"""Find out which device on a path forgets, and after how long: each hop is left to age alone.

Probes that pass at most n hops keep every device up to hop n awake, and no other. So one end can let all devices from
some hop on grow old, and two ends together a single one. Silences are seconds; hops are counted from this host.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import replace

from keepaliveD.model.dataclass import dataclass
from keepaliveD.policy.measuring.measurement import EndOfSilence, How, Result

RATIO = 1.25  # of one silence to the next one
MOST = 160  # connections
REFRESHES = 4.0  # how often devices that must stay awake see a packet in the shortest timeout
SPARE = 0.9  # of the silence that the path survived: devices that are tested with less have surely not forgotten
STARTS = (32, 64, 128, 255)  # IP TTLs and hop limits of packets that leave
SAME = 1.02  # timeouts that differ by less can be one device's


@dataclass(frozen=True, slots=True)
class HopPlan:
    """One test: devices from hop `first` to hop `last` see no packet for `quiet` seconds, and all others do."""

    first: int
    last: int
    quiet: float


@dataclass(frozen=True, slots=True)
class HopResult:
    """What came of one test."""

    plan: HopPlan
    result: Result


class HopAnswer(enum.Enum):
    """What came of a packet of a forgotten connection that may pass so many hops, and no more."""

    EXPIRED = "expired"  # a hop reports that the packet got that far
    REFUSED = "refused"  # a reset, or another report that it may not pass
    NONE = "none"


class Elsewhere(enum.Enum):
    """What no hop of the way there is, and may forget in place of one."""

    HERE = "this host"
    PEER = "the peer's own firewall"
    WAY_BACK = "a device on the way back"


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a hop, or of several where they cannot be told apart; `hidden` behind a shorter timeout.

    `elsewhere`: what else may have forgotten in place of these hops.
    """

    hops: tuple[int, ...]
    survived: float | None = None
    forgotten: float | None = None
    how: How | None = None
    hidden: bool = False
    elsewhere: tuple[Elsewhere, ...] = ()


def plan(hops: int, survived: float, forgotten: float, longest: float, *, both_ends: bool) -> list[HopPlan]:
    """Return the tests that find the timeout of each device; the path's own is between `survived` and `forgotten`."""
    longest = max(longest, forgotten * RATIO)
    steps = max(1, min(math.ceil(math.log(longest / forgotten) / math.log(RATIO)), MOST // hops - 2))
    factor = (longest / forgotten) ** (1 / steps)
    silences = [survived * SPARE, *(forgotten * factor**number for number in range(steps + 1))]
    return [
        HopPlan(hop, hop if both_ends else hops, round(quiet, 3)) for quiet in silences for hop in range(1, hops + 1)
    ]


def routers_back(hops_left: int) -> int | None:
    """Return how many routers the peer's packets pass, by the hops that are left to them; None where none are seen.

    Stacks start with 64, 128 or 255, and some with 32.
    """
    return min(start for start in STARTS if start >= hops_left) - hops_left if hops_left else None


def contradicts(devices: Sequence[Device], forgotten: float) -> bool:
    """Whether every hop outlasts the silence in which the whole path forgot."""
    outlasting = (one.survived is not None and one.survived > forgotten and not one.hidden for one in devices)
    return bool(devices) and all(outlasting)


def keep_interval(survived: float) -> int:
    """Return how often devices that must stay awake need a packet, in whole seconds."""
    return max(1, int(survived / REFRESHES))


def conclude(
    tests: Sequence[HopResult], hops: int, survived: float = 0.0, stopped_by: Sequence[int] = ()
) -> list[Device]:
    """Return the devices in their order; together they have all hops. All of them have survived what the path has."""
    found = [_at_least(_bracket(tests, hop), survived) for hop in range(1, hops + 1)]
    if any(test.plan.last != test.plan.first for test in tests):
        found = [_behind(one, found[number + 1 :]) for number, one in enumerate(found)]
    merged = _merged(found)
    shortest = min((one.forgotten for one in merged if one.forgotten is not None), default=math.nan)
    return [
        replace(
            one, elsewhere=_elsewhere(one, merged[number + 1 :], hops, stopped_by if one.forgotten == shortest else ())
        )
        for number, one in enumerate(merged)
    ]


def _elsewhere(one: Device, farther: Sequence[Device], hops: int, stopped_by: Sequence[int]) -> tuple[Elsewhere, ...]:
    """Return what else may have forgotten where these hops seem to.

    This host ages with the first hop, and the peer with the last one. A device on the way back ages in each test of a
    hop beyond its place, and in that of the last one, so whatever outlasts the silence there excludes it. So do packets
    that stop elsewhere, where that is known of the shortest timeout.
    """
    if one.forgotten is None:
        return ()
    may_stop_behind = not stopped_by or hops + 1 in stopped_by
    may = {
        Elsewhere.HERE: one.hops[0] == 1 and (not stopped_by or 0 in stopped_by),
        Elsewhere.PEER: one.hops[-1] == hops and may_stop_behind,
        Elsewhere.WAY_BACK: may_stop_behind and not any((each.survived or 0.0) >= one.forgotten for each in farther),
    }
    return tuple(each for each, is_possible in may.items() if is_possible)


def stopped_by(answers: Sequence[HopAnswer | None], reports: Sequence[bool]) -> tuple[int, ...]:
    """Return the hops of which one stops the packets of forgotten connections: 0 is this host; none if unknown.

    `answers` are to packets that may pass 1, 2, 3 ... hops, the last of them to the peer, which is the hop after all
    others; None is not known. `reports` says which hops report the packets of other connections. The last one that
    reports stops what goes on: devices filter packets after they have routed them. At this host's end the first one
    may also filter them before that.
    """
    devices = len(reports)
    if None in answers or answers[devices] is HopAnswer.EXPIRED or not any(reports):
        return ()
    last = max((hop for hop in range(1, devices + 1) if answers[hop - 1] is HopAnswer.EXPIRED), default=0)
    stopped = [
        hop
        for hop, answer in enumerate(answers, start=1)
        if answer is HopAnswer.REFUSED or (answer is HopAnswer.NONE and (hop > devices or reports[hop - 1]))
    ]
    if stopped[0] < last:
        return ()  # connections take several devices
    return tuple(range(last, stopped[0] + (last == 0 or stopped[0] > devices)))


def _bracket(tests: Sequence[HopResult], hop: int) -> Device:
    """Enclose the shortest timeout of the devices that aged together with this hop, the nearest of them."""
    mine = [test for test in tests if test.plan.first == hop]
    dead = sorted(
        (test.result for test in mine if test.result.end is EndOfSilence.FORGOTTEN), key=lambda result: result.quiet
    )
    limit = dead[0].quiet if dead else math.inf
    alive = [test.result.quiet for test in mine if test.result.end is EndOfSilence.SURVIVED]
    return Device(
        (hop,),
        survived=max((quiet for quiet in alive if quiet < limit), default=None),
        forgotten=dead[0].by if dead else None,
        how=dead[0].how if dead else None,
    )


def _at_least(one: Device, survived: float) -> Device:
    if one.forgotten is None or one.forgotten <= survived:
        return one
    return replace(one, survived=max(one.survived or 0.0, survived))


def _behind(one: Device, farther: Sequence[Device]) -> Device:
    """Where one end alone tests, a timeout is this hop's only if no hop farther away has as short a one."""
    if one.forgotten is None or not farther:
        return one
    beyond = farther[0]
    if beyond.forgotten is None or (beyond.survived is not None and beyond.survived >= one.forgotten / SAME):
        return one
    return replace(one, forgotten=None, how=None, hidden=True)


def _merged(found: Sequence[Device]) -> list[Device]:
    """Join neighbours with the same timeout: a device that counts packets after it has routed them shows at both."""
    merged: list[Device] = []
    for one in found:
        before = merged[-1] if merged else None
        if before and _alike(before, one):
            merged[-1] = replace(before, hops=before.hops + one.hops)
        else:
            merged.append(one)
    return merged


def _alike(one: Device, other: Device) -> bool:
    if one.forgotten is None or other.forgotten is None:
        return False
    return (one.survived or 0.0) < other.forgotten * SAME and (other.survived or 0.0) < one.forgotten * SAME
