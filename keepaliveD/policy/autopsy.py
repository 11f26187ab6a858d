"""The autopsy: ended connections and the time go in, what to report of them comes out.

Many that ended alike are one report. Each end is held against what was last forecast of the connection.
"""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keepaliveD.model.autopsy import Alike, Death, Hindsight, Tally
from keepaliveD.model.causes import Cause, Foretold
from keepaliveD.model.connections import AT_RISK, Owner, Verdict, WhatCounts
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.rules import ArmRule, IPNetwork, Path
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets, SocketTable, TcpState
from keepaliveD.policy.activity import Activity, find
from keepaliveD.policy.advice import Advisor
from keepaliveD.policy.connections import endpoints
from keepaliveD.policy.deaths import IDLE_AFTER, Findings, decide
from keepaliveD.policy.evidence import closer_name, evidence
from keepaliveD.policy.judge import Judgement
from keepaliveD.policy.paths import assign, ignored
from keepaliveD.policy.saves import Saves

AT_ONCE = 5  # of connections that ended alike, reported one by one; more are reported in summaries
SINGLES = 30  # connections reported one by one in a minute, of all kinds: each makes somebody look for its owner
SINGLES_OF_UNIT = 10  # ... and of one unit, so that one cannot hide the others
FIRST_PAUSE = 60.0  # seconds between two reports of connections that ended alike, at first ...
LONGEST_PAUSE = 3600.0  # ... and at most
MOST_KINDS = 512  # of ends that are kept apart; then only causes are
KINDS_OF_UNIT = 32  # ... and of one unit; then only its causes are
KEPT = 5.0  # seconds for which a connection that is gone is remembered: it is judged a second after its end
MOST_UNITS = 1024  # units that are counted apart
MOST_CGROUPS = 4096  # whose unit is remembered: a cgroup may be gone when a connection of it has ended

FORESEEABLE = np.zeros(256, np.bool_)  # by Cause: ends that silence brings about
FORESEEABLE[[Cause.MIDDLEBOX_IDLE, Cause.SILENT_AFTER_IDLE]] = True
RISKY = np.zeros(256, np.bool_)  # by Verdict
RISKY[[int(verdict) for verdict in AT_RISK]] = True


@dataclass(frozen=True, slots=True)
class AutopsyRules:
    """Which ends are reported: those with one of `causes` that belong to one of `units` and `users`. All are counted.

    `units` are patterns as in fnmatch(3). Without any, those of all units are reported, and likewise of all users.
    """

    causes: frozenset[Cause]
    paths: Sequence[Path]
    ignore: Sequence[IPNetwork]
    arm: Sequence[ArmRule] = ()
    products: Sequence[float] = ()  # usual idle timeouts
    units: Sequence[str] = ()
    users: Sequence[int] = ()


class Remembered(NamedTuple):
    """What is kept of one scan, to hold ends against; columns are those of Activity and Sockets."""

    cookie: Column
    verdict: Column  # Activity.judged
    reported: Column
    reported_at: Column
    survived: Column
    interface: Column
    cgroup: Column
    interfaces: tuple[str, ...] = ("",)

    def select(self, rows: Bools) -> Remembered:
        """Return what is kept of these sockets."""
        return self._replace(**{name: getattr(self, name)[rows] for name in REMEMBERED})


REMEMBERED = ("cookie", "verdict", "reported", "reported_at", "survived", "interface", "cgroup")
RECALLED = ("verdict", "reported", "reported_at", "survived", "interface", "cgroup")
EMPTY = np.zeros(0, np.uint64)
NOTHING = Remembered(EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)


def remember(activity: Activity, table: SocketTable) -> Remembered:
    """Return what to keep of a scan."""
    of_sockets = table.sockets["interface"], table.sockets["cgroup"], table.interfaces
    return Remembered(
        activity.cookie, activity.judged, activity.reported, activity.reported_at, activity.survived, *of_sockets
    )


@dataclass
class _Kind:
    """Ends that are alike: when they were last reported, and what was not reported since."""

    since: float
    pause: float = FIRST_PAUSE
    said: int = 0
    held: int = 0
    example: Death | None = None


Key = tuple[int | str, ...]  # a cause, and more of what is alike: a unit, a path, a hop
FIRST = np.zeros(1, np.intp)


class Autopsy:
    """Judges ends against what the scans knew: the last one, and of connections that are gone since, for a while."""

    def __init__(self, rules: AutopsyRules) -> None:
        self.tally = Tally()
        self._saves = Saves()
        self.advisor = Advisor(rules.paths, rules.products)
        self._units: dict[int, str] = {}  # by cgroup
        self._counted: set[str] = set()  # units
        self._unnamed: set[int] = set()  # cgroups whose unit is not known yet
        self._scan = NOTHING
        self._gone: tuple[tuple[float, Remembered], ...] = ()  # what was known of these, and until when to keep it
        self._kinds: dict[Key, _Kind] = {}
        self._singles: Counter[str] = Counter()  # by unit, what was reported one by one ...
        self._singles_since = -FOREVER  # ... since this instant
        self.follow(rules)

    def follow(self, rules: AutopsyRules) -> None:
        """Apply other rules from now on."""
        self._rules = rules
        self.advisor.follow(rules.paths, rules.products)

    def remember(self, judgement: Judgement, memory: Activity) -> None:
        """Keep what a scan has found, and count the silences that armed connections have survived."""
        self._keep_what_is_gone(remember(memory, judgement.table), judgement.table.taken_at)
        self.advisor.scanned(memory, judgement.assigned.index)
        sockets, rows = judgement.table.sockets, self._saves.observe(judgement.to_arm_by, self._rules.arm)
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

    def unnamed(self) -> tuple[int, ...]:
        """Return the cgroups of sockets that are new, and whose unit is not known yet."""
        return tuple(sorted(self._unnamed))

    def name(self, units: Mapping[int, str]) -> None:
        """Learn the units of cgroups; of too many the oldest are forgotten."""
        self._unnamed -= units.keys()
        self._units |= units
        for cgroup in list(self._units)[: max(0, len(self._units) - MOST_CGROUPS)]:
            del self._units[cgroup]

    @property
    def units(self) -> Mapping[int, str]:
        """Return the units that are known, by cgroup."""
        return self._units

    def _unit(self, cgroup: int) -> str:
        """Return the unit under which to count, "" where it is not known or there are too many."""
        unit = self._units.get(cgroup, "")
        if unit not in self._counted and len(self._counted) >= MOST_UNITS:
            return ""
        self._counted.add(unit)
        return unit

    def observe(self, deaths: Deaths, now: float) -> tuple[Alike, ...]:
        """Judge these ends; return what to report at once."""
        ended = deaths.ended[~ignored(deaths.ended, self._rules.ignore)]
        self.tally.ordinary += deaths.ordinary
        self.tally.lost += deaths.lost
        if not len(ended):
            return ()
        scans = (self._scan, *(known for _, known in self._gone))
        judged = judge(ended, scans, self._rules.paths, self._units, deaths.unknown)
        self._count(judged)
        self.advisor.died(ended, judged.path, FORESEEABLE[judged.findings.cause])
        wanted = np.isin(judged.findings.cause, [int(cause) for cause in self._rules.causes])
        wanted &= self._is_of_users(judged.ended) & self._is_of_units(judged.ended)
        return tuple(filter(None, (self._report(judged, rows, now) for rows in _alike(judged, wanted))))

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
        reports = []
        for key, kind in list(self._kinds.items()):
            if now < kind.since + kind.pause:
                continue
            if kind.example is None:
                del self._kinds[key]
                continue
            reports.append(Alike(kind.held, (kind.example,), now - kind.since))
            kind.since, kind.pause, kind.held, kind.example = now, min(2 * kind.pause, LONGEST_PAUSE), 0, None
        return tuple(reports)

    @property
    def next_due(self) -> float:
        """Return the instant at which something that was held back is to be reported."""
        return min((kind.since + kind.pause for kind in self._kinds.values() if kind.held), default=FOREVER)

    def _count(self, judged: Judged) -> None:
        for cause, foretold, count in _counts(judged.findings.cause, judged.foretold):
            self.tally.by_cause[Cause(cause), Foretold(foretold)] += count
        for path, cgroup, foretold, count in _counts(judged.path, judged.ended["cgroup"], judged.foretold):
            name = self._rules.paths[path].name
            self.tally.foretold[name, self._unit(cgroup), Foretold(foretold)] += count

    def _report(self, judged: Judged, rows: Indices, now: float) -> Alike | None:
        """Return the report of ends that are alike, or None where it is held back."""
        kind = self._kind(judged, int(rows[0]), now)
        if kind.said == 0 and len(rows) > AT_ONCE:
            kind.said = AT_ONCE
            return Alike(len(rows), (judged.death(int(rows[0])),))
        if kind.said + len(rows) <= AT_ONCE and self._may_report_singly(judged.unit(int(rows[0])), len(rows), now):
            kind.said += len(rows)
            return Alike(len(rows), tuple(judged.death(row) for row in rows.tolist()))
        kind.held += len(rows)
        kind.example = judged.death(int(rows[-1]))
        return None

    def _may_report_singly(self, unit: str, count: int, now: float) -> bool:
        """Return whether so many more of a unit may be reported one by one, and count them."""
        if now >= self._singles_since + FIRST_PAUSE:
            self._singles.clear()
            self._singles_since = now
        may: bool = self._singles.total() + count <= SINGLES and self._singles[unit] + count <= SINGLES_OF_UNIT
        self._singles[unit] += count if may else 0
        return may

    def _kind(self, judged: Judged, row: int, now: float) -> _Kind:
        key = judged.key(row)
        if key not in self._kinds:
            cause, unit, *_ = key
            if len(self._kinds) >= MOST_KINDS:
                key = (cause,)
            elif sum(unit == other[1] for other in self._kinds if len(other) > 1) >= KINDS_OF_UNIT:
                key = (cause, unit)
        kind = self._kinds.get(key)
        if kind is None or (not kind.held and now >= kind.since + kind.pause):
            kind = self._kinds[key] = _Kind(now)
        return kind


@dataclass(frozen=True, slots=True)
class Judged:
    """All that is known of some ends; every column has the rows of `ended`."""

    ended: Column
    findings: Findings
    paths: Sequence[Path]
    path: Column  # index into `paths`
    foretold: Column  # Foretold
    verdict: Column  # Verdict
    warned_before: Column
    survived: Column
    units: Mapping[int, str]  # by cgroup, as far as they are known
    unknown: frozenset[str]  # columns of `ended` that the engine cannot fill

    def key(self, row: int) -> Key:
        """Return what connections have in common that end alike: the cause first, then the unit."""
        cause, path, hop = (int(column[row]) for column in (self.findings.cause, self.path, self.findings.hop))
        return cause, self.unit(row), path, hop

    def unit(self, row: int) -> str:
        """Return its unit, "" where it is not known: whoever is in a unit may make cgroups below it, and many."""
        return self.units.get(int(self.ended["cgroup"][row]), "")

    def death(self, row: int) -> Death:
        """Return one of them, with its evidence."""
        one, path = self.ended[row : row + 1], self.paths[int(self.path[row])]
        named = self.findings.candidates(row)
        facts = one[0]
        return Death(
            cookie=int(facts["cookie"]),
            netns=int(facts["netns"]),
            inode=int(facts["inode"]),
            uid=int(facts["uid"]),
            cgroup=int(facts["cgroup"]),
            local=endpoints(one, "local", FIRST)[0],
            remote=endpoints(one, "remote", FIRST)[0],
            cause=named[0],
            confidence=round(float(self.findings.confidence[row]), 2),
            others=named[1:],
            hop=int(self.findings.hop[row]),
            peer_hop=int(self.findings.peer_hop[row]),
            silence=float(facts["silence"]),
            ended_at=float(facts["ended_at"]),
            path=path.name,
            timeout=path.timeout,
            origin=path.origin,
            hindsight=Hindsight(
                Foretold(int(self.foretold[row])),
                Verdict(int(self.verdict[row])),
                float(self.warned_before[row]),
                float(self.survived[row]),
            ),
            evidence=evidence(one, self.unknown),
            signal=int(facts["signal"]),
            closer=closer_name(bytes(facts["closer"])),
            closer_pid=int(facts["closer_pid"]),
            owner=Owner(unit=self.unit(row)),
            only_data_counts=path.counts is WhatCounts.DATA,
            is_held=bool(facts["error"]),
        )


def judge(
    ended: Column,
    scans: Sequence[Remembered],
    paths: Sequence[Path],
    units: Mapping[int, str],
    unknown: frozenset[str] = frozenset(),
) -> Judged:
    """Judge ended connections: their path, what was known of them, the cause, whether it was foretold.

    `unknown` are the columns that the engine cannot fill.
    """
    known = _recall(ended, scans)
    ended = _with_cgroups(ended, known)
    path = _paths(ended, paths, known)
    findings = decide(ended, known.survived, unknown)
    warned = known.seen & RISKY[known.reported] & (known.reported_at <= ended["ended_at"])
    foretold = _foretold(ended, findings, known, warned, np.array([each.timeout for each in paths])[path])
    warned_before = np.where(warned, ended["ended_at"] - known.reported_at, math.nan)
    return Judged(ended, findings, paths, path, foretold, known.verdict, warned_before, known.survived, units, unknown)


class _Known(NamedTuple):
    """What the newest scan that saw each connection knew of it; interfaces are those of the newest scan."""

    seen: Bools
    verdict: Column
    reported: Column
    reported_at: Column
    survived: Column
    interface: Column
    cgroup: Column
    interfaces: tuple[str, ...]


def _recall(ended: Column, scans: Sequence[Remembered]) -> _Known:
    size = len(ended)
    marks, times = np.zeros((2, size), np.uint8), np.zeros((2, size))
    known = _Known(
        seen=np.zeros(size, np.bool_),
        verdict=marks[0],
        reported=marks[1],
        reported_at=times[0],
        survived=times[1],
        interface=np.zeros(size, np.uint32),
        cgroup=np.zeros(size, np.uint64),
        interfaces=scans[0].interfaces,
    )
    for scan in (scan for scan in reversed(scans) if len(scan.cookie)):
        row, here = find(scan.cookie, ended["cookie"])
        known.seen[here] = True
        for name in RECALLED:
            getattr(known, name)[here] = getattr(scan, name)[row][here]
    return known


def _with_cgroups(ended: Column, known: _Known) -> Column:
    """Return the ends with the cgroup that a scan saw where the end itself does not tell."""
    if ended["cgroup"].all():
        return ended
    filled = ended.copy()
    filled["cgroup"] = np.where(ended["cgroup"] != 0, ended["cgroup"], known.cgroup)
    return filled


def _paths(ended: Column, paths: Sequence[Path], known: _Known) -> Column:
    """Return the path of each connection."""
    sockets = Sockets()
    columns = sockets.extend(len(ended))
    for name in ("remote_high", "remote_low", "local_port", "remote_port"):
        columns[name][:] = ended[name]
    columns["interface"][:] = known.interface
    columns["state"][:] = TcpState.ESTABLISHED.value
    return assign(SocketTable(sockets, 0.0, interfaces=known.interfaces), paths).index


def _foretold(ended: Column, findings: Findings, known: _Known, warned: Bools, timeout: Column) -> Column:
    """Return whether a warning came before each end, and if not, why.

    A peer that does not know a connection after idle may stand for a NAT that forgot it: so a warning was right.
    """
    by_silence = FORESEEABLE[findings.cause]
    perhaps = (findings.cause == Cause.UNKNOWN_TO_PEER.value) & (ended["silence"] >= IDLE_AFTER)
    return np.select(
        [
            ~by_silence & ~perhaps,
            warned,
            ~by_silence,
            ~known.seen,
            known.verdict == Verdict.UNKNOWN.value,
            ended["silence"] < timeout,
            RISKY[known.verdict],
        ],
        [
            Foretold.NOT_FORESEEABLE,
            Foretold.FORETOLD,
            Foretold.NOT_FORESEEABLE,
            Foretold.NEVER_SCANNED,
            Foretold.UNKNOWN_VERDICT,
            Foretold.EARLIER_THAN_EXPECTED,
            Foretold.NOT_YET_DUE,
        ],
        Foretold.PRESUMED_SAFE,
    ).astype(np.uint8)


def _counts(*columns: Column) -> list[tuple[int, ...]]:
    """Return each combination of values in the rows of these columns, with how often it occurs."""
    if not len(columns[0]):
        return []
    found, counts = np.unique(np.stack([column.astype(np.uint64) for column in columns]), axis=1, return_counts=True)
    return list(zip(*found.tolist(), counts.tolist(), strict=True))


def _alike(judged: Judged, wanted: Bools) -> list[Indices]:
    """Return the rows that are wanted, in groups that ended alike."""
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    keys = [
        column[rows] for column in (judged.findings.hop, judged.path, judged.ended["cgroup"], judged.findings.cause)
    ]
    order = np.lexsort(keys)
    starts = np.zeros(len(rows), np.bool_)
    starts[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return [np.sort(rows[part]) for part in np.split(order, np.flatnonzero(starts))]
