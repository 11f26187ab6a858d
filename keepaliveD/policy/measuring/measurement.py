"""Conclude from the tests of a measurement when a path forgets; policy/measuring/rounds.py plans them.

Each test is one connection: it is left quiet for a planned time, then one probe shows whether the path still knows it.
Nothing here knows a socket or a clock; silences are seconds.
"""

from __future__ import annotations

import enum
import functools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from keepaliveD.model.dataclass import dataclass

DOUBT = 0.0002  # chance of a wrong bracket that is accepted on an uneven path
SURE = 24  # survivors that show that no connections take a device with a shorter timeout, unless these are very few
PROMPT = 1.0  # seconds within which a fresh connection stands, unless a SYN was lost (RFC 6298, 2)
UNHEARD = 2.0  # ... and within which a silent peer surely has probed once more after that
LAZY = 1.15  # a device that looks for expired connections now and then forgets up to this much later
NOISE = 0.07  # fewer deaths than this share, among many survivors, are not the path's timeout
AT_ONCE = 3  # deaths of one moment that are called a loss of state: fewer may be noise
MANY = 14  # survivors without which no death is called noise
FEW = 10  # so many times as many deaths show that survivors of nearly the same silence were only measured late
CLEARLY = 1.05  # what one side survived and was fatal for the other: more than a busy machine is late
REVIVED = 6  # connections that one side's probes revived: fewer may all have taken a device with a longer timeout
CLOSE = 0.995  # silences that differ by less count as the same
ABOVE = (1.17, 2.0)  # how much longer than the shortest death an uneven path is tested: LAZY, and a little more


class Side(enum.Enum):
    """The end that sends the probe after the silence."""

    HERE = "this host"
    THERE = "the peer"


class EndOfSilence(enum.Enum):
    """What became of a connection that was left quiet."""

    SURVIVED = "survived"
    FORGOTTEN = "forgotten"
    CLOSED = "closed"  # by the far end, unasked
    BROKEN = "broken"  # by packets of a service, again and again: longer silences cannot be tried
    VOID = "void"  # it shows nothing: the path was down, or the peer spoke
    OUTLIVED = "outlived"  # survived where others, that may have taken another device, ended in doubt
    DOUBTFUL = "doubtful"  # it is over, but the far end was not there then: it need not have been forgotten


# tuples: to look a member of an enum up in a set takes five times as long, and this is done for each pair of tests
OVER = (EndOfSilence.FORGOTTEN, EndOfSilence.CLOSED)  # also what comes of it when the far end goes away
ALIVE = (EndOfSilence.SURVIVED, EndOfSilence.OUTLIVED)
KNOWN = (*ALIVE, EndOfSilence.FORGOTTEN)
NOTHING = (EndOfSilence.BROKEN, EndOfSilence.VOID, EndOfSilence.DOUBTFUL)  # is known of the path


class How(enum.Enum):
    """How a forgotten connection ended."""

    SILENCE = "silence"  # probes vanish
    RESET = "reset"  # a probe is answered by a reset
    RESET_UNASKED = "reset without a probe"
    CLOSED_UNASKED = "closed without a probe"


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """One test to make: leave a connection quiet, then have one side send a probe."""

    quiet: float
    prober: Side = Side.HERE


@dataclass(frozen=True, slots=True)
class Limits:
    """What a measurement may do: the silences it tries, how many connections at a time, how narrow a bracket it wants.

    `ratio` is the largest quotient of the two ends of a bracket that is narrow enough.
    """

    shortest: float = 5.0
    longest: float = 4800.0
    connections: int = 78
    ratio: float = 1.105
    both_sides: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one connection.

    `asked`: the silence when the first probe left, or when the connection ended unasked.
    `again`: the silence when the next try left, after a fresh connection stood; None if none stood, or none was needed.
    `until`: the silence by which the last try surely had left, or the connection had ended, where that is later: nobody
    knows when the peer probes, or what happens while this program is stopped.
    `there`: whether the far end took a fresh connection at once after all that.
    """

    plan: PlannedTest
    asked: float
    answered: bool = False
    reset: bool = False
    closed: bool = False
    spoke: bool = False
    again: float | None = None
    until: float | None = None
    there: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What one test shows: `quiet` is the silence tested; `by` the one by which a connection was surely forgotten.

    `asked` is the silence when the first probe left, where `quiet` is longer: it may have been forgotten already then.
    `round` numbers the tests that are made at the same time.
    """

    quiet: float
    end: EndOfSilence
    prober: Side = Side.HERE
    how: How | None = None
    by: float = math.nan
    asked: float | None = None
    round: int = 0


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is known of a path. None is unknown; `survived` and `forgotten` enclose the idle timeout.

    `survivors` is how many connections survived at least the silence `survived`, and less than `forgotten`.
    The far end `closes` after this silence, or `breaks` it.
    `once`: connections were forgotten in one round only, in which the path may have lost its state.
    `losses`: it has, as other rounds show; (round, connections that it forgot then, which are not counted).
    """

    survived: float | None = None
    forgotten: float | None = None
    how: How | None = None
    survivors: int = 0
    several_devices: bool = False
    longest_survivor: float | None = None
    revived_by: Side | None = None
    closes: float | None = None
    breaks: float | None = None
    unexplained: int = 0
    void: int = 0
    tests: int = 0
    once: bool = False
    losses: tuple[tuple[int, int], ...] = ()

    @property
    def uneven(self) -> bool:
        """Whether some connections survived what was fatal for others, or may have been; whichever side tested them."""
        return self.longest_survivor is not None and self.revived_by is None

    @property
    def unheard(self) -> float | None:
        """Return the shortest silence after which no probe of the peer arrived, where none ever did; else None.

        This host's probes were answered after longer ones: a proxy answers them, or a firewall that they revive forgets
        in less than was tried.
        """
        return self.forgotten if self.revived_by is Side.HERE and self.survived is None else None

    def narrow(self, ratio: float) -> bool:
        """Whether the bracket is as narrow as is wanted."""
        if self.survived is None or self.forgotten is None:
            return False
        late = UNHEARD if self.revived_by is Side.HERE else PROMPT
        return self.forgotten <= self.survived * ratio + late


def meaning(seen: Seen, *, never_closes: bool) -> Result:
    """Decide what one connection shows.

    An answer, however late, proves that the path knew the connection when the first probe left. Silence proves nothing
    until a fresh connection stands: a probe lost in an outage left the devices before the break to age on, so the
    connection is known to be forgotten only by the try after that.
    A far end that goes away ends all its connections, whatever the path knows: what ended is evidence only where the
    far end was there afterwards.
    `never_closes`: the far end is a listener of ours, so whoever ends a connection is on the path.
    """
    result = _meaning(seen, never_closes=never_closes)
    if result.end in OVER and not seen.there:
        return Result(result.quiet, EndOfSilence.DOUBTFUL, result.prober, asked=result.asked)
    return result


def without_doubt(made: Sequence[Result], *, gone: bool = False) -> list[Result]:
    """Return the results of one round without survivors that prove nothing, as others ended in doubt.

    In doubt is whether one was forgotten, as the far end was not there; or when, as a fresh connection stood late. All
    of these may have taken one device, and what survived another one: to count survivors alone would hide the device
    with the shorter timeout. So only the silence counts that was survived if all of these were forgotten when they were
    asked first; and what outlived the time by which all are known to be forgotten. What survived silences between only
    shows how many connections take which device, or nothing where the far end is gone for good.
    """
    outlived = EndOfSilence.VOID if gone else EndOfSilence.OUTLIVED
    earliest = {id(test): _at_its_earliest(test) for test in made if _is_in_doubt(test)}
    supposed = [earliest.get(id(test), test) for test in made]
    counted = {id(test) for test in _without_noise(by_time(supposed, KNOWN))[0]}
    doubted = [test for test in made if id(test) in earliest and id(earliest[id(test)]) in counted]
    most = (conclude(supposed).survived or 0.0) / CLOSE
    known_by = max((math.inf if test.end is EndOfSilence.DOUBTFUL else test.quiet for test in doubted), default=0.0)
    return [
        replace(test, end=outlived) if test.end is EndOfSilence.SURVIVED and most < test.quiet < known_by else test
        for test in made
    ]


def _is_in_doubt(test: Result) -> bool:
    return test.end is EndOfSilence.DOUBTFUL or (test.end is EndOfSilence.FORGOTTEN and test.asked is not None)


def _at_its_earliest(test: Result) -> Result:
    return replace(test, end=EndOfSilence.FORGOTTEN, quiet=_first_asked(test))


def _meaning(seen: Seen, *, never_closes: bool) -> Result:
    side = seen.plan.prober
    if seen.spoke and not never_closes:
        return Result(seen.asked, EndOfSilence.BROKEN, side)
    if seen.spoke or not (seen.closed or seen.answered or seen.reset or seen.again is not None):
        return Result(seen.asked, EndOfSilence.VOID, side)
    if seen.closed:
        if never_closes:
            how = How.RESET_UNASKED if seen.reset else How.CLOSED_UNASKED
            by = seen.asked if seen.until is None else seen.until
            return Result(seen.asked, EndOfSilence.FORGOTTEN, side, how, by=by)
        return Result(seen.asked, EndOfSilence.CLOSED, side)
    if seen.answered:
        return Result(seen.asked, EndOfSilence.SURVIVED, side)
    again = seen.asked if seen.again is None else seen.again
    by = again if seen.until is None else seen.until
    how = How.RESET if seen.reset else How.SILENCE
    late = again - seen.asked >= PROMPT
    quiet, asked = (again, seen.asked) if late else (seen.asked, None)
    return Result(quiet, EndOfSilence.FORGOTTEN, side, how, by=by, asked=asked)


def conclude(tests: Sequence[Result]) -> Bracket:
    """Return what all tests so far show together."""
    closes = _shortest(tests, EndOfSilence.CLOSED)
    counted = [test for test in tests if not _may_be_the_services(test, closes)]
    known, losses = _without_losses(by_time(counted, KNOWN))
    known, unexplained = _without_noise(known)
    bracket, strict = _bracket(known), _strict_side(known)
    if strict is not None:
        bracket = replace(
            _bracket([test for test in known if test.prober is strict]),
            several_devices=False,
            longest_survivor=bracket.longest_survivor,
            revived_by=Side.HERE if strict is Side.THERE else Side.THERE,
        )
    return replace(
        bracket,
        closes=closes,
        unexplained=unexplained + sum(count for _, count in losses if count < AT_ONCE),
        breaks=_shortest(tests, EndOfSilence.BROKEN),
        void=len(tests) - len(counted) + sum(test.end in NOTHING for test in counted),
        tests=len(tests),
        losses=tuple(each for each in losses if each[1] >= AT_ONCE),
    )


def _may_be_the_services(test: Result, closes: float | None) -> bool:
    """Whether a reset may be no answer to a probe, but the way in which a service ends a connection just then."""
    return closes is not None and test.how is How.RESET and test.quiet >= closes - PROMPT


def _shortest(tests: Sequence[Result], end: EndOfSilence) -> float | None:
    return min((test.quiet for test in tests if test.end is end), default=None)


def by_time(tests: Sequence[Result], ends: Collection[EndOfSilence]) -> list[Result]:
    """Return the tests with these ends, the shortest silence first."""
    return sorted((test for test in tests if test.end in ends), key=lambda test: test.quiet)


def _without_losses(known: list[Result]) -> tuple[list[Result], tuple[tuple[int, int], ...]]:
    """Leave out the deaths of rounds in which the path lost its state. Each side is judged alone, as for noise."""
    rounds = {number for side in Side for number in _lossy([test for test in known if test.prober is side])}
    lost = [test for test in known if test.end is EndOfSilence.FORGOTTEN and test.round in rounds]
    left = [test for test in known if test.end is not EndOfSilence.FORGOTTEN or test.round not in rounds]
    return left, tuple(sorted(Counter(test.round for test in lost).items()))


def _lossy(known: Sequence[Result]) -> Iterator[int]:
    """Yield each round whose deaths survivors of other rounds contradict.

    If these deaths were those of a device with a shorter timeout, then all these survivors would have missed it. That
    proves nothing beyond the shortest death of other rounds: what that device forgot there may have died later.
    """
    deaths = [test for test in known if test.end is EndOfSilence.FORGOTTEN]
    survivors = [test for test in known if test.end is EndOfSilence.SURVIVED]
    for number in {test.round for test in deaths}:
        fatal = sorted(test.by * CLOSE for test in deaths if test.round == number)
        alive = [test.quiet for test in survivors if test.quiet >= fatal[0] and test.round != number]
        if len(alive) < _survivors_needed(len(fatal), 0):  # the fewest that may do
            continue
        end = _shortest_death([test for test in known if test.round != number], fatal[0])
        alive = [quiet for quiet in alive if quiet < end * CLOSE]
        here = sum(test.round == number and test.end in ALIVE and test.quiet >= fatal[0] for test in known)
        for dead, quiet in enumerate(fatal, start=1):
            if len(alive) - bisect_left(alive, quiet) >= _survivors_needed(dead, here):
                yield number
                break


def _shortest_death(known: list[Result], quiet: float) -> float:
    """Return the shortest silence that was fatal; of what is much shorter than `quiet`, noise does not count."""
    counted = {id(test) for test in _without_noise(known)[0]}
    dead = [test for test in known if test.end is EndOfSilence.FORGOTTEN]
    near = quiet / LAZY
    return min((_first_asked(test) for test in dead if test.quiet >= near or id(test) in counted), default=math.inf)


def _first_asked(test: Result) -> float:
    return test.quiet if test.asked is None else test.asked


def _without_noise(known: list[Result]) -> tuple[list[Result], int]:
    """Leave out deaths that many survivors of longer silences contradict; return how many these are.

    Each side is judged alone: what one side's probes revive is dead for the other's.
    """
    noise = {id(death) for side in Side for death in _noise([test for test in known if test.prober is side])}
    return [test for test in known if id(test) not in noise], len(noise)


def _noise(known: Sequence[Result]) -> Iterator[Result]:
    longest = max((test.quiet for test in known if test.end in ALIVE), default=0.0)
    contradicted = [test for test in known if test.end is EndOfSilence.FORGOTTEN and test.quiet * CLOSE <= longest]
    for number, death in enumerate(contradicted):
        alive = sum(test.end in ALIVE and test.quiet >= death.quiet * CLOSE for test in known)
        dead = len(contradicted) - number
        if alive < MANY or dead >= NOISE * (alive + dead):
            break
        yield death


def _bracket(known: Sequence[Result]) -> Bracket:
    """Enclose the shortest timeout, whatever device a connection takes."""
    dead = [test for test in known if test.end is EndOfSilence.FORGOTTEN]
    alive = [test.quiet for test in known if test.end is EndOfSilence.SURVIVED]
    if not dead:
        longest = max(alive, default=None)
        return Bracket(longest, survivors=sum(quiet >= (longest or 0.0) * CLOSE for quiet in alive))
    first = dead[0]
    forgotten = sorted(test.by for test in dead)[:2][-1]  # the first one may have ended for another reason
    outlived = [test.quiet for test in known if test.end is EndOfSilence.OUTLIVED]
    beyond = [quiet for quiet in (*alive, *outlived) if quiet >= first.quiet]
    if len(beyond) * FEW <= len(dead) and all(quiet < first.quiet + PROMPT for quiet in beyond):
        beyond = []  # a busy machine was late
    below = sorted((quiet for quiet in alive if quiet < first.quiet), reverse=True)
    longer = beyond + [quiet for quiet in outlived if quiet < first.quiet]
    needed = _survivors_needed(len(dead), len(longer)) if longer else 1
    survived = below[needed - 1] if len(below) >= needed else None
    near = forgotten * CLEARLY * (ABOVE[0] if longer else 1.0)  # where the next round tries whether deaths repeat
    return Bracket(
        survived=survived,
        forgotten=forgotten,
        how=_how(dead),
        survivors=sum(quiet >= survived * CLOSE for quiet in below) if survived is not None else 0,
        several_devices=any(quiet > forgotten * LAZY for quiet in beyond),
        longest_survivor=max(*longer, survived or 0.0) if longer else None,
        once=len({test.round for test in dead if _first_asked(test) <= near}) == 1,
    )


def _how(dead: Sequence[Result]) -> How | None:
    """Return how most of them ended, of those that this host probed: to the peer's probes nothing but silence shows.

    A single reset may come of a lost packet. Of two ways that are as frequent the one counts that is not silence.
    """
    ways = Counter(test.how for test in dead if test.prober is Side.HERE) or Counter(test.how for test in dead)
    return max(ways, key=lambda how: (ways[how], how is not How.SILENCE))


@functools.cache
def _survivors_needed(dead: int, alive: int) -> int:
    """How many connections must have survived a silence, so that not all of them took a device with a longer timeout.

    `dead` and `alive` are those that were tested with a longer silence than the shortest fatal one. The share p of
    connections on the device with the shortest timeout is Beta(dead + 1, alive + 1), after a uniform prior; the chance
    that n survivors all missed that device is the mean of (1 - p)^n.
    """
    chance, needed = 1.0, 0
    while chance > DOUBT:
        chance *= (alive + needed + 1) / (dead + alive + needed + 2)
        needed += 1
    return needed


def _strict_side(known: Sequence[Result]) -> Side | None:
    """Return the side whose probes meet a forgotten connection where the other side's revive it, if that is so.

    A few of the strict side's connections may survive a little more than was fatal for others: the device is lazy, or
    the peer probed later than it was asked to, which shows only where its probe arrives.
    """
    for strict in Side:
        dead = [test.quiet for test in known if test.prober is strict and test.end is EndOfSilence.FORGOTTEN]
        if not dead:
            continue
        end = max([dead[0], *(test.quiet for test in known if test.prober is strict and _survived(test, dead[0]))])
        if end > dead[0] * LAZY + PROMPT:
            continue
        revived = [test.quiet for test in known if test.prober is not strict and _survived(test, end * CLEARLY)]
        others = (test for test in known if test.prober is not strict and test.end is EndOfSilence.FORGOTTEN)
        if len(revived) >= REVIVED and all(test.quiet > max(revived) for test in others):
            return strict
    return None


def _survived(test: Result, quiet: float) -> bool:
    return test.end in ALIVE and test.quiet >= quiet
