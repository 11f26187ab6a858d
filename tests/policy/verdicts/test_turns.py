"""Whose connections are seen to first, where there are more than can be."""

import numpy as np
import pytest

from keepaliveD.policy.verdicts import turns
from tests.support.tables import idle, table


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


def test_of_more_connections_than_can_be_shared_out_each_user_has_some_in_the_order_of_urgency() -> None:
    found = table(0.0, *(idle(9.0, uid=1000) for _ in range(9)), idle(5.0, uid=113), idle(1.0, uid=0))
    assert turns.shared(found, np.arange(11), 4).tolist() == [0, 1, 9, 10]
    assert turns.shared(found, np.arange(11), 11).tolist() == list(range(11))


def test_however_many_users_there_are_roots_connection_is_one_of_those_that_are_shared_out() -> None:
    """One user may have 65,536 numbers, in user namespaces of his own."""
    found = table(0.0, *(idle(9.0, uid=100_000 + number) for number in range(300)), idle(1.0, uid=0))
    assert 300 in turns.shared(found, np.arange(301), 256)


def test_a_socket_that_no_process_holds_is_not_taken_for_one_of_roots() -> None:
    """Without BPF its user is said to be 0: everybody may have many that no process has accepted or that are closed."""
    found = table(0.0, *(idle(9.0, uid=0, inode=0) for _ in range(300)), idle(1.0, uid=0))
    assert 300 in turns.shared(found, np.arange(301), 256)
