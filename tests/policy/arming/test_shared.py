"""Entries of many sockets as columns say what they say as objects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed, Entry, Mark
from keepaliveD.policy.arming.shared import NONE, Shared, are_among, shared, with_entry

OFF = SocketKeepalive(False, Keepalive(7200, 75, 9))
ON = SocketKeepalive(True, Keepalive(180, 20, 31))
KINDS: tuple[Entry, ...] = (Armed(OFF, ON), Armed(ON, OFF), Mark.LEFT_ALONE, Mark.NOT_ARMED)
COOKIES = st.integers(0, 2**64 - 1)
ENTRIES = st.dictionaries(COOKIES, st.sampled_from(KINDS), max_size=8)


@given(ENTRIES)
def test_as_columns_they_are_the_same(entries: Mapping[int, Entry]) -> None:
    columns = shared(entries)
    assert (dict(columns), len(columns), list(columns)) == (entries, len(entries), list(entries))
    assert shared(columns) is columns


@given(ENTRIES, st.lists(COOKIES, unique=True, max_size=4))
def test_each_socket_has_the_number_of_its_entry(entries: Mapping[int, Entry], others: list[int]) -> None:
    columns, wanted = shared(entries), [*others, *entries]
    numbers = columns.numbers_of(np.array(wanted, np.uint64)).tolist()
    found = [None if number == NONE else columns.kinds[number] for number in numbers]
    assert found == [entries.get(cookie) for cookie in wanted]
    assert are_among(np.array(wanted, np.uint64), columns).tolist() == [cookie in entries for cookie in wanted]


@given(ENTRIES)
def test_those_that_were_left_alone_are_found(entries: Mapping[int, Entry]) -> None:
    left = [cookie for cookie, entry in entries.items() if entry is Mark.LEFT_ALONE]
    assert with_entry(entries, Mark.LEFT_ALONE).tolist() == left


def test_a_part_has_the_entries_of_its_rows() -> None:
    whole = Shared(np.array([3, 1, 2], np.uint64), np.array([0, 2, 0], np.uint32), KINDS)
    assert dict(whole.part(np.array([False, True, True]))) == {1: Mark.LEFT_ALONE, 2: KINDS[0]}
    assert dict(whole.part(slice(0, 1))) == {3: KINDS[0]}
