"""A platform that is a few dictionaries, and surroundings whose time a test steps."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keepaliveD.config import Config, load
from keepaliveD.daemon.daemon import Daemon, Show
from keepaliveD.daemon.deaths import DeathSource
from keepaliveD.daemon.loop import Loop
from keepaliveD.daemon.perform import Performer
from keepaliveD.daemon.worker.worker import Reply
from keepaliveD.log.entries import Entry
from keepaliveD.model.actions import Outcome, Queued
from keepaliveD.model.arming import LOOKED, RESULT, Access
from keepaliveD.model.connections import Owner
from keepaliveD.model.deaths import DEATH, Deaths
from keepaliveD.model.errors import Refusal, unexpected
from keepaliveD.model.events import Asked, Died, Event, Reload, Start, Stop
from keepaliveD.model.keepalive import ALL, Keepalive, Own, SocketKeepalive
from keepaliveD.model.questions import Asker
from keepaliveD.model.reports import Counted
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import Roles, Watching
from keepaliveD.model.sockets import Column, SocketTable
from keepaliveD.platforms.base import DeathWatch, Opener, Platform, Session, Unpinned
from keepaliveD.platforms.requests import Open, Request, Steps, directly
from keepaliveD.policy.arming.choices import keepalive
from keepaliveD.policy.arming.connect import ConnectPlan
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.both import Records
from keepaliveD.records.settings import SettingsRecord
from tests.support.tables import Socket, table

IDENTITY = {"boot": "1", "netns": "2"}
KERNEL = {"time": 7200, "intvl": 75, "probes": 9}
ROLES = Roles("time", "intvl", "probes")
OURS = {"time": 180, "intvl": 20, "probes": 31}
APPLIED = [("probes", 31), ("time", 180), ("intvl", 20)]  # in the order of the writes
RESTORED = [("intvl", 75), ("time", 7200), ("probes", 9)]

Happening = signal.Signals | Died | Asked | Callable[[], None] | None


@dataclass
class FakeTuner:
    """A kernel's settings as a dictionary; `refusal` is what it answers to a write."""

    values: dict[str, int] = field(default_factory=lambda: dict(KERNEL))
    refusal: Refusal | None = None
    writes: list[tuple[str, int]] = field(default_factory=list)
    ranges: Mapping[str, range] = field(default_factory=lambda: dict.fromkeys(KERNEL, range(-1, 10_000)))
    roles: Roles = ROLES

    @property
    def identity(self) -> Mapping[str, str]:
        return IDENTITY

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        return {"time": keepalive.idle, "intvl": keepalive.interval, "probes": keepalive.probes}

    def read(self) -> Mapping[str, int]:
        return dict(self.values)

    def exchange(self, key: str, expected: int, value: int) -> int:
        if self.refusal:
            raise self.refusal
        stood = self.values[key]
        if stood == expected:
            self.writes.append((key, value))
            self.values[key] = value
        return stood


@dataclass
class FakeWatcher:
    """Shows the sockets that a test put there, as they are at that time."""

    sockets: Callable[[float], list[Socket]] = lambda _: []
    refusal: Refusal | None = None
    silent: tuple[int, ...] = ()
    complete: bool = True
    crowded: tuple[int, ...] = ()
    closed: int = 0
    engine_description: str = "fake engine"

    def scan(self, now: float) -> SocketTable:
        if self.refusal:
            raise self.refusal
        found = table(now, *self.sockets(now))
        return dataclasses.replace(
            found,
            engine_description=self.engine_description,
            complete=self.complete and not self.crowded,
            unwatched=found.unwatched._replace(silent=self.silent, crowded=self.crowded),
            unread=(*self.silent, *self.crowded),
        )

    def close(self) -> None:
        self.closed += 1


class FakeOwners:
    """Everything belongs to one process with a malicious name."""

    def find(self, inodes: Sequence[int], _cgroups: Sequence[int]) -> list[Owner]:
        return [Owner(77, "backup", "backup.service")] * len(inodes)

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        return dict.fromkeys(pids, frozenset())


@dataclass
class FakeAtConnect:
    """Begins and ends whatever it is told to; `refusal` is what it answers instead."""

    refusal: Refusal | None = None
    unpinned: str = ""
    begun: list[tuple[str, ConnectPlan, bool]] = field(default_factory=list)
    at_work: int = 0
    looks: int = 0
    pin: str = ""
    stuck: Refusal | None = None
    counted: list[Counted] = field(default_factory=list)
    records: dict[int, Armed] = field(default_factory=dict)
    is_shared: bool = True
    removed: Unpinned | None = None

    def begin(self, *, engine: str, plan: ConnectPlan, survive: bool) -> Unpinned:
        if self.refusal:
            raise self.refusal
        self.begun.append((engine, plan, survive))
        self.at_work = 1
        if survive and not self.unpinned:
            self.pin = "/pin"
        return Unpinned(self.unpinned if survive else "", self.unpinned)

    def refresh(self) -> list[Counted]:
        self.looks += self.at_work
        counted, self.counted = self.counted, []
        return counted

    def tend(self) -> Unpinned | None:
        return self.removed

    def armed(self) -> dict[int, Armed]:
        return dict(self.records)

    def shared(self) -> bool:
        return self.is_shared

    def forget(self) -> None:
        self.records.clear()

    def pinned(self) -> str:
        return self.pin

    def unpin(self) -> None:
        if self.stuck:
            raise self.stuck
        self.pin = ""

    def close(self) -> None:
        self.at_work = 0


OFF = SocketKeepalive(False, Keepalive(7200, 75, 9))


@dataclass
class FakeArmer:
    """Sockets as a dictionary by cookie, as the `others` where nothing was put there.

    `refusal` is what it answers, `looks` and `changes` are what comes of a look and of setting a socket,
    `midway` what stands where that fails. `looked_into` happens after each look, `between` before anything is set.
    """

    refusal: Refusal | None = None
    stands: dict[int, SocketKeepalive] = field(default_factory=dict)
    others: SocketKeepalive = OFF
    user_timeouts: dict[int, int] = field(default_factory=dict)
    unanswered: int = 0
    inherited: Own = ALL
    looks: Access = Access.DONE
    changes: Access = Access.DONE
    midway: SocketKeepalive | None = None
    looked_into: Callable[[], object] = lambda: None
    between: Callable[[], object] = lambda: None
    most: int = 1000
    by_cookie: bool = False
    looked: list[int] = field(default_factory=list)
    changed: list[tuple[int, SocketKeepalive]] = field(default_factory=list)

    def read(self, targets: Column, *, closing: bool) -> Column:
        del closing
        if self.refusal:
            raise self.refusal
        cookies = targets["cookie"].tolist()[: self.most]
        self.looked += cookies
        looked = np.zeros(len(cookies), LOOKED)
        looked["access"] = self.looks
        if self.looks is Access.DONE:
            looked["stands"] = [_numbers(self.stands.get(cookie, self.others)) for cookie in cookies]
            looked["system"], looked["inherited"] = (*self.others.times, 1), self.inherited
            looked["unanswered"] = self.unanswered
            looked["user_timeout"] = [self.user_timeouts.get(cookie, 0) for cookie in cookies]
        self.looked_into()
        return looked

    def change(self, changes: Column, *, closing: bool) -> Column:
        del closing
        if self.refusal:
            raise self.refusal
        self.between()
        results = np.zeros(len(changes), RESULT)
        for change, result in zip(changes, results, strict=True):
            cookie, after = int(change["cookie"]), keepalive(change["after"])
            result["access"] = self._change(cookie, keepalive(change["expected"]), after)
            result["stands"] = _numbers(self.stands.get(cookie, self.others))
        return results

    def _change(self, cookie: int, expected: SocketKeepalive, after: SocketKeepalive) -> Access:
        if self.stands.get(cookie, self.others) != expected:
            return Access.CHANGED_MEANWHILE
        if self.changes is not Access.DONE:
            self.stands[cookie] = self.midway or expected
            return self.changes
        self.stands[cookie] = after
        self.changed.append((cookie, after))
        return Access.DONE

    def close(self) -> None:
        """Holds nothing."""


def _numbers(stands: SocketKeepalive) -> tuple[int, int, int, int]:
    return *stands.times, stands.on


class Direct:
    """A performer whose requests are carried out here and now."""

    def __init__(self, performer: Performer, session: Session) -> None:
        self._performer = performer
        self._session = session

    def perform(self, action: Queued) -> Outcome:
        return directly(self._performer.perform(action), self._session)

    def disarm(self, look: Judgement, *, only_mine: bool = False) -> Outcome:
        return directly(self._performer.disarm(look, only_mine=only_mine), self._session)


@contextlib.contextmanager
def here(opener: Opener, watching: Watching) -> Iterator[Callable[[Steps[Any]], Any]]:
    """In place of a worker, in which whatever is done would be done to a copy of the fakes."""
    session = opener(watching)
    yield lambda steps: directly(steps, session)


class Killed(BaseException):
    """The daemon was killed, and could do nothing more."""


def _die() -> None:
    raise Killed


class FakeDeaths:
    """A kernel in which connections end when a test says so: they can be taken once `ready`."""

    def __init__(self, watch: DeathWatch | None = None) -> None:
        self.watch = watch
        self.hindered = ""
        self.ended: list[Deaths] = []
        self.young: Deaths | None = None  # what ended too short a time ago
        self.ripe_at: float | None = None
        self.closed = False
        self._ready, self._told = os.pipe()

    def end(self, deaths: Deaths) -> None:
        """Some have ended."""
        self.ended.append(deaths)
        os.write(self._told, b".")

    def fileno(self) -> int:
        return self._ready

    def due(self) -> float | None:
        return self.ripe_at

    def take(self, now: float, *, early: bool = False) -> Deaths:
        """Everything that has ended, whenever that was."""
        del now
        if early and self.young:
            return self.young
        if not self.ended:
            return Deaths(np.zeros(0, DEATH))
        os.read(self._ready, 1)
        return self.ended.pop(0)

    def close(self) -> None:
        os.close(self._ready)
        os.close(self._told)
        self.closed = True


@dataclass
class Stage:
    """A daemon, what surrounds it, and all that it said. `script` happens one event a wait."""

    directory: Path
    script: list[Happening] = field(default_factory=list)
    config: Config = field(default_factory=load)
    tuner: FakeTuner = field(default_factory=FakeTuner)
    watcher: FakeWatcher = field(default_factory=FakeWatcher)
    armer: FakeArmer = field(default_factory=FakeArmer)
    at_connect: FakeAtConnect = field(default_factory=FakeAtConnect)
    dry_run: bool = False
    watchdog: float = float("inf")
    time: float = 1000.0
    waits: list[float] = field(default_factory=list)
    notified: list[tuple[str, ...]] = field(default_factory=list)
    said: list[Entry] = field(default_factory=list)
    reloads: Config | Refusal | None = None
    successor: bool = False
    opened: list[Watching] = field(default_factory=list)
    cannot_open: Refusal | None = None
    session: Session | None = None
    deaths: list[FakeDeaths] = field(default_factory=list)
    answer: Reply | None = None
    answered: list[tuple[Asker, object]] = field(default_factory=list)
    admitted: list[bool] = field(default_factory=list)

    def settings_record(self) -> SettingsRecord:
        """The record of this stage."""
        return SettingsRecord(self.directory, IDENTITY, self.tuner.ranges)

    def watch_deaths(self, watch: DeathWatch) -> FakeDeaths:
        """Nothing is seen by itself: the script has the ends."""
        self.deaths.append(FakeDeaths(watch))
        return self.deaths[-1]

    def records(self) -> Records:
        """All that is kept of this stage."""
        return Records(self.settings_record(), ArmingRecord(self.directory, IDENTITY["boot"]))

    def start(self) -> Daemon:
        """A daemon that has started here, and is killed before anything else happens."""
        daemon = self.daemon()
        self.script.append(_die)
        with contextlib.suppress(Killed):
            Loop(self, daemon.decider, daemon).run(Start())
        return daemon

    def daemon(self, show: Show | None = None) -> Daemon:
        """A daemon that is about to start here."""

        platform = Platform("fake", self.tuner, self.at_connect, self.open, watch_deaths=self.watch_deaths)
        records = None if self.dry_run else self.records()
        deaths = DeathSource(platform.watch_deaths, self.now)
        return Daemon(self.config, platform, records, self.say, self, deaths=deaths, show=show, clients=self)

    def run(self) -> None:
        """A whole life: the script, then SIGTERM."""
        with self.settings_record().locked():
            self.daemon().run()

    def open(self, watching: Watching) -> Session:
        """A session, whatever is asked for, unless that is refused."""
        self.opened.append(watching)
        if self.cannot_open:
            raise self.cannot_open
        return Session(self.watcher, FakeOwners(), self.armer)

    def ask(self, request: Request) -> None:
        """The answer is there at the next wait."""
        try:
            if isinstance(request, Open):
                self.session = self.open(request.watching)  # raises: then the one before stays
            assert self.session
            self.answer = Reply(request.carry_out(self.session))
        except Refusal as refusal:
            self.answer = Reply(error=refusal)
        except Exception as error:
            self.answer = Reply(error=unexpected(error))

    def abandon(self) -> None:
        self.answer = None

    def hurry(self) -> None:
        pass

    def now(self) -> float:
        return self.time

    def slept(self) -> float:
        return 0.0

    def wait(self, seconds: float) -> Event | Reply | None:
        """An answer is there at once; else time passes, then the next event of the script happens."""
        if self.answer:
            answer, self.answer = self.answer, None
            return answer
        self.waits.append(seconds)
        self.time += seconds
        event = self.script.pop(0) if self.script else signal.SIGTERM
        if isinstance(event, signal.Signals):
            return Reload() if event is signal.SIGHUP else Stop(self.successor)
        if isinstance(event, Died | Asked):
            return event
        if event:
            event()
        return None

    def notify(self, *assignments: str) -> None:
        self.notified.append(assignments)

    def reloading(self) -> None:
        self.notified.append(("RELOADING=1",))

    def load(self) -> Steps[Config]:
        yield from ()
        if isinstance(self.reloads, Refusal):
            raise self.reloads
        return self.reloads or self.config

    def say(self, entry: Entry) -> None:
        self.said.append(entry)

    def settle(self, asker: Asker, answer: object) -> None:
        self.answered.append((asker, answer))

    def admit(self, *, everyone: bool) -> None:
        self.admitted.append(everyone)

    def events(self) -> list[str]:
        """Names of everything said."""
        return [entry.event for entry in self.said]
