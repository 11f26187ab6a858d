"""Plan the rounds of a measurement: which silences to try next, after what is known so far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from keepaliveD.policy.measuring.measurement import (
    ABOVE,
    CLEARLY,
    CLOSE,
    KNOWN,
    LAZY,
    SURE,
    Bracket,
    EndOfSilence,
    Limits,
    PlannedTest,
    Result,
    Side,
    by_time,
    conclude,
)

ROUNDS = 12  # after which a path counts as too uneven to be measured
CENSUS = 10  # one of so many connections only helps to count devices
OUTLIVING = 18  # of a large round that tries once more what was survived, so many try what was fatal: who outlives it?


def next_round(tests: Sequence[Result], limits: Limits, rounds: int) -> list[PlannedTest]:
    """Return the tests to make next, all at the same time, or none if enough is known; `rounds` were made so far."""
    if not rounds or rounds >= ROUNDS:
        return [] if rounds else _ladder(limits)
    bracket = conclude(tests)
    sides = _sides(limits, bracket)
    low = min(bracket.survived or limits.shortest, limits.longest)
    survivors = bracket.survivors if bracket.forgotten is not None else _survivors(tests, low)
    high = min(limits.longest, bracket.forgotten or bracket.closes or bracket.breaks or limits.longest)
    if not bracket.narrow(limits.ratio) and high > low * limits.ratio:
        if bracket.uneven:
            return list(_uneven(low, high, limits, sides))
        again = SURE - bracket.survivors if bracket.survived is not None else 0
        return list(_between(low, high, limits, sides, again))
    closes = bracket.forgotten is None and bracket.closes is not None
    unsure = bracket.survived is not None and survivors < min(SURE, 2 * limits.connections)
    if bracket.once or (unsure and not closes):
        return list(_again(low, high, limits, sides, limits.connections // 2 if bracket.once else 0))
    if bracket.uneven and not bracket.several_devices and not _tried_above(tests, bracket, limits):
        return list(_uneven(low, high, limits, sides))
    return []


def _survivors(tests: Sequence[Result], quiet: float) -> int:
    return sum(test.end is EndOfSilence.SURVIVED and test.quiet >= quiet * CLOSE for test in tests)


def _tried_above(tests: Sequence[Result], bracket: Bracket, limits: Limits) -> bool:
    """Whether it is known what becomes of silences just longer than those that a lazy device lets live."""
    least, most = ((bracket.forgotten or math.inf) * factor for factor in (LAZY, ABOVE[0] * CLEARLY))
    known = by_time(tests, KNOWN)
    return least >= limits.longest or sum(least < test.quiet <= most for test in known) >= _each(limits)


def _sides(limits: Limits, bracket: Bracket) -> tuple[Side, ...]:
    if bracket.revived_by is not None:
        return (Side.HERE,) if bracket.revived_by is Side.THERE else (Side.THERE,)
    return (Side.HERE, Side.THERE) if limits.both_sides else (Side.HERE,)


def _ladder(limits: Limits) -> list[PlannedTest]:
    """Return silences from the shortest to the longest, by equal quotients, and some more of the longest.

    These count the devices; where the silences leave room there are enough of them to see even a device that few take.
    """
    census = limits.connections // CENSUS
    steps = _steps(limits.shortest, limits.longest, limits.connections - census, limits.ratio)
    census = max(census, min(SURE, limits.connections - steps - 2))  # one more is kept alive from the start
    factor = (limits.longest / limits.shortest) ** (1 / steps)
    times = [limits.shortest * factor**number for number in range(steps + 1)] + [limits.longest] * census
    return list(_alternating(times, _sides(limits, Bracket())))


def _steps(low: float, high: float, most: int, ratio: float) -> int:
    """How many steps lead from `low` to `high`: as many as a narrow bracket wants, unless there is no room for them."""
    wanted = math.ceil(math.log(high / low) / math.log(ratio) - 0.01)
    return max(1, min(wanted, most - 1))


def _between(low: float, high: float, limits: Limits, sides: Sequence[Side], again: int) -> Iterator[PlannedTest]:
    """Yield silences between the ends of a bracket, and longer ones, which only help to count devices.

    Where there is room, `again` more try what was survived: all that did may take a device with a longer timeout.
    """
    census = max(2, limits.connections // 4)
    steps = _steps(low, high, limits.connections - census + 1, (1 + limits.ratio) / 2)
    factor = (high / low) ** (1 / steps)
    times = [low * factor**number for number in range(1, steps)] + [high] * census
    if len(sides) > 1:
        times = [time for time in times for _ in sides][: limits.connections]
    times += [low] * min(again, limits.connections - len(times))
    yield from _alternating(sorted(times), sides)


def _again(low: float, high: float, limits: Limits, sides: Sequence[Side], least: int) -> Iterator[PlannedTest]:
    """Yield what was survived, for many connections: some may take a device with another timeout.

    And what was fatal, for some, `least` where there is room: does it repeat, and who outlives it?
    """
    outliving = min(OUTLIVING, max(least, limits.connections - 2 * SURE))
    yield from _alternating([low] * (limits.connections - outliving) + [high] * outliving, sides)


def _each(limits: Limits) -> int:
    """How many connections try each silence where they may take different devices."""
    return max(2, limits.connections // 8)


def _uneven(low: float, high: float, limits: Limits, sides: Sequence[Side]) -> Iterator[PlannedTest]:
    """Yield the same few silences for many connections each: they may take different devices."""
    each = _each(limits)
    above = [min(high * factor, limits.longest) for factor in ABOVE for _ in range(each)]
    room = max(1, (limits.connections - len(above)) // each)
    steps = _steps(low, high, room + 1, (1 + limits.ratio) / 2)
    factor = (high / low) ** (1 / steps)
    times = [low * factor**number for number in range(steps) for _ in range(each)]
    yield from _alternating([*times, *above][: limits.connections], sides)


def _alternating(times: Sequence[float], sides: Sequence[Side]) -> Iterator[PlannedTest]:
    for number, quiet in enumerate(times):
        yield PlannedTest(round(quiet, 3), sides[number % len(sides)])


def cut_short(plan: PlannedTest, death: float) -> float | None:
    """Return the silence after which a test is worth making once another one died of `death`; None if it is not.

    Those that this host probes are all probed after the same silence: they count the devices. The peer probes when it
    was asked to, so its longer tests are given up.
    """
    if plan.prober is Side.HERE:
        return min(plan.quiet, death)
    return plan.quiet if plan.quiet <= death else None


def duration(plans: Sequence[PlannedTest]) -> float:
    """How long a round takes at most."""
    return max((plan.quiet for plan in plans), default=0.0)
