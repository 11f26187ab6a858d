"""What the decider says, against the truth of simulated worlds; script/simulate plays more of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.sockets import SocketTable
from tests.simulation.decider import CERTAIN, Armer, Reader, Said, Word
from tests.simulation.kernel import HZ, fires
from tests.simulation.run import run
from tests.simulation.scans import EngineName
from tests.simulation.story import tell
from tests.simulation.truth import HELD, Judge, Wrong
from tests.simulation.world import World, world

SIZE = 400  # connections in a world
MIXED = [f"mixed-{number}" for number in range(24)]  # odd ones arm
FEW = 2  # of each kind, which script/test --quick simulates, too
DATA = [f"data-{number}" for number in range(8)]  # every other path counts only data
SHORT = [f"short-{number}" for number in range(8)]  # 8 s and 1 s, as in the test on a real firewall
TOLD = 3  # stories of a failure

LONG = pytest.mark.long
by_each_engine = pytest.mark.parametrize("engine", EngineName)


@by_each_engine
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=[LONG] if number >= FEW else [])
        for kind in (MIXED, SHORT, DATA)
        for number, seed in enumerate(kind)
    ],
)
def test_what_is_said_for_certain_is_true(seed: str, engine: EngineName) -> None:
    """Where it is not, the stories of some connections follow."""
    timeout, interval = (8.0, 1.0) if seed in SHORT else (0.0, 0.0)
    arming = int(seed.rpartition("-")[2]) % 2 == 1
    drawn = world(seed, SIZE, arming=arming, timeout=timeout, interval=interval, only_data=seed in DATA)
    done = run(drawn, engine)
    broken = [breach for breach in Judge(done).breaches() if breach.wrong in HELD]
    told = {breach.wrong: breach for breach in broken}  # one of a kind
    stories = [tell(done, breach) for breach in list(told.values())[:TOLD]]
    counts = Counter(breach.wrong.value for breach in broken)
    assert not broken, "\n\n".join([str(dict(counts)), *stories])


class Always:
    """Says the same of every connection, and logs it."""

    def __init__(self, verdict: Verdict, *, certain: bool) -> None:
        self._verdict = verdict
        self._certain = certain

    def scan(self, table: SocketTable, end: float, arm: Armer, read: Reader) -> Said:
        """Judge one."""
        del end, arm, read
        cookies = table.sockets["cookie"]
        said = np.full(len(cookies), self._verdict + CERTAIN * self._certain, np.uint8)
        words = tuple(Word(cookie, self._verdict, self._certain) for cookie in cookies.tolist())
        return Said(cookies, said, words, ())


def wrongs(verdict: Verdict, *, certain: bool) -> set[Wrong]:
    drawn = world("always", SIZE, arming=False, timeout=8.0, interval=1.0)
    done = run(drawn, EngineName.BPF, decide=lambda _: Always(verdict, certain=certain))
    return {breach.wrong for breach in Judge(done).breaches()}


def test_a_decider_that_always_says_safe_is_found_out() -> None:
    assert {Wrong.SAFE_AT_DEATH, Wrong.SAFE_AFTER, Wrong.NEVER_CUT, Wrong.UNWARNED} <= wrongs(
        Verdict.SAFE, certain=True
    )
    assert {Wrong.UNCERTAIN_AT_DEATH, Wrong.UNWARNED_PRESUMED, Wrong.NEVER_CUT} <= wrongs(Verdict.SAFE, certain=False)


def test_a_decider_that_always_says_cut_is_found_out() -> None:
    found = wrongs(Verdict.CUT, certain=True)
    assert {Wrong.CUT_THEN_PACKET, Wrong.CUT_LOGGED_THEN_PACKET, Wrong.CUT_EARLY} <= found
    assert Wrong.NEVER_CUT not in found
    assert not {Wrong.CUT_THEN_PACKET, Wrong.CUT_EARLY} & wrongs(Verdict.CUT, certain=False)


def test_a_decider_that_always_warns_is_found_out() -> None:
    assert {Wrong.FALSE_BARE, Wrong.NEVER_CUT} <= wrongs(Verdict.BARE, certain=True)
    late = wrongs(Verdict.LATE, certain=True)
    assert Wrong.FALSE_LATE in late
    assert Wrong.UNWARNED not in late


def test_one_seed_is_one_history() -> None:
    once, again = (run(_small(), EngineName.NETLINK) for _ in range(2))
    assert once.verdicts == again.verdicts
    assert [each.passed for each in once.connections] == [each.passed for each in again.connections]


def test_a_connection_alone_lives_as_it_does_among_others() -> None:
    """So its story can be told."""
    together = run(_small(), EngineName.BPF)
    for number in range(0, SIZE, 50):
        alone = run(_small(), EngineName.BPF, only=number, at=together.scans)
        assert alone.connections[number].passed == together.connections[number].passed
        assert alone.verdicts.get(number) == together.verdicts.get(number)


def _small() -> World:
    return world("small", SIZE, arming=True, timeout=20.0, interval=2.0)


def test_a_timer_is_never_early_and_late_by_no_more_than_an_eighth_and_a_bit() -> None:
    """kernel/time/timer.c: a level of the wheel begins at 63 grains of the level below, so it is 8/63."""
    lengths = [*range(1, 3000), *(2**power + odd for power in range(12, 23) for odd in range(-40, 40))]
    late = {
        length: [(fires(now, now + length) - now - length) / length for now in (0, 7, 4095, 12345)]
        for length in lengths
    }
    assert min(map(min, late.values())) >= 0
    assert 1 / 8 < max(max(each) for length, each in late.items() if length > HZ) <= 8 / 63
