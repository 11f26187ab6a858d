"""What is remembered of each connection from scan to scan."""

import numpy as np
import pytest

from keepaliveD.policy.verdicts.activity import find


@pytest.mark.parametrize("haystack", [[], [5], [3, 9, 1], [1, 2, 3]])
def test_find_agrees_with_a_plain_search(haystack: list[int]) -> None:
    needles = np.array([1, 2, 3], np.uint64)
    row, known = find(np.array(haystack, np.uint64), needles)
    assert known.tolist() == [needle in haystack for needle in needles]
    if known.any():
        assert (np.array(haystack, np.uint64)[row][known] == needles[known]).all()
