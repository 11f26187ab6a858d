"""The decider: events and the time go in, actions come out. It touches nothing, and reads no clock."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from keepaliveD.model.actions import (
    Abandon,
    Action,
    AdmitReaders,
    Answer,
    ArmAtConnect,
    DisarmAll,
    EndAtConnect,
    EndDaemon,
    ListOldServices,
    LoadConfiguration,
    LogOutcome,
    LookInto,
    NameUnits,
    Notify,
    OpenSession,
    Outcome,
    Phase,
    Queued,
    ReadSettings,
    RefreshAtConnect,
    RestoreSettings,
    ScanSockets,
    SeeLastDeaths,
    SetSystemKeepalive,
    ShowAtRisk,
    TidyArmingRecord,
    WatchDeaths,
)
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import ConfigError, KernelError, Refusal, Unfinished, unexpected
from keepaliveD.model.events import (
    Asked,
    BegunAtConnect,
    Consequence,
    Died,
    Done,
    Event,
    Failed,
    Idle,
    Loaded,
    Opened,
    Reload,
    Scanned,
    SettingsRead,
    Start,
    Stop,
    Tick,
)
from keepaliveD.model.questions import MeasuringThese, ReloadNow, ScanNow
from keepaliveD.model.reports import (
    ReportDoubts,
    ReportRefused,
    ReportReloaded,
    ReportReloadFailed,
    ReportStarted,
    ReportStillArmed,
)
from keepaliveD.model.rules import Rules
from keepaliveD.model.snapshot import AtRisk
from keepaliveD.model.sockets import Sockets, SocketTable, Switch
from keepaliveD.model.status import Status
from keepaliveD.model.text import connections
from keepaliveD.policy.clients import Clients
from keepaliveD.policy.ended import EndedDecider
from keepaliveD.policy.logged import Logged, log
from keepaliveD.policy.scan_times import ScanTimes
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.at_risk import at_risk
from keepaliveD.policy.verdicts.connections import by_urgency
from keepaliveD.policy.verdicts.judge import Judgement, count, judge, with_bare_presumed
from keepaliveD.policy.verdicts.measured import without_measured

NOTHING_SEEN = SocketTable(Sockets(), 0.0)
LONGEST_STOP = 30.0  # seconds in which sockets are put back at the end, while the worker goes on


class Life(enum.Enum):
    """What the daemon is doing."""

    STARTING = "starting"
    WAITING = "waiting"  # for the next scan
    SCANNING = "scanning"
    RELOADING = "reloading"
    SHOWING = "showing"  # the connections at risk, to the person who asked for one scan
    STOPPING = "stopping"


class Decider:
    """Decides what the daemon does: when it scans, what it sets and arms, what it reports, how it ends.

    A run that scans only `once` shows the connections at risk, and undoes everything that it has changed.
    """

    def __init__(self, rules: Rules, *, once: bool = False, dry_run: bool = False) -> None:
        self.rules = rules
        self.due = FOREVER  # the instant at which a Tick is wanted
        self.judgement = judge(NOTHING_SEEN, nothing_known(), rules.paths, ())  # of the last scan
        self._at_risk: tuple[AtRisk, ...] | None = None  # of it, once somebody has asked
        self._next_rules = rules  # those of a reload, until its session is open
        self._once = once
        self._dry_run = dry_run
        self._notes: tuple[str, ...] = ()
        self._scans = ScanDecider(rules)
        self._scan_times = ScanTimes()
        self.ended = EndedDecider(rules)
        self._life = Life.STARTING
        self._is_to_reload = False
        self._clients = Clients(self._scans)
        self._complaint = ""  # what is wrong with the configuration that a reload refused
        self._logged = Logged()
        self._at_connect = ""  # what to report about arming at connect
        self._error: Exception | None = None  # with which the daemon ends

    def decide(self, event: Event, now: float) -> list[Action]:
        """Return what to do about this event; instants are seconds of the clock of `now`."""
        match event:
            case Start():
                actions = self._on_start(event)
            case Tick():
                actions = self._on_tick(now)
            case Reload():
                actions = self._on_reload()
            case Stop(handing_over):
                actions = self._on_stop(now, handing_over=handing_over)
            case Idle():
                actions = self._on_idle(now)
            case Died(deaths):
                actions = self._on_died(deaths, now)
            case Asked():
                actions = self._on_asked(event, now)
            case _:
                actions = self._on_consequence(event, now)
        return actions

    def _on_consequence(self, event: Consequence, now: float) -> list[Action]:
        """Return what follows from what came of an action."""
        match event:
            case Loaded(rules):
                self._next_rules = rules
                actions: list[Action] = [OpenSession(rules.watching)]
            case Opened(description):
                self._logged.engine_description = description
                actions = self._scan(now) if self._life is Life.STARTING else self._follow()
            case Scanned():
                actions = self._on_scan(event)
            case SettingsRead(found):
                actions = self._scans.observe_settings(found, now)
            case BegunAtConnect():
                actions = self._on_begun_at_connect(event, now)
            case Done(action, outcomes):
                actions = self._on_done(action, outcomes, now)
            case Failed(action, error):
                actions = self._on_failed(action, error, now)
        return actions

    @property
    def status(self) -> Status:
        """Return how the daemon is."""
        return Status(
            count(self.judgement),
            self.rules.keepalive,
            self._scans.kept,
            self._dry_run,
            self._complaint,
            self._logged.blind,
            self._scans.suspended,
            dict(self._scans.results),
            self.ended.tally,
            (*self._scans.troubles, *self._logged.damaged),
            self._scans.refused,
        )

    @property
    def unseen(self) -> str:
        """Return what cannot be seen of ends of connections."""
        return self._logged.unseen

    @property
    def at_risk(self) -> tuple[AtRisk, ...]:
        """Return the units with connections at risk by the last scan; times are seconds from that scan."""
        if self._at_risk is None:
            self._at_risk = at_risk(self.judgement, self.ended.units)
        return self._at_risk

    def _on_start(self, start: Start) -> list[Action]:
        self._notes = start.notes
        return [OpenSession(self.rules.watching)]

    def _on_reload(self) -> list[Action]:
        self._is_to_reload = True
        return self._reload_if_asked()

    def _on_asked(self, asked: Asked, now: float) -> list[Action]:
        """Return what follows for a client of the control socket; its answer is among what comes of that."""
        if self._life is Life.STOPPING:
            return [Answer(asked.asker, Refusal("the daemon is about to stop"))]
        actions = self._clients.follow(asked, self.judgement, self.rules, self.ended.units)
        match asked.question:
            case ReloadNow():
                actions += self._on_reload()
            case ScanNow():
                self._scan_soon(now)
            case MeasuringThese(cookies):
                self.ended.count_apart(cookies)
        return actions

    def _on_stop(self, now: float, *, handing_over: bool) -> list[Action]:
        return [] if self._life is Life.STOPPING else self._stop(now, handing_over=handing_over)

    def _on_tick(self, now: float) -> list[Action]:
        if now < self.due:
            return []
        if self._life is Life.STOPPING:
            self.due = FOREVER
            reason = "cannot disarm, sockets stay armed: no answer; run keepalivectl disarm"
            self._error = self._error or KernelError(reason)
            return [Abandon(), *log(ReportRefused(reason)), EndAtConnect()]
        held = self.ended.report_due(now)
        if now < self._scan_times.next:
            self._wait()
            return held
        self._life = Life.SCANNING
        return [*held, *self._scan(now)]

    def _wait(self) -> None:
        """Ask for a Tick when the next scan is due, or ends that were held back are to be reported."""
        self.due = min(self._scan_times.next, self.ended.next_due)

    def _on_died(self, deaths: Deaths, now: float) -> list[Action]:
        actions = self.ended.observe(deaths, now)
        if self._life is Life.WAITING:
            self._wait()
        return actions

    def _scan_soon(self, now: float) -> None:
        """Ask for a scan that shows what was just changed: at once, or as soon as what goes on has ended."""
        self._scan_times.want(now)
        if self._life is Life.WAITING:
            self._wait()

    def _scan(self, now: float) -> list[Action]:
        self.due = FOREVER
        self._scan_times.begin(now)
        self._logged.begin_scan()
        self._clients.await_scan.begin()
        return [ScanSockets(with_settings=self.rules.keepalive is not None)]

    def _on_scan(self, scanned: Scanned) -> list[Action]:
        """Return what a scan leads to, in the order in which it is to be done."""
        table = scanned.table
        actions = self._logged.observe(table.engine_description, scanned.damaged)
        self._at_risk = None
        self.judgement, decided = self._scans.observe(table, scanned.found, self.ended.paths)
        actions += decided
        actions += self.ended.remember(self.judgement, self._scans.memory)
        actions += [RefreshAtConnect(), TidyArmingRecord(table)]
        if self._life is Life.STARTING:
            if any(isinstance(action, SetSystemKeepalive) for action in decided) and not self._dry_run:
                actions.append(ListOldServices())
            actions += self._restore_if_not_applied()
            if not self._once:
                actions += [AdmitReaders(self.rules.everyone_reads), ArmAtConnect(self.rules), *self._watch_deaths()]
        return actions

    def _on_done(self, action: Queued, outcomes: Sequence[Outcome], now: float) -> list[Action]:
        """Learn what came of an action, and return what to log of it."""
        actions: list[Action] = []
        self.ended.end_report(action)
        for outcome in outcomes:
            if self._logged.is_news(outcome):
                actions.append(LogOutcome(without_measured(outcome)))
            if isinstance(action, ShowAtRisk) or (
                isinstance(action, RestoreSettings | DisarmAll | EndAtConnect) and self._life is Life.STOPPING
            ):
                self._error = self._error or outcome.refused or _unfinished(outcome.action)
            if isinstance(action, RestoreSettings):
                continue
            self._scans.record(outcome)
            self.ended.learn(outcome)
            if isinstance(outcome.action, NameUnits):
                self._at_risk = None
            if self._life is Life.STARTING and outcome.refused and isinstance(action, SetSystemKeepalive):
                return self._stop(now, error=outcome.refused)
        answers = self._clients.answer_done(action, outcomes, self.judgement, self.rules, now)
        if answers and not isinstance(action, LookInto | RestoreSettings):
            self._scan_soon(now)  # so that what was changed is seen
        actions += answers
        if isinstance(action, TidyArmingRecord):
            actions += [*self._scans.report_left(), *self._end_scan(now)]
        return actions

    def _end_scan(self, now: float) -> list[Action]:
        """Return that connections are watched again, if they were not, and decide when to scan next."""
        self._scan_times.end(now, self.rules.interval, self._scans.next_deadline)
        return [*self._clients.await_scan.end(None), *self._logged.end_scan()]

    def _on_failed(self, action: Queued, error: Exception, now: float) -> list[Action]:
        """Keep the daemon going, whatever failed, unless it is about to start.

        A scan that fails is reported once and tried again at the next interval, or sooner for who asks. If a reload
        fails, for whatever reason, the old configuration stays.
        """
        if answers := self._clients.answer_failed(action, error):
            return answers
        reason = str(error if isinstance(error, Refusal) else unexpected(error))
        self._logged.fail()
        if self._life is Life.STOPPING:
            self._error = self._error or error
            return log(ReportRefused(reason))
        if isinstance(action, LoadConfiguration | OpenSession | ScanSockets | ShowAtRisk):
            if self._life in (Life.STARTING, Life.SHOWING):
                return self._stop(now, error=error)
            if not isinstance(action, ScanSockets):
                return self._on_reload_failed(reason, now)
        if isinstance(action, ReadSettings):
            return []  # the scan that failed before is reported
        actions: list[Action] = []
        if isinstance(action, ScanSockets | TidyArmingRecord):  # with which a scan begins and ends
            self._scan_times.end(now, self.rules.interval)
            actions += self._clients.await_scan.end(Refusal(reason))
        actions += self._logged.go_blind(reason)
        return [*actions, ReadSettings()] if isinstance(action, ScanSockets) and self.rules.keepalive else actions

    def _on_idle(self, now: float) -> list[Action]:
        """Go on to what follows once everything that was decided is carried out."""
        ended, self._life = self._life, Life.WAITING
        self._wait()
        match ended:
            case Life.STARTING if self._once:
                self._life, self.due = Life.SHOWING, FOREVER
                return [*self._report_started(), ShowAtRisk(by_urgency(self._judged_once(), at_risk_only=True))]
            case Life.STARTING:
                return [*self._report_started(), Notify(Phase.READY), *self._reload_if_asked()]
            case Life.RELOADING:
                report = self._report_reloaded()
                return [*report, Notify(Phase.READY), *self._answer_reloads(), *self._reload_if_asked()]
            case Life.SHOWING:
                return self._stop(now)
            case Life.STOPPING:
                self._life = ended
                return [EndDaemon(self._error)]
            case _:
                return self._reload_if_asked()

    def _judged_once(self) -> Judgement:
        """Return the judgement of a run that scans once: it has not seen whether peers probe."""
        return with_bare_presumed(self.judgement, self.judgement.table.taken_at)

    def _report_started(self) -> list[Action]:
        report = ReportStarted(self.status, self._logged.engine_description, self._at_connect, self.unseen, self._notes)
        return [*log(report), *self._report_doubts()]

    def _report_reloaded(self) -> list[Action]:
        """Report a reload once a scan has applied it, so that the report says what could be applied."""
        if self._complaint:
            return []
        return [*log(ReportReloaded(self.status, self._at_connect, self.unseen)), *self._report_doubts()]

    def _report_doubts(self) -> list[Action]:
        """Report the warnings of `keepalivectl check`: whoever reloads by systemctl does not see them otherwise."""
        return log(ReportDoubts(self.rules.doubts)) if self.rules.doubts else []

    def _reload_if_asked(self) -> list[Action]:
        """Begin a reload that was asked for, unless something else is going on: that ends first."""
        if not (self._is_to_reload and self._life is Life.WAITING):
            return []
        self._is_to_reload, self._life, self.due = False, Life.RELOADING, FOREVER
        self._clients.await_reload.begin()
        return [Notify(Phase.RELOADING), LoadConfiguration()]

    def _answer_reloads(self) -> list[Action]:
        """Answer those who have asked for the reload that ends: with what was wrong, if anything was."""
        problem = ConfigError(self._complaint.removesuffix("; ")) if self._complaint else None
        return self._clients.await_reload.end(problem)

    def _follow(self) -> list[Action]:
        """Follow the rules of a reload, whose session is open."""
        self.rules, self._complaint = self._next_rules, ""
        self._scans.follow(self.rules)
        self.ended.follow(self.rules)
        admit = AdmitReaders(self.rules.everyone_reads)
        return [*self._restore_if_not_applied(), admit, *self._watch_deaths(), ArmAtConnect(self.rules)]

    def _watch_deaths(self) -> list[Action]:
        """See ends, or stop seeing them, as the rules say; a dry run attaches nothing to the kernel."""
        return [] if self._dry_run else [WatchDeaths(self.rules)]

    def _on_begun_at_connect(self, begun: BegunAtConnect, now: float) -> list[Action]:
        """Return the scan that applies the rules of a reload; at a start, it has been."""
        self._at_connect = begun.report
        actions = log(ReportRefused(begun.problem)) if begun.problem else []
        return [*actions, *self._scan(now)] if self._life is Life.RELOADING else actions

    def _on_reload_failed(self, reason: str, now: float) -> list[Action]:
        lines = [f"reload failed, the old configuration stays: {line}" for line in reason.splitlines()]
        self._complaint = f"{lines[0]}; "
        return [*log(ReportReloadFailed(lines)), *self._scan(now)]

    def _restore_if_not_applied(self) -> list[Action]:
        """Restore the settings at once if the configuration does not apply any."""
        return [RestoreSettings()] if self.rules.keepalive is None and self.rules.restore_on_stop else []

    def _stop(self, now: float, *, handing_over: bool = False, error: Exception | None = None) -> list[Action]:
        """Restore the settings and disarm the sockets, as far as the rules say so.

        Settings are restored before sockets are disarmed, because a socket takes from its network namespace what
        its program did not choose. A run that scans once disarms at least the sockets that it has armed.
        """
        has_started = error is None or self._life is not Life.STARTING
        actions: list[Action] = [Abandon()]
        if has_started:
            actions.append(Notify(Phase.STOPPING))
        if self.rules.restore_on_stop and not handing_over:
            actions.append(RestoreSettings())
        actions.append(SeeLastDeaths())
        disarms_all = self.rules.disarm_on_stop and not handing_over
        if self._once or (disarms_all and has_started):
            actions.append(DisarmAll(only_mine=not disarms_all))
        elif has_started and not handing_over:
            sockets = self.judgement.table.sockets
            actions.append(ReportStillArmed(sockets["cookie"][sockets["keepalive"] != Switch.OFF.value]))
        self._life, self._error, self.due = Life.STOPPING, self._error or error, now + LONGEST_STOP
        return [*actions, *self.ended.report_last(now), EndAtConnect()]


def _unfinished(action: Action) -> Refusal | None:
    """Return with what the daemon ends if sockets were not found that were to be disarmed."""
    if isinstance(action, ReportStillArmed) and action.missed and action.count:
        return Unfinished(f"{connections(action.count)} on record not found, so not disarmed; run keepalivectl disarm")
    return None
