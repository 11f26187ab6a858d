"""Decide what to do with many sockets, given their settings: equal cases are grouped, and decided once.

Every armer uses this, so does a dry run, and both arming and disarming.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.arming import CHANGE, RESULT, TARGET, Access
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.keepalive import Found, Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult, Entry
from keepaliveD.model.rules import Wish
from keepaliveD.model.sockets import Column, Indices
from keepaliveD.policy.arming.shared import NONE, Shared, are_among, shared
from keepaliveD.policy.arming.socket_settings import Wanted, as_before, decide_arming, decide_disarming
from keepaliveD.policy.verdicts.connections import column, part

RESULTS = {access.value: ArmingResult[access.name] for access in Access if access is not Access.DONE}

FEW = 4  # kinds of sockets


class Recorded(NamedTuple):
    """The recorded entries, by cookie; which of these sockets this very process has armed; and the turn of the look."""

    entries: Mapping[int, Entry]
    armed_here: Collection[int] = ()
    turn: int = 0

    def armed(self, cookie: int) -> Armed | None:
        """Return how the socket was armed, or None if it is not armed."""
        entry = self.entries.get(cookie)
        return entry if isinstance(entry, Armed) else None


class Orders(NamedTuple):
    """The sockets to arm, each by the one of these wishes with its number."""

    connections: Sequence[Connection]
    wishes: Sequence[Wish]
    wish_of: Column

    def part(self, start: int | None, end: int | None = None) -> Orders:
        """Return the orders from `start` to `end`."""
        return Orders(self.connections[start:end], self.wishes, self.wish_of[start:end])


class Choice(NamedTuple):
    """The rows of sockets with equal requests and equal settings, and what to do with them."""

    rows: Indices
    stands: SocketKeepalive | None  # None if the sockets were not reached
    choice: Armed | ArmingResult


@dataclass(frozen=True, slots=True)
class Choices:
    """What to do with each of these sockets."""

    connections: Sequence[Connection]
    targets: Column
    looked: Column
    alike: Sequence[Choice]

    def left_alone(self) -> list[Arming]:
        """Return the results of the sockets that are not set."""
        return [
            Arming(self._of(rows), choice, stands, stands)
            for rows, stands, choice in self.alike
            if isinstance(choice, ArmingResult)
        ]

    def foretold(self) -> list[Arming]:
        """Return the results that setting the others would have, for a dry run."""
        return [
            Arming(self._of(rows), ArmingResult.WOULD_BE_ARMED, stands, armed.after)
            for rows, stands, armed in self._set()
        ]

    def to_set(self) -> Shared[Armed]:
        """Return by cookie how the others are to be set."""
        alike = list(self._set())
        rows = np.concatenate([np.zeros(0, np.intp), *(rows for rows, _, _ in alike)])
        numbers = np.repeat(np.arange(len(alike)), [len(rows) for rows, _, _ in alike])
        return Shared(self.targets["cookie"][rows], numbers, [armed for _, _, armed in alike])

    def changes(self, without: Collection[int] = ()) -> tuple[Indices, Column]:
        """Return the rows of the sockets to set, and the changes; `without` those with one of these cookies."""
        chosen = np.zeros(len(self.connections), np.bool_)
        changes = np.zeros(len(self.connections), CHANGE)
        for rows, _, armed in self._set():
            chosen[rows] = True
            changes["after"][rows] = *armed.after.times, armed.after.on
        chosen &= ~are_among(self.targets["cookie"], without)
        for name in TARGET.names or ():
            changes[name] = self.targets[name]
        changes["expected"], changes["inherited"] = self.looked["stands"], self.looked["inherited"]
        return np.flatnonzero(chosen), changes[chosen]

    def results(self, rows: Indices, results: Column, success: ArmingResult) -> list[Arming]:
        """Return the results of the sockets in these rows."""
        row_of = np.full(len(self.connections), -1)
        row_of[rows] = np.arange(len(rows))
        armings: list[Arming] = []
        for these, stood, armed in self._set():
            its = these[row_of[these] >= 0]
            done = results["access"][row_of[its]] == Access.DONE.value
            if done.any():
                armings.append(Arming(self._of(its[done]), success, stood, armed.after))
            rest = its[~done]
            for alike in _equal([], results[row_of[rest]]) if len(rest) else ():
                result = results[row_of[rest[alike[0]]]]
                stands = keepalive(result["stands"])
                armings.append(Arming(self._of(rest[alike]), RESULTS[int(result["access"])], stood, stands))
        return armings

    def _set(self) -> Iterable[tuple[Indices, SocketKeepalive | None, Armed]]:
        return [(rows, stands, choice) for rows, stands, choice in self.alike if isinstance(choice, Armed)]

    def _of(self, rows: Indices) -> Sequence[Connection]:
        return part(self.connections, rows)


def what_became(changes: Column, looked: Column) -> Column:
    """Return the results of changes that nobody has reported, by what stands in the sockets now.

    Of the options, which are set one after the other, a part may be set: that has failed, and is ours.
    """
    results = np.zeros(len(changes), RESULT)
    results["access"], results["stands"] = looked["access"], looked["stands"]
    reached = looked["access"] == Access.DONE.value
    are_set, are_not = looked["stands"] == changes["after"], looked["stands"] == changes["expected"]
    as_wanted, ours = are_set.all(axis=1), (are_set | are_not).all(axis=1)
    results["access"][reached & ~as_wanted] = Access.CHANGED_MEANWHILE.value
    results["access"][reached & ~as_wanted & ours] = Access.FAILED.value
    return results


def targets(connections: Sequence[Connection]) -> Column:
    """Return what an armer needs to find these sockets."""
    found = np.empty(len(connections), TARGET)
    for name in TARGET.names or ():
        found[name] = column(connections, name)
    return found


def how_to_arm(orders: Orders, targets: Column, looked: Column, known: Recorded, *, by_hand: bool) -> Choices:
    """Decide how to arm each socket that was read, which are the first ones, or why it is left alone."""
    connections, wishes, wish_of = orders.part(None, len(looked))
    cookies = targets["cookie"][: len(looked)]
    here, entries = are_among(cookies, known.armed_here), shared(known.entries)
    number = entries.numbers_of(cookies)
    certain = column(connections, "confirmed") | (column(connections, "verdict") != Verdict.CUT.value)
    keys = [
        wish_of,
        number,
        column(connections, "verdict"),
        certain,
        column(connections, "timeout").view(np.int64),
        here.astype(np.int64),
    ]

    def decide(row: int, found: Found) -> Armed | ArmingResult:
        one, entry = connections[row], entries.kinds[number[row]] if number[row] != NONE else None
        armed = entry if isinstance(entry, Armed) else None
        again = bool(here[row])
        wanted = Wanted(wishes[wish_of[row]], one.timeout, one.verdict, armed, by_hand, again, one.confirmed)
        return decide_arming(as_before(found, entry), wanted)

    return _choices(connections, targets, looked, keys, decide)


def how_to_disarm(
    connections: Sequence[Connection], targets: Column, looked: Column, armed: Mapping[int, Armed]
) -> Choices:
    """Decide what to put back in each socket that was read, which are the first ones, or why it is left alone."""
    connections, entries = connections[: len(looked)], shared(armed)
    number = entries.numbers_of(targets["cookie"][: len(looked)])

    def decide(row: int, found: Found) -> Armed | ArmingResult:
        back = decide_disarming(found, entries.kinds[number[row]])
        return back if isinstance(back, ArmingResult) else Armed(found.stands, back)

    return _choices(connections, targets, looked, [number], decide)


def keepalive(numbers: Column) -> SocketKeepalive:
    """Return the settings that these four numbers are."""
    idle, interval, probes, on = numbers.tolist()
    return SocketKeepalive(bool(on), Keepalive(idle, interval, probes))


def _choices(
    connections: Sequence[Connection],
    targets: Column,
    looked: Column,
    keys: Sequence[Column],
    decide: Callable[[int, Found], Armed | ArmingResult],
) -> Choices:
    alike = []
    for rows in _equal(keys, looked):
        row, found = int(rows[0]), looked[rows[0]]
        if found["access"]:
            alike.append(Choice(rows, None, RESULTS[int(found["access"])]))
        else:
            its = read_from(found)
            alike.append(Choice(rows, its.stands, decide(row, its)))
    return Choices(connections, targets[: len(looked)], looked, alike)


def _equal(keys: Sequence[Column], looked: Column) -> Iterator[Indices]:
    """Yield the rows of each group of sockets with equal keys and equal settings.

    Most sockets are of a few kinds, which are found one after the other in all rows at once; the rest one by one.
    """
    settings = looked.view(np.int32).reshape(len(looked), -1)
    rows = np.arange(len(looked))
    for _ in range(FEW):
        if not len(rows):
            return
        equal = (settings[rows] == settings[rows[0]]).all(axis=1)
        for key in keys:
            equal &= key[rows] == key[rows[0]]
        yield rows[equal]
        rows = rows[~equal]
    kinds = np.column_stack([*(key[rows] for key in keys), settings[rows]])
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, kind in zip(rows.tolist(), kinds, strict=True):
        rows_of[kind.tobytes()].append(row)
    yield from map(np.array, rows_of.values())


def read_from(looked: Column) -> Found:
    """Return what an armer has read of one socket (a row of LOOKED)."""
    system = keepalive(looked["system"])
    return Found(
        keepalive(looked["stands"]),
        Own(int(looked["inherited"])),
        system.times if system.on else None,
        int(looked["user_timeout"]),
        int(looked["unanswered"]),
    )
