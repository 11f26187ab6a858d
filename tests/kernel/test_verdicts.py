"""What the daemon says of a few hundred connections, against what real firewalls did to them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.kernel.conftest import missing
from tests.kernel.verdicts.stage import play
from tests.kernel.verdicts.stories import SPAN, WALLS, plan
from tests.kernel.verdicts.table import table
from tests.kernel.verdicts.truth import Fault, Judged, Kind, judge, timeline
from tests.kernel.versions import ITERATOR, since

SEED = 13
LIFETIMES = 42  # at each firewall

pytestmark = since(ITERATOR)


@dataclass(frozen=True)
class Day:
    """One day at all firewalls, with each engine at both ends, and what was wrong."""

    judged: list[Judged]
    faults: list[Fault]

    def forbid(self, kind: Kind) -> None:
        """Fail with the first of this kind, for whoever is to mend it."""
        found = [fault for fault in self.faults if fault.kind is kind]
        if found:
            counted = f"{len(found)} of seed {SEED}:\n{table(self.judged, self.faults)}"
            pytest.fail(f"{counted}\nThe first: {timeline(found[0])}", pytrace=False)


@pytest.fixture(scope="module")
def day() -> Day:
    """The same day for all tests."""
    if reason := missing():
        pytest.skip(reason)
    played = play({wall: plan(SEED, wall, LIFETIMES, SPAN) for wall in WALLS})
    judged = [each for stage in played for each in judge(stage)]
    return Day(judged, [fault for each in judged for fault in each.faults()])


def test_the_day_has_enough_of_life_and_death(day: Day) -> None:
    """Else the other tests would mean nothing."""
    print(f"seed {SEED}\n{table(day.judged, day.faults)}")
    connections = len(day.judged)
    assert connections / 10 < sum(each.died for each in day.judged) < connections / 2
    assert sum(any(packet.probe for packet in each.passed) for each in day.judged) > connections / 4


def test_no_packet_passes_after_a_certain_cut(day: Day) -> None:
    """Certain means certain for all that may have passed unseen."""
    day.forbid(Kind.CUT_LIVES)


def test_no_connection_dies_while_it_is_called_safe(day: Day) -> None:
    """Nor does a probe that came too late make it safe."""
    day.forbid(Kind.SAFE_DIES)


def test_every_dead_connection_is_called_cut(day: Day) -> None:
    """Certainly or presumably, once there was time to."""
    day.forbid(Kind.DEAD_UNSAID)
