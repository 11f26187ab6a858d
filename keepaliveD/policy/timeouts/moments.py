"""Which deaths show, each by itself, that a path forgets: those that one event may explain are one death.

A firewall that restarts, and an outage, end connections whatever their silence. Two deaths are of two moments only if
the peer of the later one was heard after the earlier one was lost: then nothing that happened once explains both.
A silence does not explain a death better than an outage does, unless a device has reset the connection, or others of
the path were heard while what this one sent was lost. Where others died while they were busy it was an outage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.causes import IDLE_AFTER, Cause
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.sockets import Bools, Column, Indices, Sockets
from keepaliveD.policy.verdicts.packets import ON_THE_WAY

MOMENT = 60.0  # seconds between two moments, at least: a restart, a new route and a flapping link are over by then
GIVES_UP = 1200.0  # seconds after which an outage has ended what was busy: 15 to 18 min as shipped (tcp_retries2)
MOST_OPEN = 32  # moments of one path that wait for what ends later ...
MOST_TOGETHER = 64  # ... the shortest silences of each ...
MOST_OUTAGES = 64  # ... and the latest times of one path in which busy connections died
HEARD_EACH = 5.0  # seconds between two scans of which is kept when a path was heard
OUTAGE = np.zeros(256, np.bool_)  # by Cause: ends that no silence has brought about
OUTAGE[[Cause.MIDDLEBOX_BUSY, Cause.PATH_DIED, Cause.UNREACHABLE, Cause.LOCAL_NETWORK]] = True


class Death(NamedTuple):
    """A connection that its silence may have ended. `row`: an array of one DEATH. Instants are by its clock."""

    row: Column
    silence: float  # seconds
    heard: float  # instant of the last packet of the peer
    lost: float  # ... of the first packet that was lost, or of the reset
    lost_last: float  # ... of the last packet that was sent in vain
    ended: float
    by_device: bool  # whether a device on the path has reset it


@dataclass(slots=True)
class _Moment:
    """Deaths that one event may explain; it waits for ends that show it to be an outage."""

    lost: float  # instant at which the first one was lost
    deaths: list[Death]

    @property
    def over(self) -> float:
        """Return the instant at which the last of these connections ended."""
        return max(death.ended for death in self.deaths)

    @property
    def closes(self) -> float:
        """Return the instant from which on nothing more is expected: resets come at once, others give up."""
        return max(death.ended + (MOMENT if death.by_device else GIVES_UP) for death in self.deaths)

    def join(self, death: Death) -> None:
        """Take in one more; of too many the longest silences are forgotten."""
        self.deaths = sorted([*self.deaths, death], key=lambda each: each.silence)[:MOST_TOGETHER]


class Moments:
    """Puts deaths of `paths` paths together by moment."""

    def __init__(self, paths: int) -> None:
        self._open: list[list[_Moment]] = [[] for _ in range(paths)]
        self._newest = [-np.inf] * paths  # instant at which the first connection of the newest moment was lost
        self._outages: list[deque[tuple[float, float]]] = [deque(maxlen=MOST_OUTAGES) for _ in range(paths)]
        self._heard: deque[tuple[float, Column]] = deque()  # of scans: when, and the latest instant by path

    def scanned(self, now: float, path: Indices, counted: Bools, sockets: Sockets) -> None:
        """Keep when a connection of each path was last heard; those `counted` have something to say."""
        if self._heard and now < self._heard[-1][0] + HEARD_EACH:
            return
        rows = np.flatnonzero(counted & (path < len(self._open)))
        ages = np.full(len(self._open), np.inf)
        shown = np.fmin(sockets["since_received"][rows], sockets["since_acked"][rows])
        np.fmin.at(ages, path[rows], shown.astype(np.float64))
        self._heard.append((now, now - ages))
        while self._heard[0][0] < now - 2 * GIVES_UP:
            self._heard.popleft()

    def died(self, ended: Column, path: Column, cause: Column, rows: Indices) -> None:
        """Take in the ends in these rows that silence may explain, and those that only an outage does.

        `ended` is an array of DEATH; `path`, an index into the paths, and `cause` have its rows.
        """
        rows = rows[path[rows] < len(self._open)]
        for number in np.unique(path[rows]).tolist():
            of_path = rows[path[rows] == number]
            busy = of_path[_are_busy(ended[of_path], cause[of_path])]
            if len(busy):
                lost = ended["ended_at"][busy] - _unanswered(ended[busy])
                self._outages[number].append((float(lost.min()), float(ended["ended_at"][busy].max())))
            idle = of_path[np.isin(cause[of_path], (Cause.MIDDLEBOX_IDLE.value, Cause.SILENT_AFTER_IDLE.value))]
            shortest = idle[np.argsort(ended["silence"][idle], kind="stable")[:MOST_TOGETHER]]
            deaths = _deaths(ended[shortest], cause[shortest] == Cause.MIDDLEBOX_IDLE.value)
            for death in sorted(deaths, key=lambda each: each.lost):
                self._put(number, death)

    def _put(self, path: int, death: Death) -> None:
        """Put a death into the newest moment, or begin another one; what was lost before counts no more."""
        newest, open_ = self._newest[path], self._open[path]
        if death.lost < newest or len(open_) >= MOST_OPEN:
            return
        if death.heard > newest and death.lost >= newest + MOMENT:
            self._newest[path] = death.lost
            open_.append(_Moment(death.lost, [death]))
        elif open_ and open_[-1].lost == newest:
            open_[-1].join(death)

    def closed(self, now: float) -> Iterator[tuple[int, list[Death]]]:
        """Yield the path of each moment that is over, and its deaths, the shortest silence first; none of an outage."""
        for path, open_ in enumerate(self._open):
            over = [moment for moment in open_ if moment.closes <= now]
            if over:
                self._open[path] = [moment for moment in open_ if moment.closes > now]
            for moment in over:
                explained = [] if self._in_outage(path, moment) else self._explained(path, moment.deaths)
                if explained:
                    yield path, explained

    def _in_outage(self, path: int, moment: _Moment) -> bool:
        """Return whether connections of the path died while they were busy, within a minute of the moment."""
        return any(
            lost <= moment.over + MOMENT and ended >= moment.lost - MOMENT for lost, ended in self._outages[path]
        )

    def _explained(self, path: int, deaths: Sequence[Death]) -> list[Death]:
        """Return the deaths that silence explains better than an outage, the shortest silence first."""
        return [death for death in deaths if death.by_device or self._was_heard(path, death)]

    def _was_heard(self, path: int, death: Death) -> bool:
        """Return whether others were heard between two packets of this one that were lost."""
        return any(death.lost + ON_THE_WAY < heard[path] < death.lost_last for _, heard in self._heard)


def _are_busy(ended: Column, cause: Column) -> Bools:
    """Return which of these ends only an outage explains, or a firewall that lost its state, whatever the silence."""
    busy: Bools = OUTAGE[cause] | ((cause == Cause.USER_TIMEOUT.value) & (ended["silence"] < IDLE_AFTER))
    return busy


def _deaths(ended: Column, by_device: Bools) -> list[Death]:
    """Return these ends, an array of DEATH, one by one."""
    unanswered = _unanswered(ended)  # probes come at equal intervals; since_sent counts data alone
    waited = np.where(ended["retransmits"] > 0, ended["since_sent"], unanswered / np.maximum(ended["probes"], 1))
    ended_at, silence = ended["ended_at"], ended["silence"].astype(np.float64)
    lost = ended_at - unanswered
    rows = [ended[number : number + 1].copy() for number in range(len(ended))]
    columns = (silence, lost - silence, lost, ended_at - np.fmax(waited, 0.0), ended_at, by_device)
    return [Death(*facts) for facts in zip(rows, *(each.tolist() for each in columns), strict=True)]


def _unanswered(ended: Column) -> Column:
    """Return for how long the peer has not answered what was sent, in seconds; 0 where that is not known."""
    heard = np.fmin(np.fmin(ended["since_received"], ended["since_acked"]), ended["since_peer_probe"])
    unanswered: Column = np.fmax(np.nan_to_num(heard - ended["silence"]), 0.0)
    return unanswered
