"""Ends in which something unusual of this host or of the path looks like something else, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.kernel.deaths.astray import ASTRAY
from tests.kernel.deaths.closing import CLOSING
from tests.kernel.deaths.discarding import DISCARDING
from tests.kernel.deaths.forgetting import FORGETTING
from tests.kernel.deaths.misleading import MISLEADING
from tests.kernel.deaths.played import Played, settled
from tests.kernel.deaths.scenes import Scene
from tests.kernel.deaths.strange import STRANGE
from tests.kernel.deaths.stranger import STRANGER
from tests.kernel.deaths.test_causes import RIGHT

PLAYED: dict[str, Sequence[Scene]] = {  # at once: more would be slow
    "strange": STRANGE,
    "astray": (*ASTRAY, *CLOSING),
    "misleading": (*MISLEADING, *STRANGER, *FORGETTING),
    "discarding": DISCARDING,
}


@pytest.fixture(scope="module", params=list(PLAYED.values()), ids=list(PLAYED))
def played(request: pytest.FixtureRequest) -> Played:
    """All of them, played once for all tests."""
    done = settled(request.param)
    assert len(done.verdicts) > len(request.param) * 3 / 4, "few ends were seen"
    return done


def test_the_cause_is_right(played: Played) -> None:
    """A machine that stands still for seconds makes a silence of what should have none."""
    assert not played.failures
    told = [each for each in played.verdicts if each.can_be_told]
    wrong = [str(each) for each in told if not each.is_right]
    assert len(wrong) <= (1 - RIGHT) * len(told), "\n".join(wrong)


def test_of_causes_that_cannot_be_told_apart_each_is_named(played: Played) -> None:
    assert [str(each) for each in played.verdicts if not (each.can_be_told or each.is_right)] == []


def test_what_is_called_certain_is_right(played: Played) -> None:
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []


@pytest.mark.parametrize("scenes", list(PLAYED.values()), ids=list(PLAYED))
def test_without_bpf_what_is_seen_is_named_and_nothing_is_called_certain_that_is_wrong(scenes: Sequence[Scene]) -> None:
    played = settled(scenes, "netlink")
    assert not played.failures
    unnamed = [str(each) for each in played.verdicts if each.truth not in each.candidates]
    assert len(unnamed) <= (1 - RIGHT) * len(played.verdicts), "\n".join(unnamed)
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []
