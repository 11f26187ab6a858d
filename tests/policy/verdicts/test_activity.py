"""What is remembered of each connection from scan to scan."""

import numpy as np
import pytest

from keepaliveD.model.sockets import FEW
from keepaliveD.policy.verdicts.activity import find
from tests.support.tables import idle, table, watch


@pytest.mark.parametrize("haystack", [[], [5], [3, 9, 1], [1, 2, 3]])
def test_find_agrees_with_a_plain_search(haystack: list[int]) -> None:
    needles = np.array([1, 2, 3], np.uint64)
    row, known = find(np.array(haystack, np.uint64), needles)
    assert known.tolist() == [needle in haystack for needle in needles]
    if known.any():
        assert (np.array(haystack, np.uint64)[row][known] == needles[known]).all()


def test_two_instants_that_are_the_same_for_all_sockets_are_remembered_once() -> None:
    """As long as nothing but data has passed, the peer's next probe counts from the newest packet."""
    silences = [10.0 + number for number in range(FEW)]
    sockets = [idle(silence, cookie=number, since_packet=silence) for number, silence in enumerate(silences, 1)]
    activity = watch(table(1000, *sockets)).activity
    assert activity.beat_by.tolist() == [1000 - silence for silence in silences]
    assert activity.beat_by is activity.last_packet_by
