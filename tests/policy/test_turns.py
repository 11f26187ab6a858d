"""Whose connections are seen to first, where there are more than can be."""

import numpy as np
import pytest

from keepaliveD.policy import turns


def chosen(left: list[float], owner: list[int], most: int) -> list[int]:
    return list(turns.first(np.array(left), np.array(owner, np.uint64), most))


def test_of_one_user_the_most_urgent_come_first() -> None:
    assert chosen([5.0, 1.0, 3.0, 2.0], [7, 7, 7, 7], 3) == [1, 3, 2]
    assert chosen([5.0, 1.0, 3.0, 2.0], [7, 7, 7, 7], 9) == [1, 3, 2, 0]


def test_each_user_has_one_in_turn() -> None:
    assert chosen([1.0, 2.0, 3.0, 50.0, 40.0], [1, 1, 1, 2, 3], 4) == [0, 4, 3, 1]


@pytest.mark.parametrize("most", [1, 5])
def test_of_none_there_is_none(most: int) -> None:
    assert chosen([], [], most) == []
