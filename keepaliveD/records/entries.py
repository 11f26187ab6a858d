"""What is recorded of many sockets, as columns: 22 octets a socket, where objects would take more than a hundred."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

import numpy as np

from keepaliveD.model.results import Armed, Entry, Mark
from keepaliveD.model.sockets import Bools, Column, Sockets
from keepaliveD.policy.arming.shared import Shared, cookies_of, shared

ROW = np.dtype(
    [
        ("cookie", "u8"),
        ("entry", "u4"),  # its number: most sockets share a few
        ("turn", "u4"),  # of its last change
        ("netns", "u4"),  # its network namespace, OWN if not known: the file does not name it
        ("here", "?"),  # whether this process has armed the socket ...
        ("first", "?"),  # ... and nobody before it
    ]
)
NOTHING, LEFT_ALONE = range(2)  # numbers; those above are of sockets that are armed, or were until a daemon ended


class Whose(enum.Enum):
    """Who armed the sockets that are recorded."""

    OURS = "this process"
    EARLIER = "a program of ours, at connect"
    OTHERS = "whoever had recorded it before: it is put back"


class Entries:
    """The entry of each socket. Whatever changes at once is a turn, so that it is known what has changed since.

    A socket without an entry has one that says so (NOT_ARMED), if it had another one before.
    """

    def __init__(self) -> None:
        self.turn = 0
        self.rows: Column = np.empty(0, ROW)  # in the order of their cookies
        self._located = 0  # the turn of the last look for network namespaces
        self._forget_numbers()

    def of(self, cookies: Collection[int]) -> Column:
        """Return the rows of these sockets, in this order."""
        wanted = cookies_of(cookies)
        rows = np.zeros(len(wanted), ROW)
        known, places = _find(self.rows["cookie"], wanted)
        rows[known], rows["cookie"] = self.rows[places[known]], wanted
        return rows

    def changed(self, cookies: Collection[int], since: int) -> Column:
        """Return the rows of those of these sockets that have changed since that turn."""
        rows = self.of(cookies)
        return rows[rows["turn"] > since]

    def by_cookie(self, rows: Column) -> Shared[Entry]:
        """Return the entries in these rows."""
        return Shared(rows["cookie"], rows["entry"], self._entries)

    def all(self) -> Shared[Entry]:
        """Return all entries."""
        return self.by_cookie(self.rows[self.rows["entry"] != NOTHING])

    def are(self, kind: type[Entry], numbers: Column) -> Bools:
        """Return which of these numbers are of entries of this kind."""
        of_kind: Bools = np.array([isinstance(one, kind) for one in self._entries])[numbers]
        return of_kind

    def put(self, new: Mapping[int, Entry], whose: Whose | None = None) -> None:
        """Put these entries in place of those before. Without `whose` they were read from the file."""
        rows = self.of(new)
        entry = self._numbers_of(new)
        before, armed = self.are(Armed, rows["entry"]), self.are(Armed, entry)
        if whose is not None:
            stays = (entry != NOTHING) & (whose is not Whose.OTHERS)
            rows["here"] = stays & (rows["here"] | armed)
            rows["first"] = stays & (rows["first"] | (armed & ~before & (whose is Whose.OURS)))
        self.turn += 1
        rows["entry"], rows["turn"] = entry, self.turn
        rows = rows[np.argsort(rows["cookie"])]  # to sort the rows themselves takes five times as long
        known, places = _find(self.rows["cookie"], rows["cookie"])
        self.rows[places[known]] = rows[known]
        self.rows = np.insert(self.rows, places[~known], rows[~known])

    def locate(self, sockets: Sockets) -> None:
        """Learn the network namespaces of what has changed since the last time, as far as it is among these sockets."""
        if self._located == self.turn:
            return
        new = np.flatnonzero(self.rows["turn"] > self._located)
        self._located = self.turn
        known, places = _find(self.rows["cookie"][new], sockets["cookie"])
        self.rows["netns"][new[places[known]]] = sockets["netns"][known]

    def take_back(self) -> None:
        """Take back all entries, which are about to be read anew."""
        self.keep(self.rows["entry"] != NOTHING)
        self.turn += 1
        self.rows["entry"], self.rows["turn"] = NOTHING, self.turn
        self._forget_numbers()

    def keep(self, these: Bools) -> None:
        """Forget all rows but these, and the entries that none of them has."""
        self.rows = self.rows[these]
        used = np.union1d((NOTHING, LEFT_ALONE), self.rows["entry"])
        self.rows["entry"] = np.searchsorted(used, self.rows["entry"])
        self._number([self._entries[number] for number in used.tolist()])

    def _numbers_of(self, entries: Mapping[int, Entry]) -> Column:
        """Return their numbers."""
        new = shared(entries)
        used = np.unique(new.numbers)
        ours = np.zeros(len(new.kinds), np.uint32)
        for number in used.tolist():
            each = new.kinds[number]
            if self._numbers.setdefault(each, len(self._entries)) == len(self._entries):
                self._entries.append(each)
            ours[number] = self._numbers[each]
        return ours[new.numbers]

    def _forget_numbers(self) -> None:
        self._number([Mark.NOT_ARMED, Mark.LEFT_ALONE])

    def _number(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._numbers = {entry: number for number, entry in enumerate(entries)}


def _find(among: Column, cookies: Column) -> tuple[Bools, Column]:
    """Return whether each of these cookies is among the others, and its place there, or where it is to be put.

    The others are in order.
    """
    places = np.searchsorted(among, cookies)
    known = np.zeros(len(cookies), np.bool_)
    within = places < len(among)
    known[within] = among[places[within]] == cookies[within]
    return known, places
