"""Entries of many sockets as columns: most share a few, and objects for each socket would take a hundred octets."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from keepaliveD.model.results import Armed, Entry
from keepaliveD.model.sockets import Bools, Column
from keepaliveD.policy.verdicts.activity import find

Kind_co = TypeVar("Kind_co", bound=Entry, covariant=True)
NONE = -1  # the number of no entry


class Shared(Mapping[int, Kind_co]):
    """The entries of sockets by cookie: each socket's is the one of `kinds` with its number.

    Objects are made for each socket only once one is looked up.
    """

    def __init__(self, cookies: Column, numbers: Column, kinds: Sequence[Kind_co]) -> None:
        self.cookies = cookies
        self.numbers = numbers
        self.kinds = kinds

    def __len__(self) -> int:
        return len(self.cookies)

    def __iter__(self) -> Iterator[int]:
        return iter(self.by_cookie)

    def __getitem__(self, cookie: int) -> Kind_co:
        return self.by_cookie[cookie]

    @functools.cached_property
    def by_cookie(self) -> dict[int, Kind_co]:
        """The same as objects."""
        its = map(self.kinds.__getitem__, self.numbers.tolist())
        return dict(zip(self.cookies.tolist(), its, strict=True))

    def part(self, rows: Any) -> Shared[Kind_co]:
        """Return the entries in these rows, which are numbers, a mask or a slice."""
        return Shared(self.cookies[rows], self.numbers[rows], self.kinds)

    def numbers_of(self, cookies: Column) -> Column:
        """Return the number of each of these sockets, NONE where there is no entry of it."""
        if not len(self):
            return np.full(len(cookies), NONE)
        place, found = find(self.cookies, cookies)
        return np.where(found, self.numbers[place].astype(np.int64), NONE)


def shared(entries: Mapping[int, Kind_co]) -> Shared[Kind_co]:
    """Return the same entries as columns. Most sockets share one object: to compare what these hold takes longer."""
    if isinstance(entries, Shared):
        return entries
    kinds = dict(zip(map(id, entries.values()), entries.values(), strict=True))
    number = {one: number for number, one in enumerate(kinds)}.__getitem__
    numbers = np.fromiter(map(number, map(id, entries.values())), np.intp, len(entries))
    return Shared(cookies_of(entries), numbers, list(kinds.values()))


def cookies_of(cookies: Collection[int] | Column) -> Column:
    """Return these cookies as a column."""
    if isinstance(cookies, np.ndarray):
        return cookies
    return cookies.cookies if isinstance(cookies, Shared) else np.fromiter(cookies, np.uint64, len(cookies))


def are_among(cookies: Column, others: Collection[int] | Column) -> Bools:
    """Return which of these cookies are among the others."""
    return np.isin(cookies, cookies_of(others)) if len(others) else np.zeros(len(cookies), np.bool_)


def are_armed(cookies: Column, entries: Mapping[int, Entry]) -> Bools:
    """Return which of these sockets are armed by their entries."""
    known = shared(entries)
    armed: Bools = np.array([*(isinstance(kind, Armed) for kind in known.kinds), False])[known.numbers_of(cookies)]
    return armed  # NONE is the number of the last one


def with_entry(entries: Mapping[int, Entry], entry: Entry) -> Column:
    """Return the cookies of the sockets that have this entry."""
    known = shared(entries)
    cookies: Column = known.cookies[np.array([kind is entry for kind in known.kinds], np.bool_)[known.numbers]]
    return cookies
