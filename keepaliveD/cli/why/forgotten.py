"""Connections that a path forgot, by the daemon's history, and what they say of those that are there now.

What ended at one peer changes no timeout by itself: it is said, and `why --fix` writes it for whoever wants that.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import math
import time
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.log import history
from keepaliveD.log.history import Record
from keepaliveD.model import duration
from keepaliveD.model.causes import Cause
from keepaliveD.model.connections import Connection
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.errors import NotPermitted, StateError, Unsupported
from keepaliveD.model.origin import Source
from keepaliveD.records.history import History

CAUSES = (Cause.MIDDLEBOX_IDLE.key, Cause.SILENT_AFTER_IDLE.key)
SINCE = 7 * 86400.0  # seconds: as far back as keepalivectl deaths looks
NEWEST = 200  # entries that are read of a journal: 0.1 to 0.2 ms each
MOST_LOOKED_FOR = 32  # peers and units: more take the journal longer than their entries do
KEY = "timeout"
SAME = 0.1  # seconds: the history rounds


class Gone(NamedTuple):
    """Connections that ended alike: one, or those of a summary, whose `peer` is "". Times are seconds, NaN not known.

    `netns` is the inode of its network namespace and `uid` its user, "" where not known. `is_part` says that there may
    be older ones, which were not read.
    `timeout` is what was assumed of the path then. `supported` is the line of configuration with the timeout that the
    end supports, where it came earlier; else "".
    """

    when: float
    number: int
    unit: str
    peer: str
    silence: float
    timeout: float
    supported: str
    netns: str
    uid: str
    is_part: bool = False


class HelpfulPath(NamedTuple):
    """A [[path]] for one peer: its name, its network, and the line with its timeout."""

    name: str
    network: str
    timeout: str

    @property
    def seconds(self) -> float:
        """Return its idle timeout."""
        return _timeout(self.timeout)

    @property
    def lines(self) -> list[str]:
        """The path as configuration."""
        return ["[[path]]", f"name = {json.dumps(self.name)}", f'networks = ["{self.network}"]', self.timeout]


class Forgotten:
    """What the history has, the newest first; `hidden` is why there may be more."""

    def __init__(self, gone: Iterable[Gone] = (), hidden: str = "") -> None:
        self.hidden = hidden
        self._by_peer: dict[str, tuple[Gone, ...]] = {}
        self._by_unit: dict[str, tuple[Gone, ...]] = {}
        for each in gone:
            self._by_peer[each.peer] = (*self._by_peer.get(each.peer, ()), each)
            self._by_unit[each.unit] = (*self._by_unit.get(each.unit, ()), each)

    def with_peer(self, one: Connection) -> tuple[Gone, ...]:
        """Return those that had the same peer, of the same user in the same network namespace.

        Anybody gives that address to a host of his own in a namespace of his own, and makes sockets that hear nothing.
        """
        whose = (str(one.netns), str(one.uid))
        return tuple(gone for gone in self._by_peer.get(one.remote.address, ()) if (gone.netns, gone.uid) == whose)

    def of_unit(self, one: Connection) -> tuple[Gone, ...]:
        """Return those of the same unit that had other peers, or of which the peer is not known."""
        of_unit = self._by_unit.get(one.owner.unit, ()) if one.owner.unit else ()
        return tuple(gone for gone in of_unit if gone.peer != one.remote.address)

    def against(self, one: Connection) -> tuple[Gone, ...]:
        """Return those that ended earlier than the path of a connection would forget it.

        Against what somebody has written down, only those count that ended under the same timeout: what was written
        since may be their remedy.
        """
        is_presumed = one.origin.guessed or one.origin.source is Source.EVIDENCE
        return tuple(
            gone
            for gone in self.with_peer(one)
            if gone.silence < one.timeout and (is_presumed or abs(gone.timeout - one.timeout) <= SAME)
        )

    def supporting(self, one: Connection) -> tuple[Gone, ...]:
        """Return those that support a shorter timeout for the peer of a connection, where nobody has written one down.

        Evidence may have shortened the guess below their silence already; what is armed keeps to the guess.
        """
        if one.origin.source is Source.EVIDENCE:
            return self.with_peer(one)
        return self.against(one) if one.origin.guessed else ()


NOTHING = Forgotten()


def known(state: Path, connections: Sequence[Connection], read: history.Reader | None = None) -> Forgotten:
    """Return what the journal, or else the history in the state directory, has of the last week about these peers.

    And about the units of these connections. Of a long journal only the newest are read.
    """
    read = read or functools.partial(history.journal, causes=CAUSES, about=_about(connections), newest=NEWEST)
    of_journal: list[Mapping[str, Any]] = []

    def newest(since: float) -> history.Entries:
        of_journal.extend(read(since))
        return of_journal

    try:
        records, hidden = history.ended(time.time() - SINCE, newest, History(state))
    except Unsupported:
        return NOTHING  # no daemon has kept any
    except (NotPermitted, StateError) as refusal:
        return Forgotten((), str(refusal))
    is_part = len(of_journal) >= NEWEST
    return Forgotten((_gone(record, is_part=is_part) for record in records if record["CAUSE"] in CAUSES), hidden)


def _about(connections: Sequence[Connection]) -> Sequence[Mapping[str, Collection[str]]]:
    """Return the fields of which an entry must have one; where these are too many to be looked for, anything."""
    peers = {one.remote.address for one in connections}
    units = {one.owner.unit for one in connections} - {""}
    if len(peers) + len(units) > MOST_LOOKED_FOR:
        return history.ANYTHING
    return [{"KEEPALIVE_REMOTE_ADDRESS": peers}, *([{"KEEPALIVE_UNIT": units}] if units else [])]


def _gone(record: Record, *, is_part: bool) -> Gone:
    return Gone(
        record.when,
        record.count,
        record["UNIT"],
        record["REMOTE_ADDRESS"],
        _number(record["SILENCE_SEC"]),
        _number(record["TIMEOUT_SEC"]),
        _supported(record["REMEDY"].splitlines()),
        record["NETNS"],
        record["UID"],
        is_part,
    )


def _number(text: str) -> float:
    """Return a time, NaN where a damaged entry has none."""
    with contextlib.suppress(ValueError):
        return seconds if 0 <= (seconds := float(text)) < FOREVER else math.nan
    return math.nan


def _supported(remedy: Sequence[str]) -> str:
    """Return the line with a timeout, if there is one and it is whole."""
    return next((line for line in remedy if not math.isnan(_timeout(line))), "")


def _timeout(line: str) -> float:
    """Return the timeout of a line of configuration; NaN where it has none."""
    with contextlib.suppress(ValueError, RecursionError):  # also what is no TOML
        if list(found := tomllib.loads(line)) == [KEY]:
            return duration.parse(found[KEY])
    return math.nan


def shortest(gone: Iterable[Gone]) -> str:
    """Return the line with the shortest timeout that these ends support; "" where they support none."""
    return min((each.supported for each in gone if each.supported), key=_timeout, default="")


def helpful_path(one: Connection, ended: Forgotten) -> HelpfulPath | None:
    """Return the [[path]] that ends of connections support for the peer of this one, if they do."""
    line = shortest(ended.supporting(one))
    if not line:
        return None
    address = one.remote.address
    return HelpfulPath(f"to {address}", str(ipaddress.ip_network(address.partition("%")[0])), line)


def count(gone: Iterable[Gone]) -> int:
    """Return how many connections these are."""
    return sum(each.number for each in gone)


def counted(gone: Sequence[Gone]) -> str:
    """Return how many connections these are, in words, as far as they were read."""
    return f"at least {count(gone)}" if any(each.is_part for each in gone) else str(count(gone))


def after(gone: Iterable[Gone]) -> str:
    """Return after which silence these ended."""
    silences = [each.silence for each in gone if not math.isnan(each.silence)]
    if not silences:
        return "in silence"
    least, most = span(min(silences)), span(max(silences))
    return f"after {least if least == most else f'{least} to {most}'} without a packet"


def ended_to(one: Connection, gone: Sequence[Gone]) -> str:
    """Return how many connections to the peer of this one ended, and after which silence."""
    return f"{counted(gone)} connection{'s' * (count(gone) != 1)} to {one.remote.address} died {after(gone)}"
