"""Columns that grow."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.sockets import SOCKET, Sockets, shrunk


def numbered(*cookies: int) -> Sockets:
    sockets = Sockets()
    sockets.extend(len(cookies))["cookie"][:] = cookies
    return sockets


def test_new_rows_come_after_those_that_are_there() -> None:
    """A host's namespaces are appended one after the other."""
    sockets = numbered(1, 2)
    sockets.extend(2)["cookie"][:] = [3, 4]
    assert sockets["cookie"].tolist() == [1, 2, 3, 4]
    assert len(sockets) == 4


def test_every_column_has_its_declared_type_also_after_growing() -> None:
    """A cookie in a float would name another socket."""
    sockets = numbered(2**64 - 1)
    for _ in range(5):
        sockets.extend(1000)
    assert {name: sockets[name].dtype.str[1:] for name in SOCKET} == SOCKET
    assert sockets["cookie"][0] == 2**64 - 1


def test_truncated_rows_are_gone_and_their_room_is_used_again() -> None:
    """A dump that raced with changes is taken anew, without a trace of the first try."""
    sockets = numbered(1, 2, 3)
    sockets.truncate(1)
    assert sockets["cookie"].tolist() == [1]
    sockets.extend(1)["cookie"][:] = [9]
    assert sockets["cookie"].tolist() == [1, 9]


def test_a_selection_is_a_copy() -> None:
    """What one judgement holds on to must not change with the next scan."""
    sockets = numbered(1, 2, 3)
    chosen = sockets.select(np.array([True, False, True]))
    sockets["cookie"][:] = 0
    assert chosen["cookie"].tolist() == [1, 3]
    assert len(chosen) == 2


def test_a_selection_can_be_empty_and_can_grow() -> None:
    """A host without foreign connections is no special case."""
    none = numbered(1).select(np.array([False]))
    assert len(none) == 0
    none.extend(1)["cookie"][:] = [7]
    assert none["cookie"].tolist() == [7]


def test_the_end_of_the_columns_is_a_view() -> None:
    """The interfaces of a namespace are written into the rows that it has just added."""
    sockets = numbered(1, 2, 3)
    sockets.since(1)["uid"][:] = 5
    assert sockets["uid"].tolist()[1:] == [5, 5]


def test_growing_socket_by_socket_moves_the_columns_only_now_and_then() -> None:
    """100,000 sockets of 100,000 layouts must not take the square of that."""
    sockets, moves, before = Sockets(), 0, -1
    for _ in range(2000):
        sockets.extend(1)
        at = sockets["cookie"].__array_interface__["data"][0]
        moves, before = moves + (at != before), at
    assert moves < 20


def test_expected_sockets_find_their_room_ready() -> None:
    """From the second scan on, nothing is moved at all."""
    sockets = Sockets(capacity=100)
    first = sockets.extend(50)["cookie"]
    assert np.shares_memory(sockets.extend(50)["cookie"].base, first.base)


@given(st.lists(st.integers(-5, 9)))
def test_columns_behave_like_a_list(steps: list[int]) -> None:
    """Any order of growing and truncating keeps what was written."""
    sockets, counter = Sockets(), 0
    model: list[int] = []
    for step in steps:
        if step < 0:
            size = max(0, len(model) + step)
            sockets.truncate(size)
            model = model[:size]
        else:
            new = list(range(counter, counter + step))
            counter += step
            sockets.extend(step)["cookie"][:] = new
            model += new
        assert sockets["cookie"].tolist() == model


def test_sockets_arrive_in_another_process_as_they_were_sent() -> None:
    """Of a column of equal values one value is sent, NaN too; 0.0 and -0.0 are not equal."""
    sockets = numbered(5, 6, 7)
    sockets["netns"][:], sockets["since_acked"][:], sockets["since_sent"][:] = 8, np.nan, [0.0, -0.0, 0.0]
    sent = pickle.loads(pickle.dumps(sockets))
    assert len(sent) == 3
    for name in SOCKET:
        assert sent[name].tobytes() == sockets[name].tobytes(), name
    assert (sent["netns"].strides, sent["since_sent"].strides) == ((0,), (4,))
    chosen = sent.select(np.array([True, False, True]))
    assert (chosen["cookie"].tolist(), chosen["netns"].tolist(), len(chosen)) == ([5, 7], [8, 8], 2)
    assert chosen["netns"].strides == (0,)


@pytest.mark.parametrize("count", [0, 1])
def test_few_sockets_arrive_too(count: int) -> None:
    sent = pickle.loads(pickle.dumps(numbered(*range(count))))
    assert (len(sent), sent["cookie"].tolist(), len(sent["netns"])) == (count, list(range(count)), count)
    assert len(sent.select(np.zeros(0, np.intp))) == 0


def test_a_column_of_equal_values_takes_the_memory_of_one() -> None:
    alike = shrunk(np.full(1000, np.nan))
    assert (alike.strides, len(alike)) == ((0,), 1000)
    assert np.isnan(alike).all()
    other = np.arange(1000.0)
    assert shrunk(other) is other
    few = np.zeros(3)
    assert shrunk(few, [np.zeros(3)]) is few


def test_a_column_that_holds_what_another_one_does_takes_no_memory_of_its_own() -> None:
    """Bit by bit: NaN equals itself, 0.0 and -0.0 are not equal, nor are numbers of other kinds."""
    column = np.repeat([np.nan, 0.0, 2.0], 500)
    assert shrunk(column.copy(), [np.arange(1500.0), column]) is column
    negative = np.repeat([np.nan, -0.0, 2.0], 500)
    others = (column[:500], negative, column.view(np.uint64), np.full(1500, np.nan), column[:0])
    own = column.copy()
    assert shrunk(own, others) is own
    late = np.arange(5000.0)
    changed = late.copy()
    changed[-1] = 0.0
    assert shrunk(changed, [late]) is changed
