"""The autopsy: ended connections and the time go in, what to report of them comes out.

Many that ended alike are one report.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keepaliveD.model.autopsy import Alike, Common, Death, Tally
from keepaliveD.model.causes import Cause, Foretold
from keepaliveD.model.connections import Owner, grouping_unit
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.rules import ArmRule, IPNetwork, Path
from keepaliveD.model.sockets import OWN, Bools, Column, Indices
from keepaliveD.policy.autopsy.facts import is_ordinary
from keepaliveD.policy.autopsy.hindsight import NOTHING, Examined, Key, Remembered, Whose, examine, remember
from keepaliveD.policy.autopsy.saves import Saves
from keepaliveD.policy.autopsy.silences import Silences
from keepaliveD.policy.timeouts.advice import Advisor, are_evidence
from keepaliveD.policy.verdicts.activity import Activity, find
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.policy.verdicts.paths import ignored

AT_ONCE = 5  # of connections that ended alike, reported one by one; more are reported in summaries
SINGLES = 30  # connections reported one by one in a minute, of all kinds: each makes somebody look for its owner
SINGLES_OF_UNIT = 10  # ... and of one unit, or of one user without a unit, so that one cannot hide the others ...
SINGLES_OF_USERS = 20  # ... and of all users without a unit: one may have user ids without end
FIRST_PAUSE = 60.0  # seconds between two reports of connections that ended alike, at first ...
LONGEST_PAUSE = 3600.0  # ... and at most
MOST_KINDS = 512  # of ends that are kept apart; then only causes are
KINDS_OF_UNIT = 32  # ... and of one unit, or of one user without a unit; then only its causes are
KINDS_OF_USERS = 256  # ... and of all users without a unit
OF_UNIT = 2  # parts of the key of ends that only have their cause and their unit, or user, in common
ALL, USERS = "*", ""  # under what is counted: all ends, those of all users without a unit
KEPT = 5.0  # seconds for which a connection that is gone is remembered: it is examined a second after its end
MOST_UNITS = 1024  # units that are counted apart
MOST_OWNERS = 1024  # connections whose process is remembered
MOST_MEASURING = 16_384  # connections that are known to measure a path
MOST_CGROUPS = 4096  # whose unit is remembered: a cgroup may be gone when a connection of it has ended


@dataclass(frozen=True, slots=True)
class AutopsyRules:
    """Which ends are reported: those with one of `causes` that belong to one of `units` and `users`. All are counted.

    `units` are patterns as in Python's fnmatch. Without any, those of all units are reported; likewise of all users.
    """

    causes: frozenset[Cause]
    paths: Sequence[Path]
    ignore: Sequence[IPNetwork]
    arm: Sequence[ArmRule] = ()
    products: Sequence[float] = ()  # usual idle timeouts
    units: Sequence[str] = ()
    users: Sequence[int] = ()


@dataclass(slots=True)
class _Kind:
    """Ends that are alike: when they were last reported, and what was not reported since."""

    common: Common
    since: float
    pause: float = FIRST_PAUSE
    said: int = 0
    held: int = 0
    example: Death | None = None  # of those held

    def hold(self, examined: Examined, rows: Indices) -> None:
        """Hold these back, and keep one of them."""
        row = examined.least_sure(rows)
        if self.example is None or examined.confidence(row) < self.example.confidence:
            self.example = examined.death(row)
        self.held += len(rows)

    def report(self, now: float) -> Iterator[Alike]:
        """Yield the report of those held back, if there are any, and hold none."""
        if self.example is not None:
            yield Alike(self.held, (self.example,), now - self.since, self.common)
        self.held, self.example = 0, None


class Autopsy:
    """Examines ends against what the scans knew: the last one, and of connections that are gone since, for a while."""

    def __init__(self, rules: AutopsyRules) -> None:
        self.tally = Tally()
        self._saves = Saves()
        self._silences = Silences()
        self.advisor = Advisor(rules.paths, rules.products)
        self._units: dict[int, str] = {}  # by cgroup
        self._owners: dict[int, Owner] = {}  # by cookie
        self._counted: set[str] = set()  # units
        self._unnamed: set[int] = set()  # cgroups whose unit is not known yet
        self._scan = NOTHING
        self._netns = OWN
        self._gone: tuple[tuple[float, Remembered], ...] = ()  # what was known of these, and until when to keep it
        self._kinds: dict[Key, _Kind] = {}
        self._measuring: dict[int, None] = {}  # cookies, in the order in which they came
        self._kinds_of: Counter[Whose] = Counter()  # how many there are of each unit or user, and of USERS
        self._singles: Counter[Whose] = Counter()  # likewise, and of ALL, what was reported one by one ...
        self._singles_since = -FOREVER  # ... since this instant
        self.follow(rules)

    def follow(self, rules: AutopsyRules) -> None:
        """Apply other rules from now on."""
        self._rules = rules
        self.advisor.follow(rules.paths, rules.products)

    def remember(self, judgement: Judgement, memory: Activity) -> None:
        """Keep what a scan has found, and count the silences that armed connections have survived."""
        self._keep_what_is_gone(remember(memory, judgement.table), judgement.table.taken_at)
        self._netns, sockets = judgement.table.netns, judgement.table.sockets
        counted = are_evidence(sockets, self._netns)
        counted &= ~self._measured(sockets["cookie"])
        self.advisor.scanned(memory, judgement.assigned.index, counted, sockets)
        rows = self._saves.observe(judgement.to_arm_by, self._rules.arm)
        rows = rows[~self._measured(sockets["cookie"][rows])]
        for path, cgroup, count in _counts(judgement.assigned.index[rows], sockets["cgroup"][rows]):
            self.tally.saved[self._rules.paths[path].name, self._unit(cgroup)] += count

    def _keep_what_is_gone(self, scan: Remembered, now: float) -> None:
        """Take in a scan, and keep what was known of sockets that it does not show any more."""
        before, self._scan = self._scan, scan
        _, still_there = find(scan.cookie, before.cookie)
        kept = tuple(each for each in self._gone if each[0] > now)
        if not still_there.all():
            kept = (*kept, (now + KEPT, before.select(~still_there)))
        self._gone = kept
        _, seen = find(before.cookie, scan.cookie)
        if not seen.all():
            self._unnamed |= set(np.unique(scan.cgroup[~seen]).tolist()) - self._units.keys() - {0}

    def count_apart(self, cookies: Iterable[int]) -> None:
        """Learn which connections measure a path: their ends are counted apart, and not reported."""
        self._measuring |= dict.fromkeys(cookies)
        _forget_oldest(self._measuring, MOST_MEASURING)

    def unnamed(self) -> tuple[int, ...]:
        """Return the cgroups of sockets that are new, and whose unit is not known yet."""
        return tuple(sorted(self._unnamed))

    def name(self, units: Mapping[int, str]) -> None:
        """Learn the units of cgroups; of too many, the oldest of the units that have the most are forgotten."""
        self._unnamed -= units.keys()
        self._units |= units
        _forget_of_largest(self._units, MOST_CGROUPS)

    def learn_owners(self, owners: Mapping[int, Owner]) -> None:
        """Learn who holds connections, by cookie: once one has ended, its program may have closed it already."""
        self._owners |= {cookie: owner for cookie, owner in owners.items() if owner.pid}
        _forget_oldest(self._owners, MOST_OWNERS)

    @property
    def units(self) -> Mapping[int, str]:
        """Return the units that are known, by cgroup."""
        return self._units

    def _unit(self, cgroup: int) -> str:
        """Return the unit under which to count, "" where there is none or there are too many."""
        unit = grouping_unit(self._units.get(cgroup, ""))
        if unit not in self._counted and len(self._counted) >= MOST_UNITS:
            return ""
        self._counted.add(unit)
        return unit

    def observe(self, deaths: Deaths, now: float) -> tuple[Alike, ...]:
        """Examine these ends; return what to report at once."""
        ended, left_out = deaths.ended, ignored(deaths.ended, self._rules.ignore)
        if left_out.any():
            ended = ended[~left_out]
        ordinary = is_ordinary(ended)
        ended = ended[~ordinary]
        self.tally.ordinary += deaths.ordinary + int(ordinary.sum())
        self.tally.lost += deaths.lost
        if not len(ended):
            return ()
        scans = (self._scan, *(known for _, known in self._gone))
        with_evidence = self.advisor.with_evidence(self._rules.paths)
        seen = (ended, scans, self._rules.paths, self._units, deaths.unknown)
        examined = examine(*seen, owners=self._owners, with_evidence=with_evidence, silences=self._silences)
        others = ~self._measured(examined.ended["cookie"])
        self._silences.learn(examined.ended[others], examined.causes.cause[others])
        self._forget_measured(ended["cookie"][~others])
        self._count(examined, others)
        counted = others & are_evidence(examined.ended, self._netns)
        self.advisor.died(ended, examined.path, examined.causes.cause, counted)
        wanted = others & np.isin(examined.causes.cause, [int(cause) for cause in self._rules.causes])
        wanted &= self._is_of_users(examined.ended) & self._is_of_units(examined.ended)
        return tuple(filter(None, (self._report(examined, rows, now) for rows in _alike(examined, wanted))))

    def _measured(self, cookies: Column) -> Bools:
        """Return which of these are of connections that measure a path."""
        if not self._measuring:
            return np.zeros(len(cookies), np.bool_)
        measured: Bools = np.isin(cookies, np.array(list(self._measuring), np.uint64))
        return measured

    def _forget_measured(self, cookies: Column) -> None:
        """Forget connections that have measured a path: a cookie ends once."""
        for cookie in cookies.tolist():
            self._measuring.pop(cookie, None)

    def _is_of_users(self, ended: Column) -> Bools:
        """Return which ends are of the users whose ends are reported."""
        users = self._rules.users
        return np.isin(ended["uid"], users) if users else np.ones(len(ended), np.bool_)

    def _is_of_units(self, ended: Column) -> Bools:
        """Return which ends are of the units whose ends are reported, or of a unit that is not known yet.

        The unit of a cgroup is asked for with the next scan.
        """
        if not self._rules.units:
            return np.ones(len(ended), np.bool_)
        cgroups, which = np.unique(ended["cgroup"], return_inverse=True)
        unknown = [cgroup for cgroup in cgroups.tolist() if cgroup and cgroup not in self._units]
        self._unnamed.update(unknown[: max(0, MOST_CGROUPS - len(self._unnamed))])
        meant: Bools = np.array([self._may_be_meant(cgroup) for cgroup in cgroups.tolist()], np.bool_)[which]
        return meant

    def _may_be_meant(self, cgroup: int) -> bool:
        unit = self._units.get(cgroup)
        return unit is None or any(fnmatch.fnmatchcase(unit, pattern) for pattern in self._rules.units)

    def due(self, now: float) -> tuple[Alike, ...]:
        """Return what has been held back, if it is time to report it."""
        reports: list[Alike] = []
        for key, kind in list(self._kinds.items()):
            if now < kind.since + kind.pause:
                continue
            if not kind.held:
                self._forget(key)
                continue
            reports += kind.report(now)
            kind.since, kind.pause = now, min(2 * kind.pause, LONGEST_PAUSE)
        return tuple(reports)

    def held_back(self, now: float) -> tuple[Alike, ...]:
        """Return all that has been held back, because nobody will report it later."""
        return tuple(report for kind in self._kinds.values() for report in kind.report(now))

    @property
    def next_due(self) -> float:
        """Return the instant at which something that was held back is to be reported."""
        return min((kind.since + kind.pause for kind in self._kinds.values() if kind.held), default=FOREVER)

    def _count(self, examined: Examined, rows: Bools) -> None:
        self.tally.measured += int((~rows).sum())
        causes, foretold = examined.causes.cause[rows], examined.foretold[rows]
        for cause, told, count in _counts(causes, foretold):
            self.tally.by_cause[Cause(cause), Foretold(told)] += count
        for path, cgroup, told, count in _counts(examined.path[rows], examined.ended["cgroup"][rows], foretold):
            name = self._rules.paths[path].name
            self.tally.foretold[name, self._unit(cgroup), Foretold(told)] += count

    def _report(self, examined: Examined, rows: Indices, now: float) -> Alike | None:
        """Return the report of ends that are alike, or None where it is held back."""
        kind = self._kind(examined, int(rows[0]), now)
        if kind.said == 0 and len(rows) > AT_ONCE:
            kind.said = AT_ONCE
            common = Common.UNIT | _common(examined.key(int(rows[0])))  # they share a cgroup
            return Alike(len(rows), (examined.death(examined.least_sure(rows)),), common=common)
        if kind.said + len(rows) <= AT_ONCE and self._may_report_singly(examined.whose(int(rows[0])), len(rows), now):
            kind.said += len(rows)
            return Alike(len(rows), tuple(examined.death(row) for row in rows.tolist()))
        kind.hold(examined, rows)
        return None

    def _may_report_singly(self, whose: Whose, count: int, now: float) -> bool:
        """Return whether so many more of a unit or user may be reported one by one, and count them."""
        if now >= self._singles_since + FIRST_PAUSE:
            self._singles.clear()
            self._singles_since = now
        limits = {ALL: SINGLES, whose: SINGLES_OF_UNIT} | ({} if isinstance(whose, str) else {USERS: SINGLES_OF_USERS})
        may = all(self._singles[each] + count <= most for each, most in limits.items())
        if may:
            self._singles.update(dict.fromkeys(limits, count))
        return may

    def _kind(self, examined: Examined, row: int, now: float) -> _Kind:
        key = self._key(examined, row)
        kind = self._kinds.get(key)
        if kind is None:
            self._kinds_of.update(_counted_as(key))
        if kind is None or (not kind.held and now >= kind.since + kind.pause):
            kind = self._kinds[key] = _Kind(_common(key), now)
        return kind

    def _key(self, examined: Examined, row: int) -> Key:
        """Return by what to keep this end apart from others: by less where there are too many kinds."""
        key = examined.key(row)
        if key in self._kinds:
            return key
        cause, whose, *_ = key
        of_users = 0 if isinstance(whose, str) else self._kinds_of[USERS]
        if len(self._kinds) >= MOST_KINDS or of_users >= KINDS_OF_USERS:
            return cause, ""
        return (cause, whose) if self._kinds_of[whose] >= KINDS_OF_UNIT else key

    def _forget(self, key: Key) -> None:
        """Forget a kind of ends."""
        del self._kinds[key]
        for whose in _counted_as(key):
            self._kinds_of[whose] -= 1
            if not self._kinds_of[whose]:
                del self._kinds_of[whose]


def _counted_as(key: Key) -> tuple[Whose, ...]:
    """Return under what a kind with this key is counted; one that is there because of too many is not."""
    whose = key[1]
    if len(key) <= OF_UNIT:
        return ()
    return (whose,) if isinstance(whose, str) else (whose, USERS)


def _common(key: Key) -> Common:
    """Return what ends with this key have in common besides their cause."""
    whose = key[1]
    owner = Common.USER if isinstance(whose, int) else Common.UNIT if whose else Common.NOTHING
    return owner | (Common.PATH if len(key) > OF_UNIT else Common.NOTHING)


def _forget_oldest(known: dict[int, Any], most: int) -> None:
    for key in list(known)[: max(0, len(known) - most)]:
        del known[key]


def _forget_of_largest(units: dict[int, str], most: int) -> None:
    """Forget cgroups until there are no more than so many: who makes very many displaces none of anybody else's."""
    number_of, each = Counter(map(grouping_unit, units.values())), most
    while sum(min(number, each) for number in number_of.values()) > most:
        each //= 2
    for cgroup, unit in list(units.items()):
        if number_of[grouping_unit(unit)] > max(each, 1):
            number_of[grouping_unit(unit)] -= 1
            del units[cgroup]
    _forget_oldest(units, most)


def _counts(*columns: Column) -> list[tuple[int, ...]]:
    """Return each combination of values in the rows of these columns, with how often it occurs."""
    if not len(columns[0]):
        return []
    number, values = np.zeros(len(columns[0]), np.intp), []
    for column in columns:  # number each combination so far: rows are sorted as numbers, not as tuples
        found, which = np.unique(column, return_inverse=True)
        values.append(found.tolist())
        number = number * len(found) + which
    found, counts = np.unique(number, return_counts=True)
    places = np.unravel_index(found, [len(each) for each in values])
    parts = [[each[n] for n in place.tolist()] for each, place in zip(values, places, strict=True)]
    return list(zip(*parts, counts.tolist(), strict=True))


def _alike(examined: Examined, wanted: Bools) -> list[Indices]:
    """Return the rows that are wanted, in groups that ended alike."""
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    causes = examined.causes
    columns = (causes.hop, examined.foretold, examined.path, examined.users(), examined.ended["cgroup"], causes.cause)
    keys = [column[rows] for column in columns]
    order = np.lexsort(keys)
    starts = np.zeros(len(rows), np.bool_)
    starts[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return [np.sort(rows[part]) for part in np.split(order, np.flatnonzero(starts))]
