"""Examine ended connections: the cause of each, and what the scans knew of it before.

What was last forecast of a connection tells whether its end was foretold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from keepaliveD.model.autopsy import Death, Hindsight
from keepaliveD.model.causes import IDLE_AFTER, Cause, Foretold
from keepaliveD.model.connections import AT_RISK, Owner, Verdict, WhatCounts, grouping_unit
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets, SocketTable, TcpState, is_any
from keepaliveD.policy.autopsy.deaths import Causes, decide
from keepaliveD.policy.autopsy.evidence import closer_name, evidence, name_of
from keepaliveD.policy.autopsy.facts import BOTH_CLOSED, as_closed
from keepaliveD.policy.autopsy.silences import Silences
from keepaliveD.policy.verdicts.activity import Activity, find
from keepaliveD.policy.verdicts.connections import endpoints
from keepaliveD.policy.verdicts.paths import assign

FORESEEABLE = np.zeros(256, np.bool_)  # by Cause: ends that silence brings about
FORESEEABLE[[Cause.MIDDLEBOX_IDLE, Cause.SILENT_AFTER_IDLE]] = True
Whose = str | int  # a unit, or a user where the unit is not known
Key = tuple[int | str, ...]  # a cause, and more of what is alike: Whose; a path, a hop, whether it was foretold
FIRST = np.zeros(1, np.intp)
NO_OWNERS: Mapping[int, Owner] = {}


class Remembered(NamedTuple):
    """What is kept of one scan, to hold ends against; columns are those of Activity and Sockets."""

    cookie: Column
    verdict: Column  # Activity.judged
    reported: Column
    reported_at: Column
    survived: Column
    interface: Column
    cgroup: Column
    uid: Column
    interfaces: tuple[str, ...] = ("",)

    def select(self, rows: Bools) -> Remembered:
        """Return what is kept of these sockets."""
        return self._replace(**{name: getattr(self, name)[rows] for name in REMEMBERED})


MAY_HAVE_FORGOTTEN = (Cause.UNKNOWN_TO_PEER.value, Cause.LOCAL_FIREWALL.value)
RECALLED = ("verdict", "reported", "reported_at", "survived", "interface", "cgroup", "uid")
REMEMBERED = ("cookie", *RECALLED)
EMPTY = np.zeros(0, np.uint64)
NOTHING = Remembered(EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)


def remember(activity: Activity, table: SocketTable) -> Remembered:
    """Return what to keep of a scan."""
    of_sockets = table.sockets["interface"], table.sockets["cgroup"], table.sockets["uid"], table.interfaces
    return Remembered(
        activity.cookie, activity.judged, activity.reported, activity.reported_at, activity.survived, *of_sockets
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """All that is known of some ends; every column has the rows of `ended`."""

    ended: Column
    causes: Causes
    paths: Sequence[Path]
    path: Column  # index into `paths`
    foretold: Column  # Foretold
    verdict: Column  # Verdict
    warned_before: Column
    survived: Column
    units: Mapping[int, str]  # by cgroup, as far as they are known
    owners: Mapping[int, Owner]  # by cookie, who held it when somebody last looked
    unknown: frozenset[str]  # columns of `ended` that the engine cannot fill
    silences: Silences

    def key(self, row: int) -> Key:
        """Return what connections have in common that end alike: the cause first, then whose they are."""
        path = self.paths[int(self.path[row])].name  # a reload may number the paths otherwise
        return int(self.causes.cause[row]), self.whose(row), path, int(self.causes.hop[row]), int(self.foretold[row])

    def confidence(self, row: int) -> float:
        """Return how sure its cause is."""
        return round(float(self.causes.confidence[row]), 2)

    def least_sure(self, rows: Indices) -> int:
        """Return the row of these whose cause is the least sure."""
        return int(rows[np.argmin(self.causes.confidence[rows])])

    def unit(self, row: int) -> str:
        """Return its unit, "" where it is not known: whoever is in a unit may make cgroups below it, and many."""
        return self.units.get(int(self.ended["cgroup"][row]), "")

    def whose(self, row: int) -> Whose:
        """Return its unit, or its user where there is none: users must not hide the ends of each other."""
        return grouping_unit(self.unit(row)) or int(self.ended["uid"][row])

    def users(self) -> Column:
        """Return the user of each, 0 where there is a unit: those of one unit are alike, whoever runs them."""
        cgroups, which = np.unique(self.ended["cgroup"], return_inverse=True)
        without = np.array([not grouping_unit(self.units.get(one, "")) for one in cgroups.tolist()], np.bool_)[which]
        users: Column = np.where(without, self.ended["uid"], 0)
        return users

    def owner(self, row: int, cause: Cause) -> Owner:
        """Return who held it: who ended it, unless that was somebody else by force, or who was seen to hold it."""
        one = self.ended[row]
        held = self.owners.get(int(one["cookie"]), Owner())
        if one["closer_pid"] and cause is not Cause.LOCAL_KILL and not one["by_kernel"]:
            held = replace(held, pid=int(one["closer_pid"]), process=name_of(bytes(one["closer"])))
        return replace(held, unit=self.unit(row) or held.unit)

    def death(self, row: int) -> Death:
        """Return one of them, with its evidence."""
        one, path = self.ended[row : row + 1], self.paths[int(self.path[row])]
        named = self.causes.candidates(row)
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
            confidence=self.confidence(row),
            others=named[1:],
            hop=int(self.causes.hop[row]),
            peer_hop=int(self.causes.peer_hop[row]),
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
            owner=self.owner(row, named[0]),
            only_data_counts=path.counts is WhatCounts.DATA,
            both_closed=int(facts["state"]) in BOTH_CLOSED,
            shortest=self.silences.shortest(self.ended, row),
            is_held=bool(facts["error"]),
        )


def examine(
    ended: Column,
    scans: Sequence[Remembered],
    paths: Sequence[Path],
    units: Mapping[int, str],
    unknown: frozenset[str] = frozenset(),
    *,
    owners: Mapping[int, Owner] = NO_OWNERS,
    with_evidence: Sequence[Path] | None = None,
    silences: Silences | None = None,
) -> Examined:
    """Examine ended connections: their path, what was known of them, the cause, whether it was foretold.

    `unknown` are the columns that the engine cannot fill. `owners`, by cookie, are those found before. `with_evidence`
    are the same paths with the timeouts that verdicts follow, where evidence has shortened some: what was foretold is
    held against these. `silences` are those in which paths forgot connections before.
    """
    known = _recall(ended, scans)
    ended = _as_scanned(as_closed(ended), known)
    path = _paths(ended, paths, known)
    causes = decide(ended, known.survived, unknown)
    warned = known.seen & is_any(known.reported, AT_RISK) & (known.reported_at <= ended["ended_at"])
    expected = np.array([each.timeout for each in with_evidence or paths])[path]
    foretold = _foretold(ended, causes, known, warned, expected)
    warned_before = np.where(warned, ended["ended_at"] - known.reported_at, math.nan)
    of_ends = ended, causes, paths, path, foretold, known.verdict, warned_before, known.survived
    return Examined(*of_ends, units, owners, unknown, silences or Silences())


class _Known(NamedTuple):
    """What the newest scan that saw each connection knew of it; interfaces are those of the newest scan."""

    seen: Bools
    verdict: Column
    reported: Column
    reported_at: Column
    survived: Column
    interface: Column
    cgroup: Column
    uid: Column
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
        uid=np.zeros(size, np.uint32),
        interfaces=scans[0].interfaces,
    )
    for scan in (scan for scan in reversed(scans) if len(scan.cookie)):
        row, here = find(scan.cookie, ended["cookie"])
        known.seen[here] = True
        for name in RECALLED:
            getattr(known, name)[here] = getattr(scan, name)[row][here]
    return known


def _as_scanned(ended: Column, known: _Known) -> Column:
    """Return the ends with the cgroup and user that a scan saw where the end itself does not tell: both are 0 then."""
    filled = ended.copy()
    for name, scanned in (("cgroup", known.cgroup), ("uid", known.uid)):
        filled[name] = np.where(ended[name] != 0, ended[name], scanned)
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


def _foretold(ended: Column, causes: Causes, known: _Known, warned: Bools, timeout: Column) -> Column:
    """Return whether a warning came before each end, and if not, why.

    A peer that does not know a connection after idle may stand for a NAT that forgot it, and so may this host's own
    firewall that drops its packets then: so a warning was right. The verdict of one that this host is closing is
    unknown, but its silence came before.
    """
    earlier = ended["silence"] < timeout
    was_open = np.isin(ended["state"], (TcpState.ESTABLISHED.value, TcpState.FIN_WAIT1.value))
    by_silence = FORESEEABLE[causes.cause]
    perhaps = np.isin(causes.cause, MAY_HAVE_FORGOTTEN) & (ended["silence"] >= IDLE_AFTER)
    return np.select(
        [
            ~by_silence & ~perhaps,
            warned,
            ~by_silence,
            ~known.seen,
            (known.verdict == Verdict.UNKNOWN.value) & ~(earlier & was_open),
            earlier,
            is_any(known.verdict, AT_RISK),
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
