"""Ends in which something unusual of this host or of the path looks like something else, and what they are called."""

from __future__ import annotations

import pytest

from tests.kernel.deaths.played import Played, play
from tests.kernel.deaths.strange import STRANGE


@pytest.fixture(scope="module")
def played() -> Played:
    """All of them, played once for all tests."""
    return play(STRANGE)


def test_the_cause_is_right_or_named_where_one_host_cannot_tell(played: Played) -> None:
    assert not played.failures
    assert len(played.verdicts) > len(STRANGE) / 2
    assert [str(each) for each in played.verdicts if not each.is_right] == []


def test_what_is_called_certain_is_right(played: Played) -> None:
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []


def test_without_bpf_nothing_is_called_certain_that_is_wrong() -> None:
    played = play(STRANGE, "netlink")
    assert not played.failures
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []
