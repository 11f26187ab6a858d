"""One ended connection among the few that are logged or shown, and how many ended or were kept alive."""

from __future__ import annotations

import enum
import math
from collections import Counter
from dataclasses import field
from typing import NamedTuple

from keepaliveD.model.causes import Cause, Foretold
from keepaliveD.model.connections import Endpoint, Owner, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.origin import Origin

# How it begins if something of ends of connections cannot be seen; the reasons follow after ": ".
NOT_SEEN = "ends of connections are not seen"
NOT_EXPLAINED = "ends of connections are not fully explained"  # they are all seen


class Hindsight(NamedTuple):
    """What was last forecast of a connection that has ended. Times are seconds.

    `warned_before`: how long before the end it was reported at risk, NaN if it was not.
    `survived`: the longest silence that it was known to survive, 0 if none is known.
    """

    foretold: Foretold
    verdict: Verdict
    warned_before: float
    survived: float


@dataclass(frozen=True, slots=True)
class Death:
    """One ended connection. Times are seconds; NaN is not known.

    `others` are causes that one host cannot tell apart from `cause`. `silence` is the time without a packet before
    the first one that was lost, before the reset or before the FIN. `hop` is the middlebox's and `peer_hop` the
    peer's, 0 unknown. `closer` is who ended it on this host, as it calls itself.
    """

    cookie: int
    netns: int
    inode: int
    uid: int
    cgroup: int
    local: Endpoint
    remote: Endpoint
    cause: Cause
    confidence: float
    others: tuple[Cause, ...]
    hop: int
    peer_hop: int
    silence: float
    ended_at: float
    path: str
    timeout: float
    origin: Origin
    hindsight: Hindsight
    evidence: tuple[str, ...]
    signal: int = 0
    closer: str = ""
    closer_pid: int = 0
    owner: Owner = field(default_factory=Owner)
    only_data_counts: bool = False  # for its path: a probe refreshes nothing
    both_closed: bool = False  # before: what was lost, or reset, is the last word of a connection that was done with
    shortest: float = math.nan  # silence in which its path forgot one with the same peer, as far as that is known
    is_held: bool = False  # whether its program may still hold the socket: it was told an error


class Common(enum.Flag):
    """What connections that the same cause ended have in common besides: where too many kinds of ends came, less."""

    NOTHING = 0
    UNIT = 1
    USER = 4  # where there is no unit, or a login session
    PATH = 2  # and the hop of the middlebox, and whether they were foretold


@dataclass(frozen=True, slots=True)
class Alike:
    """Connections that the same cause ended: how many, and some of them.

    `seconds` is the time in which they ended, 0 if all were reported at once. Where these are not all of them, it is
    only what they have in `common` that the one example stands for; it is the one whose cause is the least sure.
    """

    count: int
    examples: tuple[Death, ...]
    seconds: float = 0.0
    common: Common = Common.UNIT | Common.PATH

    @property
    def is_summary(self) -> bool:
        """Whether there are more than the examples."""
        return self.count != len(self.examples)


@dataclass(slots=True)
class Tally:
    """How many connections ended since the start, and how many were kept alive.

    `foretold` and `saved` are by path and unit; a save is a silence of an armed connection that was longer than the
    idle timeout of its path.
    """

    by_cause: Counter[tuple[Cause, Foretold]] = field(default_factory=Counter)
    foretold: Counter[tuple[str, str, Foretold]] = field(default_factory=Counter)
    saved: Counter[tuple[str, str]] = field(default_factory=Counter)
    ordinary: int = 0
    measured: int = 0  # that ended otherwise, of connections that measure a path; no other number has them
    lost: int = 0  # of which nothing is known but that they ended

    def foretold_by(self, path: str | None = None, unit: str | None = None) -> Counter[Foretold]:
        """Return how many ends were foretold and how many not, of all or of one path or unit."""
        counts: Counter[Foretold] = Counter()
        for (on_path, of_unit, foretold), count in self.foretold.items():
            if path in (None, on_path) and unit in (None, of_unit):
                counts[foretold] += count
        return counts

    def saved_by(self, path: str | None = None, unit: str | None = None) -> int:
        """Return how many silences were survived, of all or of one path or unit."""
        return sum(
            count
            for (on_path, of_unit), count in self.saved.items()
            if path in (None, on_path) and unit in (None, of_unit)
        )

    def by_path(self) -> tuple[Counter[str], Counter[str]]:
        """Return how many connections of each path ended, and how many silences were survived."""
        ended, saved = Counter[str](), Counter[str]()
        for (path, _, _), count in self.foretold.items():
            ended[path] += count
        for (path, _), count in self.saved.items():
            saved[path] += count
        return ended, saved

    def by_path_and_unit(self) -> list[tuple[str, str, Counter[Foretold], int]]:
        """Return for each path and unit how many ends were foretold and how many not, and how many silences survived.

        The largest come first.
        """
        foretold: dict[tuple[str, str], Counter[Foretold]] = {where: Counter() for where in self.saved}
        for (path, unit, answer), count in self.foretold.items():
            foretold.setdefault((path, unit), Counter())[answer] += count
        rows = [(*where, counts, self.saved[where]) for where, counts in foretold.items()]
        return sorted(rows, key=lambda row: (-row[2].total() - row[3], row[:2]))
