"""One run of the daemon: its decider, its loop, and what carries out the decider's actions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from keepaliveD.config import Config
from keepaliveD.config.catalogue import catalogue
from keepaliveD.daemon.deaths import DeathSource
from keepaliveD.daemon.loop import Loop, Waits
from keepaliveD.daemon.memory import give_back
from keepaliveD.daemon.perform import Performer
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.daemon.view import View
from keepaliveD.log import entries
from keepaliveD.log.journal import Log
from keepaliveD.model.actions import (
    AdmitReaders,
    Answer,
    ArmAtConnect,
    DisarmAll,
    EndAtConnect,
    ListOldServices,
    LoadConfiguration,
    OpenSession,
    Outcome,
    Phase,
    Queued,
    ReadSettings,
    RefreshAtConnect,
    RestoreSettings,
    ScanSockets,
    SeeLastDeaths,
    ShowAtRisk,
    TidyArmingRecord,
    WatchDeaths,
)
from keepaliveD.model.autopsy import NOT_SEEN
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import Refusal, StateError
from keepaliveD.model.events import BegunAtConnect, Done, Event, Loaded, Opened, Scanned, SettingsRead, Start
from keepaliveD.model.questions import Asker
from keepaliveD.model.reports import (
    ReportDamaged,
    ReportOldServices,
    ReportStillArmed,
    ReportUnseenDeaths,
)
from keepaliveD.model.rules import Rules, Watching
from keepaliveD.model.sockets import SocketTable
from keepaliveD.platforms.base import DeathWatch, Platform, Tuner
from keepaliveD.platforms.requests import Open, Steps, find_owners, scan
from keepaliveD.policy.arming.connect import plan
from keepaliveD.policy.decider import Decider
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import judge
from keepaliveD.records.both import Records
from keepaliveD.records.settings import SettingsRecord

Show = Callable[[Sequence[Connection]], None]


class Surroundings(Waits, Protocol):
    """The process that the daemon runs in; tests use one with a stepped clock."""

    def slept(self) -> float:
        """Return the seconds in which the machine was suspended since it booted."""

    def hurry(self) -> None:
        """Wait for nobody who does not go on, from now on."""

    def notify(self, *assignments: str) -> None:
        """Send these assignments to the service manager, without waiting for it."""

    def reloading(self) -> None:
        """Tell the service manager that a reload begins."""

    def load(self) -> Steps[Config]:
        """Read the configuration again. Raises ConfigError, NoInput."""


class Clients(Protocol):
    """Who asks the daemon: the control socket."""

    def settle(self, asker: Asker, answer: object) -> None:
        """Answer a question."""

    def admit(self, *, everyone: bool) -> None:
        """Let every user ask, or the group of the daemon's user alone."""


class Nobody:
    """Clients of a daemon without a control socket."""

    def settle(self, asker: Asker, answer: object) -> None:
        """There is nobody who could have asked."""

    def admit(self, *, everyone: bool) -> None:
        """There is nothing to be let in to."""


class Daemon:
    """One run of the daemon. Without `records` it is a dry run, which writes nothing to the kernel.

    With `show` it scans once, shows the connections at risk, and undoes everything that it has changed.
    """

    def __init__(
        self,
        config: Config,
        platform: Platform,
        records: Records | None,
        log: Log,
        outside: Surroundings,
        *,
        deaths: DeathSource,
        show: Show | None = None,
        clients: Clients | None = None,
    ) -> None:
        self._platform = platform
        self._records = records
        self._log = log
        self._outside = outside
        self._deaths = deaths
        self._show = show
        self._clients = clients or Nobody()
        self._performer = Performer(platform, records)
        self._slept = outside.slept()
        self.decider = Decider(rules(config, platform), once=show is not None, dry_run=records is None)
        self.view = View(self.decider, self._performer, platform, records, outside.now)

    def run(self) -> None:
        """Run until a signal ends it, and restore the settings whatever ends it.

        Raises Refusal if it cannot start; then it has changed nothing. Raises Refusal if settings stay changed.
        """
        notes = tuple(f"{self._platform.name}: {note}" for note in self._platform.notes)
        record = self._records.settings if self._records else None
        with restoring(self._platform.tuner, record, self._log, lambda: self.decider.rules.restore_on_stop):
            error = Loop(self._outside, self.decider, self).run(Start(notes))
        if error:
            raise error

    def log(self, outcome: Outcome) -> None:
        """Log this outcome."""
        self.view.count_drifts(outcome)
        for entry in entries.of(outcome):
            self._log(entry)

    def notify(self, phase: Phase) -> None:
        """Notify the service manager."""
        if phase is Phase.READY:
            self._outside.notify("READY=1", self._status(), "WATCHDOG=1")
        elif phase is Phase.RELOADING:
            self._outside.reloading()
        else:
            self._outside.notify("STOPPING=1")

    def show_life(self, *, is_idle: bool) -> None:
        """Show the service manager that the loop goes on, and how the daemon is unless that is about to change."""
        self._outside.notify("WATCHDOG=1", *([self._status()] if is_idle else []))

    def perform(self, action: Queued) -> Steps[Event]:
        """Carry out an action, and return the event that comes of it. Raises Refusal, and whatever nobody foresaw."""
        match action:
            case LoadConfiguration():
                event: Event = Loaded(rules((yield from self._outside.load()), self._platform))
            case OpenSession(watching):
                event = Opened((yield Open(watching)))
            case ScanSockets(with_settings):
                event = yield from self._scan(with_settings=with_settings)
            case ReadSettings():
                event = SettingsRead(self._performer.read_settings(cared_for=True))
            case ArmAtConnect(wanted):
                event = self._arm_at_connect(wanted)
            case AdmitReaders(everyone):
                self._clients.admit(everyone=everyone)
                event = Done(action, ())
            case SeeLastDeaths():
                self._deaths.end()
                event = next(iter(self._deaths.events()), Done(action, ()))
            case Answer(asker, answer):
                self._clients.settle(asker, answer)
                event = Done(action, ())
            case _:
                event = Done(action, tuple((yield from self._outcomes(action))))
        return event

    def _outcomes(self, action: Queued) -> Steps[Sequence[Outcome]]:
        """Carry out an action, and return what came of it. A refusal is an outcome too."""
        outcomes: Sequence[Outcome] = []
        try:
            match action:
                case RefreshAtConnect():
                    outcomes = [*self._performer.tend_at_connect(), *self._performer.refresh_at_connect()]
                case EndAtConnect():
                    outcomes = self._end_at_connect()
                case WatchDeaths(wanted):
                    outcomes = self._watch_deaths(wanted)
                case TidyArmingRecord(table):
                    outcomes = self._tidy(action, table)
                case RestoreSettings():
                    outcomes = self._performer.restore(action)
                case DisarmAll(only_mine):
                    outcomes = yield from self._disarm_all(only_mine=only_mine)
                case ListOldServices():
                    outcomes = self._old_services()
                case ShowAtRisk(connections):
                    yield from self._show_at_risk(connections)
                case _:
                    outcomes = [(yield from self._performer.perform(action))]
        except Refusal as refusal:
            outcomes = [Outcome(action, refused=refusal)]
        return outcomes

    def _scan(self, *, with_settings: bool) -> Steps[Scanned]:
        """Read all sockets and the system settings. Raises Refusal."""
        began = self._outside.now()
        table = yield from scan(began)
        took = self._outside.now() - began
        self.view.count_scan(took)
        asleep, self._slept = self._outside.slept() - self._slept, self._outside.slept()
        table = dataclasses.replace(table, reading=took, asleep=asleep)
        damaged = self._keep_damaged_aside()
        return Scanned(table, self._performer.read_settings(cared_for=with_settings), damaged)

    def _keep_damaged_aside(self) -> tuple[str, ...] | None:
        """Keep a damaged record of armed sockets aside before it is needed; None if the record cannot be read."""
        if self._records is not None:
            with contextlib.suppress(Refusal):  # whoever needs a record that cannot be read reports that
                return self._records.arming.set_aside()
        return None

    def _arm_at_connect(self, wanted: Rules) -> BegunAtConnect:
        report, problem = self._performer.arm_at_connect(
            plan(wanted.arm, wanted.ignore, wanted.paths),
            wanted.watching.engine,
            everywhere=wanted.watching.all_namespaces,
            survive=wanted.survive_stop,
        )
        return BegunAtConnect(report, problem)

    def _end_at_connect(self) -> list[Outcome]:
        done = self._performer.tend_at_connect()
        lost = self._performer.close()
        try:
            done += self._mended()
        except Refusal as refusal:
            lost = lost or f"sockets stay armed, and their arming record cannot be read: {refusal}"
        return [*done, Outcome(EndAtConnect(), refused=StateError(lost))] if lost else done

    def _old_services(self) -> list[Outcome]:
        try:
            ends = self._platform.unreached()
        except Refusal as refusal:
            return [Outcome(ReportOldServices((), str(refusal)))]
        return [Outcome(ReportOldServices(ends))] if ends else []

    def _tidy(self, action: TidyArmingRecord, table: SocketTable) -> list[Outcome]:
        """Write the arming record again if it was removed, and remove closed sockets from it, or it only grows.

        This is the last step of a scan, so it also returns the memory that the scan has freed to the system.
        """
        give_back()
        if self._records is None:
            return [Outcome(action)]
        mended = self._mended()
        self._records.arming.tidy(table)
        return [Outcome(action), *mended]

    def _mended(self) -> list[Outcome]:
        """Write the arming record again if nobody could read it any more; return the report. Raises Refusal."""
        what = self._records.arming.tend() if self._records else ""
        return [Outcome(ReportDamaged([f"the arming record {what}; wrote it again"]))] if what else []

    def _disarm_all(self, *, only_mine: bool) -> Steps[list[Outcome]]:
        """Disarm the recorded sockets that still exist, without waiting for anybody who does not go on.

        Raises Refusal where sockets stay armed.
        """
        if self._records is None or (only_mine and not len(self._records.arming.armed_here())):
            return []
        try:
            self._outside.hurry()
            shows_ignored = only_mine or not self.decider.rules.watching.ignore
            if not only_mine:  # a reload, or another daemon, may have armed peers that are ignored now
                with contextlib.suppress(Refusal):  # then those alone stay armed
                    yield Open(self.decider.rules.watching._replace(ignore=()))
                    shows_ignored = True
            table = yield from scan(self._outside.now())
            if not shows_ignored:
                table = dataclasses.replace(table, complete=False, read=(), unread=None)
            unknown = [] if only_mine else self._take_over()
            look = judge(table, nothing_known(), self.decider.rules.paths, ())
            outcome = yield from self._performer.disarm(look, only_mine=only_mine)
            if outcome.refused:
                raise outcome.refused
            if not only_mine:
                self._records.arming.hand_over(table)
            missed = self._records.arming.missed(table)
            if only_mine:
                missed = np.intersect1d(missed, self._records.arming.armed_here(first=True))
            still = yield from self._performer.perform(ReportStillArmed(missed, missed=True))
        except Refusal as refusal:
            said = f"cannot disarm, sockets stay armed: {refusal}; run keepalivectl disarm"
            raise type(refusal)(said) from refusal
        return [outcome, still, *unknown]

    def _take_over(self) -> list[Outcome]:
        """Learn what is to be disarmed of what was armed at connect; return why that is not known, if it is not."""
        try:
            self._performer.take_over()
        except Refusal as refusal:
            reason = f"cannot disarm what was armed at connect, it stays armed: {refusal}; run keepalivectl disarm"
            return [Outcome(DisarmAll(only_mine=False), refused=type(refusal)(reason))]
        return []

    def _watch_deaths(self, wanted: Rules) -> list[Outcome]:
        """See ends, or stop seeing them; return what cannot be seen, "" if nothing."""
        if not wanted.autopsy:
            self._deaths.end()
            return [Outcome(ReportUnseenDeaths(f"{NOT_SEEN}: autopsy.enabled = false"))]
        try:
            watching = wanted.watching
            missing = self._deaths.begin(DeathWatch(watching.engine, everywhere=watching.all_namespaces))
        except Refusal as refusal:
            missing = f"{NOT_SEEN}: {refusal}"
        return [Outcome(ReportUnseenDeaths(missing))]

    def _show_at_risk(self, connections: Sequence[Connection]) -> Steps[None]:
        found = yield from find_owners(connections)
        if self._show:
            self._show(found)

    def _status(self) -> str:
        return f"STATUS={entries.status_line(self.decider.status)}"


def rules(config: Config, platform: Platform) -> Rules:
    """Return what the decider follows. Raises ConfigError if this kernel cannot hold the keepalive, or Refusal."""
    config, tuner = config.within(platform.cloud()), platform.tuner
    return Rules(
        wanted=tuner.names(config.keepalive) if config.apply else {},
        on_drift=config.on_drift,
        paths=config.paths,
        ignore=config.ignore,
        warn_before=config.warn_before,
        arm=config.arm,
        roles=tuner.roles if config.keep_stricter else None,
        keepalive=config.keepalive if config.apply else None,
        interval=config.interval,
        watching=Watching(config.engine, config.all_namespaces, config.selects_by_interface, tuple(config.ignore)),
        restore_on_stop=config.restore_on_stop,
        disarm_on_stop=config.disarm_on_stop,
        survive_stop=config.survive_stop,
        doubts=config.doubts,
        products=tuple(preset.timeout for preset in catalogue().values()),
        configured=config.keepalive,
        autopsy=config.autopsy,
        logged_causes=config.logged_causes,
        logged_units=config.logged_units,
        logged_users=config.logged_users,
        everyone_reads=config.everyone_reads,
    )


@contextlib.contextmanager
def restoring(
    tuner: Tuner, record: SettingsRecord | None, log: Log, wanted: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Restore the recorded settings if an error ends this block.

    An earlier daemon may have recorded them and been killed, or handed them over: nobody else can restore them.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the error that ended the block is worth more
            if record and wanted():
                for outcome in SystemSettings(tuner, record).restore():
                    for entry in entries.of(outcome):
                        log(entry)
        raise
