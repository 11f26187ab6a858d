"""A measurement of the idle timeout, over simulated paths: whatever they do, no bracket may miss the timeout."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from keepaliveD.policy.measuring.kept import Kept, keepalive_helps
from keepaliveD.policy.measuring.measurement import (
    ABOVE,
    CLEARLY,
    Bracket,
    EndOfSilence,
    How,
    Limits,
    PlannedTest,
    Result,
    Seen,
    Side,
    conclude,
    meaning,
    without_doubt,
)
from keepaliveD.policy.measuring.rounds import cut_short, next_round

PATIENCE = 0.3  # seconds until a probe counts as unanswered
RETRIES = (0.0, 1.0, 3.0, 7.0, 15.0, 31.0)  # when a kernel sends a SYN again
TRIES = 2.6  # seconds that are then left to a probe of the peer's
NEXT_PROBE = 1.2  # seconds in which the peer's kernel surely sends one more
SPACING = 0.05  # seconds between two new connections
MOMENT = 10.0  # seconds
SLOWLY = 4.0  # seconds

LISTENER = Limits(both_sides=True)
FOREIGN = Limits(connections=8)


@dataclass
class Path:
    """A path with devices of which each connection takes one; times are seconds since the measurement began."""

    timeouts: Sequence[float]
    shares: Sequence[float] = (1.0,)
    rejects: bool = False
    loose: bool = False  # a packet of this host is let through, and makes a new entry
    outage: tuple[float, float] = (0.0, 0.0)
    near: bool = True  # the outage is between this host and the devices
    proxied: bool = False  # a proxy before the devices answers the probes of both ends
    closes: float = float("inf")
    lost: float = 0.0  # share of packets
    dies: float = 0.0  # share of connections that end for another reason
    lazy: float = 1.0  # each entry lives up to this much longer
    late: float = 0.0  # seconds by which the listener may probe late
    ends: float = float("inf")  # when the far end goes away
    silently: bool = False  # it closes no connection when it goes
    busy: float = 0.0  # share of moments in which the far end takes no fresh connection at once
    slow: float = 0.0  # share of moments in which a fresh connection stands up to SLOWLY later
    loses: float = float("inf")  # when it loses its state: it forgets all connections of that moment
    chance: random.Random = field(default_factory=random.Random)

    def is_down(self, now: float) -> bool:
        return self.outage[0] <= now < self.outage[1]

    def is_busy(self, now: float) -> bool:
        """The same for all that are tested at about the same time."""
        return self.busy > 0 and random.Random(f"{self.timeouts} {now // MOMENT}").random() < self.busy

    def fresh(self, now: float) -> float | None:
        """When a connection that is begun now stands."""
        moment = random.Random(f"{self.timeouts} {now // MOMENT} fresh")
        stands = now + (moment.uniform(0.0, SLOWLY) if moment.random() < self.slow else 0.0)
        for retry in RETRIES:
            if stands + retry < self.ends and not self.is_down(now + retry) and self.chance.random() >= self.lost:
                return stands + retry
        return None


class Connection:
    """One that is left quiet over a path."""

    def __init__(self, path: Path, plan: PlannedTest, start: float) -> None:
        (timeout,) = path.chance.choices(path.timeouts, path.shares)
        self._path, self.plan, self.start, self._last = path, plan, start, start
        self._timeout = timeout * path.chance.uniform(1.0, path.lazy)
        self._dead = path.chance.random() < path.dies
        self._late = path.chance.uniform(0.0, path.late) if plan.prober is Side.THERE and path.late else 0.0

    @property
    def due(self) -> float:
        due = self.start + min(self.plan.quiet + self._late, self._path.closes)
        return due if self._path.silently else min(due, max(self.start, self._path.ends))

    def test(self, now: float) -> Seen:
        """What the host sees of it when it is tested now, as it would see it of a real one."""
        if now >= self._path.ends and not self._path.silently:
            return Seen(self.plan, now - self.start, closed=True, there=False)
        seen = self._seen(now)
        ended = self.start + max(seen.asked, seen.again or 0.0, seen.until or 0.0)
        return replace(seen, there=ended < self._path.ends and not self._path.is_busy(ended))

    def _seen(self, now: float) -> Seen:
        quiet = now - self.start
        if quiet >= self._path.closes <= self._timeout:
            return Seen(self.plan, self._path.closes, closed=True)
        answer = self._send(now)
        if answer != "silence":
            return Seen(self.plan, quiet, answered=answer == "answer", reset=answer == "reset")
        if self.plan.prober is Side.THERE:
            return self._silent_listener(now)
        stands = self._path.fresh(now + PATIENCE)
        if stands is None:
            return Seen(self.plan, quiet)
        answers = {self._send(stands), self._send(stands + 1)}
        return Seen(self.plan, quiet, "answer" in answers, "reset" in answers, again=stands - self.start)

    def _silent_listener(self, now: float) -> Seen:
        """What the host sees that heard no probe when it was planned: a late listener takes no fresh connection."""
        planned = self.start + self.plan.quiet
        stands = self._path.fresh(max(planned + PATIENCE, now))
        if stands is None:
            return Seen(self.plan, self.plan.quiet)
        until = stands + NEXT_PROBE
        seconds = range(1, 1 + int(stands + TRIES - now))  # after which the listener's kernel probes again
        answers = [self._send(now + second) for second in seconds]
        answered = "answer" in answers
        return Seen(self.plan, self.plan.quiet, answered, again=stands - self.start, until=until - self.start)

    def _send(self, now: float) -> str:
        path = self._path
        if path.proxied:
            return "answer" if self.plan.prober is Side.HERE else "silence"
        if self._dead or now >= path.ends or (path.is_down(now) and path.near) or path.chance.random() < path.lost / 2:
            return "silence"
        forgotten = now - self._last > self._timeout or self._last < path.loses <= now
        if forgotten and not (path.loose and self.plan.prober is Side.HERE):
            self._last = float("-inf")
            return "reset" if path.rejects and self.plan.prober is Side.HERE else "silence"
        self._last = now
        return "silence" if path.is_down(now) or path.chance.random() < path.lost / 2 else "answer"


def measure(path: Path, limits: Limits, *, never_closes: bool = True) -> tuple[Bracket, float]:
    """Carry out all rounds; return what was found, and how long it took."""
    now, rounds = 0.0, 0
    tests: list[Result] = []
    while now < path.ends and (plans := next_round(tests, limits, rounds)):
        before = len(tests)
        now = one_round(path, plans, now, tests, census=conclude(tests).longest_survivor is None, closes=never_closes)
        made = [replace(test, round=rounds) for test in tests[before:]]
        tests[before:] = without_doubt(made, gone=now >= path.ends)
        rounds += 1
    return conclude(tests), now


def one_round(
    path: Path, plans: list[PlannedTest], now: float, tests: list[Result], *, census: bool, closes: bool
) -> float:
    made = [Connection(path, plan, now + number * SPACING) for number, plan in enumerate(plans)]
    waiting = [(each.due, number, each) for number, each in enumerate(made)]
    heapq.heapify(waiting)
    while waiting:
        now, _, each = heapq.heappop(waiting)
        result = meaning(each.test(now), never_closes=closes)
        tests.append(result)
        if census and result.end is EndOfSilence.FORGOTTEN:
            census = False
            waiting = [
                (each.start + min(quiet, path.closes), number, each)
                for _, number, each in waiting
                if (quiet := cut_short(each.plan, result.quiet)) is not None
            ]
            heapq.heapify(waiting)
    return now


def paths(kind: str, seed: int, *, many: bool = True) -> tuple[Path, float]:
    """A path of this kind, and its idle timeout."""
    chance = random.Random(f"{kind} {seed}")
    timeout = 10 * 300 ** chance.random()
    path = Path([timeout], rejects=chance.random() < 0.3, chance=chance)
    match kind:
        case "outage":
            begin = timeout * chance.uniform(0.5, 1.1)
            path.outage, path.near = (begin, begin + timeout * chance.uniform(0.02, 0.5)), chance.random() < 0.5
        case "several":
            share = chance.choice((0.25, 0.5, 0.75) if many else (0.5, 0.75))
            path.timeouts, path.shares = [timeout, timeout * chance.uniform(1.3, 6)], (share, 1 - share)
        case "loss":
            path.lost = 0.02
        case "noise":
            path.lost, path.dies = 0.005, 0.002
        case "lazy":
            path.lazy = 1.12
    return path, timeout


KINDS = {"plain": 199, "outage": 199, "several": 30, "loss": 199, "noise": 190, "lazy": 80}  # brackets narrow enough


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", [LISTENER, FOREIGN], ids=["listener", "foreign"])
def test_no_bracket_of_200_runs_misses_the_timeout(kind: str, limits: Limits) -> None:
    wrong, narrow = [], 0
    for seed in range(200):
        path, timeout = paths(kind, seed, many=limits is LISTENER)
        bracket, _ = measure(path, limits)
        low, high = bracket.survived, bracket.forgotten
        if (low is not None and low > timeout * path.lazy) or (high is not None and high < timeout):
            wrong.append((seed, timeout, bracket))
        narrow += bracket.narrow(limits.ratio)
        assert (bracket.losses, bracket.once and bracket.narrow(limits.ratio)) == ((), False), (seed, bracket)
    assert not wrong
    assert narrow >= KINDS[kind]


FIREWALL = 25.0  # seconds
NEAR = CLEARLY * ABOVE[0]  # a loss of state at so nearly the timeout is not told from it
WITHIN = Limits(4.0, 40.0, both_sides=True), Limits(4.0, 40.0, connections=8)
BOTH = pytest.mark.parametrize("limits", WITHIN, ids=["listener", "foreign"])


@BOTH
def test_a_path_that_loses_its_state_once_has_no_shorter_timeout(limits: Limits) -> None:
    """It said "9.5 to 12 s, several devices", for good; hundreds survived longer in later rounds."""
    seen, undecided = 0, 0
    for seed in range(60):
        chance = random.Random(seed)
        loses = chance.uniform(2.0, 120.0)
        bracket, took = measure(Path([FIREWALL], loses=loses, rejects=seed % 2 == 0, chance=chance), limits)
        told = (seed, loses, took, bracket)
        seen += bool(bracket.losses)
        undecided += bracket.once
        assert (bracket.survived or 0.0) <= FIREWALL, told
        if not bracket.once:
            assert (bracket.forgotten or 0.0) >= FIREWALL / NEAR, told
            assert bracket.narrow(1.3), told
    assert (seen > 10, undecided) == (True, 0), (seen, undecided)


@BOTH
def test_a_path_that_never_forgets_but_loses_its_state_once_gets_no_timeout(limits: Limits) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        path = Path([1e9], loses=chance.uniform(2.0, 80.0), chance=chance)
        bracket, took = measure(path, limits)
        assert bracket.forgotten is None or bracket.once, (seed, path.loses, took, bracket)
        assert bracket.longest_survivor or bracket.survived, (seed, path.loses, took, bracket)


@BOTH
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25)])
def test_two_devices_are_seen_although_the_path_loses_its_state(limits: Limits, shares: tuple[float, float]) -> None:
    """The deaths of the one with the shorter timeout repeat in each round."""
    undecided = 0
    for seed in range(60):
        chance = random.Random(seed)
        loses = chance.uniform(2.0, 120.0) if seed % 2 else float("inf")
        bracket, _ = measure(Path([20.0, 32.0], shares, loses=loses, chance=chance), limits)
        undecided += bracket.once
        assert (bracket.survived or 0.0) <= 20.0, (seed, loses, bracket)
        assert bracket.once or (bracket.forgotten or 0.0) >= 20.0 / NEAR, (seed, loses, bracket)
        assert bracket.losses == () or loses < float("inf"), (seed, bracket)
    assert undecided <= 2, undecided


@BOTH
def test_deaths_of_one_round_alone_are_in_doubt(limits: Limits) -> None:
    """The path may have lost its state in that round; the next one would show it."""
    for loses in (10.0, float("inf")):
        tests: list[Result] = []
        one_round(Path([FIREWALL], loses=loses), next_round([], limits, 0), 0.0, tests, census=True, closes=True)
        bracket = conclude(tests)
        assert bracket.forgotten is not None
        assert (bracket.once, bracket.losses) == (True, ())


def test_two_devices_are_seen_also_where_few_silences_are_tried() -> None:
    """Half of the connections take each; those that are left quiet the longest must not all take one by chance."""
    for seed in range(200):
        path = Path([20.0, 32.0], [0.5, 0.5], chance=random.Random(seed))
        bracket, _ = measure(path, Limits(8.0, 40.0, both_sides=True))
        assert (bracket.several_devices, bracket.revived_by) == (True, None), seed


def test_two_devices_are_named_also_where_the_bracket_is_soon_narrow() -> None:
    """A bracket that is narrow enough ends the search, but not before it is known why some connections outlived it."""
    for seed in range(150):
        path, _ = paths("several", seed)
        bracket, _ = measure(path, LISTENER)
        assert bracket.several_devices or bracket.forgotten is None, (seed, path.timeouts, bracket)


@pytest.mark.long
def test_a_far_end_that_is_too_busy_now_and_then_hides_no_device() -> None:
    """What dies while it takes no fresh connection is not known to be forgotten; all that dies may take one device."""
    for seed in range(200):
        path = Path([20.0, 32.0], [0.5, 0.5], busy=0.5, chance=random.Random(seed))
        bracket, _ = measure(path, Limits(8.0, 40.0, both_sides=True))
        assert (bracket.survived or 0.0) <= 20.0 <= (bracket.forgotten or 20.0), (seed, bracket)


@pytest.mark.long
@pytest.mark.parametrize(("slow", "busy"), [(0.6, 0.0), (1.0, 0.0), (0.6, 0.5), (1.0, 0.5)])
def test_fresh_connections_that_stand_late_hide_no_device(slow: float, busy: float) -> None:
    """Deaths count from then on; all that died earlier may take one device, and what survived meanwhile another."""
    for seed in range(150):
        start = random.Random(seed).uniform(18.0, 22.0)  # each seed has other moments
        path = Path([start, start * 1.6], [0.5, 0.5], slow=slow, busy=busy, chance=random.Random(seed))
        bracket, _ = measure(path, Limits(8.0, 40.0, both_sides=True))
        assert (bracket.survived or 0.0) <= start <= (bracket.forgotten or start), (seed, bracket)


@pytest.mark.parametrize("loose", [False, True])
def test_fresh_connections_that_stand_late_make_no_bracket_wider(loose: bool) -> None:
    limits = Limits(8.0, 40.0, both_sides=True)
    for seed in range(40):
        timeout = random.Random(seed).uniform(18.0, 22.0)
        bracket, _ = measure(Path([timeout], loose=loose, slow=0.6, chance=random.Random(seed)), limits)
        assert bracket.narrow(limits.ratio), (seed, bracket)
        assert (bracket.survived or 0.0) <= timeout <= (bracket.forgotten or 0.0), (seed, bracket)


@pytest.mark.parametrize("connections", [78, 8])
def test_a_proxy_that_answers_the_probes_of_both_ends_is_no_firewall(connections: int) -> None:
    """No probe of the peer ever arrives, whatever the silence: this was a loose firewall that forgets within 5 s."""
    for seed in range(40):
        path = Path([60.0], proxied=True, chance=random.Random(seed))
        bracket, took = measure(path, Limits(5.0, 400.0, connections, both_sides=True))
        assert bracket.unheard is not None, (seed, bracket)
        assert (bracket.survived, bracket.several_devices) == (None, False), (seed, bracket)
        assert keepalive_helps(bracket, Kept(1e9, 24), connections) is None
        assert took < 4 * 60, (seed, took)


def test_a_loose_firewall_is_no_proxy() -> None:
    for seed in range(40):
        timeout = random.Random(seed).uniform(5.1, 60.0)
        bracket, _ = measure(
            Path([timeout], loose=True, chance=random.Random(seed)), Limits(5.0, 90.0, both_sides=True)
        )
        assert (bracket.unheard, bracket.revived_by) == (None, Side.HERE), (seed, timeout, bracket)


def late(quiet: float, stands: float) -> Seen:
    """A connection that gave no answer, and was tried again only when a fresh connection stood."""
    return Seen(PlannedTest(quiet), quiet, again=stands)


def test_survivors_of_a_moment_in_which_deaths_were_seen_late_are_not_below_the_timeout() -> None:
    """Two devices forget after 20 s and 32 s. It said "22.6 to 23.1 s": no death was certain before 23 s."""
    lived = [
        Seen(PlannedTest(quiet), quiet, answered=True) for quiet in (19.5, 20.5, 21.5, 22.6, 27.0) for _ in range(9)
    ]
    died = [late(quiet, 23.1 + 0.1 * quiet) for quiet in (20.5, 21.5, 22.6, 27.0) for _ in range(9)]
    made = without_doubt([meaning(seen, never_closes=True) for seen in (*lived, *died)])
    bracket = conclude(made)
    assert (bracket.survived or 0.0) <= 20.0 <= (bracket.forgotten or 0.0)
    assert bracket.uneven


def test_no_silence_is_tried_that_is_longer_than_was_asked_for() -> None:
    limits = Limits(8.0, 40.0, both_sides=True)
    for seed in range(50):
        path = Path([30.0, 60.0], [0.5, 0.5], chance=random.Random(seed))
        tests: list[Result] = []
        for rounds in range(12):
            plans = next_round(tests, limits, rounds)
            assert max((plan.quiet for plan in plans), default=0.0) <= limits.longest
            one_round(path, plans, 0.0, tests, census=conclude(tests).longest_survivor is None, closes=True)


def test_a_machine_that_is_late_makes_no_round_longer_than_was_asked_for() -> None:
    """Each round tried once more the longest silence that one connection had survived by being late, up to 18 s."""
    limits = Limits(4.0, 12.0, connections=8)
    late = [Result(12.0 + 0.2 * number, EndOfSilence.SURVIVED) for number in range(24)]
    assert max(plan.quiet for plan in next_round(late[:8], limits, 1)) == limits.longest
    assert next_round(late, limits, 3) == []


def test_one_round_to_a_listener_finds_the_timeout_to_5_percent_while_it_passes_once() -> None:
    for seed in range(200):
        path, timeout = paths("plain", seed)
        tests: list[Result] = []
        took = one_round(path, next_round([], LISTENER, 0), 0.0, tests, census=True, closes=True)
        bracket = conclude(tests)
        assert took <= 1.2 * timeout + SPACING * LISTENER.connections
        assert bracket.survived is not None
        assert bracket.survived <= timeout <= (bracket.forgotten or 0.0)
        assert bracket.narrow(LISTENER.ratio)


def test_probes_of_this_host_revive_what_a_loose_firewall_forgot_and_the_peers_show_it() -> None:
    for seed in range(20):
        path, timeout = paths("plain", seed)
        path.loose = True
        bracket, _ = measure(path, LISTENER)
        assert bracket.revived_by is Side.HERE
        assert bracket.survived is not None
        assert bracket.survived <= timeout <= (bracket.forgotten or 0.0)


@pytest.mark.long
def test_a_listener_that_probes_late_does_not_hide_that_the_firewall_is_loose() -> None:
    for seed in range(200):
        path, timeout = paths("plain", seed)
        path.loose, path.late = True, 0.9
        bracket, _ = measure(path, LISTENER)
        assert (bracket.revived_by, bracket.several_devices) == (Side.HERE, False)
        assert bracket.survived is not None
        assert bracket.survived <= timeout <= (bracket.forgotten or 0.0)


@pytest.mark.long
@pytest.mark.parametrize("loose", [False, True])
def test_a_listener_that_probes_late_makes_no_bracket_end_too_early(loose: bool) -> None:
    for seed in range(200):
        path, timeout = paths("plain", seed)
        path.loose, path.late = loose, 2.0
        bracket, _ = measure(path, LISTENER)
        assert bracket.survived is not None
        assert bracket.survived <= timeout <= (bracket.forgotten or 0.0)
        assert not bracket.several_devices


@pytest.mark.parametrize("silently", [False, True])
@pytest.mark.parametrize("limits", [LISTENER, FOREIGN], ids=["listener", "foreign"])
def test_a_far_end_that_goes_away_makes_no_bracket(limits: Limits, silently: bool) -> None:
    """Whatever was proven before stays known."""
    for seed in range(100):
        path, timeout = paths("plain", seed)
        path.ends, path.silently = timeout * path.chance.uniform(0.1, 4), silently
        bracket, _ = measure(path, limits, never_closes=limits is LISTENER)
        assert (bracket.survived or 0.0) <= timeout <= (bracket.forgotten or timeout), (seed, timeout, bracket)
        assert (bracket.several_devices, bracket.closes) == (False, None), (seed, timeout, bracket)
        if path.ends > 1.2 * timeout + SPACING * LISTENER.connections and limits is LISTENER:
            assert bracket.narrow(LISTENER.ratio), (seed, timeout, bracket)


def test_from_one_side_a_loose_firewall_seems_never_to_forget() -> None:
    bracket, _ = measure(Path([30.0], loose=True), FOREIGN)
    assert bracket.survived == pytest.approx(FOREIGN.longest)
    assert bracket.forgotten is None


def test_a_server_that_closes_first_hides_a_longer_timeout() -> None:
    bracket, took = measure(Path([900.0], closes=120.0), FOREIGN, never_closes=False)
    assert (bracket.closes, bracket.forgotten) == (120.0, None)
    assert bracket.survived is not None
    assert 120 / FOREIGN.ratio <= bracket.survived <= 120
    assert took < 600


def test_a_server_that_closes_later_does_not_hide_a_timeout() -> None:
    bracket, _ = measure(Path([60.0], closes=120.0), FOREIGN, never_closes=False)
    assert bracket.survived is not None
    assert bracket.survived <= 60 <= (bracket.forgotten or 0.0) <= 70


def test_the_plan_against_a_foreign_service_opens_few_connections_at_a_time() -> None:
    assert len(next_round([], FOREIGN, 0)) <= 8
    assert len(next_round([], LISTENER, 0)) <= 78


@pytest.mark.parametrize(
    ("quiet", "how", "forgotten"),
    [(11.99, How.RESET, None), (20.0, How.RESET, None), (9.0, How.RESET, 9.0), (11.99, How.SILENCE, 11.99)],
)
def test_a_reset_when_the_service_also_ends_connections_is_nobodys_answer(
    quiet: float, how: How, forgotten: float | None
) -> None:
    """A reset that the service sends by itself just before a probe arrives looks like a firewall's."""
    closed = [Result(12.0 + 0.01 * number, EndOfSilence.CLOSED) for number in range(4)]
    bracket = conclude([*closed, Result(quiet, EndOfSilence.FORGOTTEN, how=how, by=quiet)])
    assert (bracket.forgotten, bracket.void) == (forgotten, int(forgotten is None))


def test_the_longest_survivor_is_no_shorter_than_what_all_survived() -> None:
    alive = [Result(quiet, EndOfSilence.SURVIVED) for quiet in (19.0, 20.0) for _ in range(60)]
    outlived = Result(18.0, EndOfSilence.OUTLIVED)
    dead = [Result(22.0, EndOfSilence.FORGOTTEN, how=How.SILENCE, by=22.3) for _ in range(9)]
    bracket = conclude([*alive, outlived, *dead])
    assert (bracket.survived, bracket.longest_survivor) == (20.0, 20.0)


@pytest.mark.parametrize(
    ("bracket", "kept", "helps"),
    [
        (Bracket(19.0, 21.0), Kept(22.5, 1), True),
        (Bracket(19.0, 21.0), Kept(22.5, 1, forgotten=2), True),
        (Bracket(19.0, 21.0), Kept(20.5, 1), None),
        (Bracket(19.0, 21.0), Kept(21.02, 1), None),
        (Bracket(19.0, 21.0), Kept(21.02, 1, forgotten=2), False),
        (Bracket(20.0), Kept(20.5, 1), None),
        (Bracket(20.0), Kept(forgotten=2), None),
        (Bracket(19.0, 21.0), Kept(forgotten=1), None),
        (Bracket(19.0, 21.0), Kept(forgotten=2), False),
        (Bracket(19.0, 21.0, longest_survivor=40.0), Kept(22.5, 1), None),
        (Bracket(19.0, 21.0, longest_survivor=40.0), Kept(22.5, 24), True),
        (Bracket(19.0, 21.0, longest_survivor=40.0), Kept(22.5, 1, forgotten=2), False),
        (Bracket(19.0, 21.0, closes=15.0), Kept(forgotten=2), None),
    ],
)
def test_whether_keepalive_helps_follows_from_the_final_bracket(
    bracket: Bracket, kept: Kept, helps: bool | None
) -> None:
    """Where nothing was forgotten in the end, a connection was said to have outlived the timeout of an early round."""
    assert keepalive_helps(bracket, kept, 78) is helps


@pytest.mark.parametrize(
    ("seen", "never_closes", "result"),
    [
        (Seen(PlannedTest(20), 20.0, answered=True), False, Result(20.0, EndOfSilence.SURVIVED)),
        (Seen(PlannedTest(20), 20.0, answered=True, again=35.0), False, Result(20.0, EndOfSilence.SURVIVED)),
        (Seen(PlannedTest(20), 20.0), False, Result(20.0, EndOfSilence.VOID)),
        (
            Seen(PlannedTest(20), 20.0, again=20.3),
            False,
            Result(20.0, EndOfSilence.FORGOTTEN, how=How.SILENCE, by=20.3),
        ),
        (
            Seen(PlannedTest(20), 20.0, again=35.0),
            False,
            Result(35.0, EndOfSilence.FORGOTTEN, how=How.SILENCE, by=35.0, asked=20.0),
        ),
        (Seen(PlannedTest(20), 20.0, reset=True), False, Result(20.0, EndOfSilence.FORGOTTEN, how=How.RESET, by=20.0)),
        (Seen(PlannedTest(20), 9.0, closed=True), False, Result(9.0, EndOfSilence.CLOSED)),
        (
            Seen(PlannedTest(20), 9.0, closed=True),
            True,
            Result(9.0, EndOfSilence.FORGOTTEN, how=How.CLOSED_UNASKED, by=9.0),
        ),
        (
            Seen(PlannedTest(20), 9.0, closed=True, reset=True),
            True,
            Result(9.0, EndOfSilence.FORGOTTEN, how=How.RESET_UNASKED, by=9.0),
        ),
        (
            Seen(PlannedTest(20), 9.0, closed=True, until=90.0),
            True,
            Result(9.0, EndOfSilence.FORGOTTEN, how=How.CLOSED_UNASKED, by=90.0),
        ),
        (Seen(PlannedTest(20), 9.0, spoke=True), False, Result(9.0, EndOfSilence.BROKEN)),
        (Seen(PlannedTest(20), 9.0, spoke=True), True, Result(9.0, EndOfSilence.VOID)),
        (Seen(PlannedTest(20), 9.0, closed=True, there=False), True, Result(9.0, EndOfSilence.DOUBTFUL)),
        (Seen(PlannedTest(20), 9.0, closed=True, there=False), False, Result(9.0, EndOfSilence.DOUBTFUL)),
        (Seen(PlannedTest(20), 20.0, reset=True, there=False), False, Result(20.0, EndOfSilence.DOUBTFUL)),
        (Seen(PlannedTest(20), 20.0, answered=True, there=False), False, Result(20.0, EndOfSilence.SURVIVED)),
    ],
)
def test_what_is_seen_of_a_connection_has_one_meaning(seen: Seen, never_closes: bool, result: Result) -> None:
    shown = meaning(seen, never_closes=never_closes)
    assert repr(shown) == repr(result)  # nan is not equal to itself
