"""Ends that are made on purpose, all at once on a real kernel, and what each of them is called."""

from __future__ import annotations

import pytest

from keepaliveD.model.causes import ONLY_BESIDE
from tests.kernel.deaths.played import Played, matrix, play
from tests.kernel.deaths.scenes import SCENES

RIGHT = 0.95  # of the ends that one host can tell apart


@pytest.fixture(scope="module")
def played() -> Played:
    """All scenes, played once for all tests."""
    return play(SCENES)


def test_there_are_forty_causes_of_ends_at_least() -> None:
    assert len({scene.play for scene in SCENES}) >= 40


def test_every_end_is_seen_once(played: Played) -> None:
    assert not played.failures
    seen = {(scene.name, end): len(played.of(scene, end)) for scene in SCENES for end in scene.truth}
    assert {key: count for key, count in seen.items() if count != 1} == {}


def test_the_cause_of_an_end_is_right(played: Played) -> None:
    told = [each for each in played.verdicts if each.truth not in ONLY_BESIDE]
    wrong = [each for each in told if not each.is_right]
    assert len(wrong) <= (1 - RIGHT) * len(told), "\n".join([matrix(played.verdicts), *map(str, wrong)])


def test_of_causes_that_cannot_be_told_apart_each_is_named(played: Played) -> None:
    assert [str(each) for each in played.verdicts if each.truth in ONLY_BESIDE and not each.is_right] == []


def test_what_is_called_certain_is_right(played: Played) -> None:
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []
