"""The daemon's life: scan, act, wait; reload; stop and restore."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from keepaliveD import __version__
from keepaliveD.config import Config, doubts
from keepaliveD.daemon.loop import Loop, Surroundings
from keepaliveD.daemon.perform import Performer, Records
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.log import entries
from keepaliveD.log.entries import ERROR, INFO, NOTICE, WARNING, Entry
from keepaliveD.log.journal import Log
from keepaliveD.model.actions import Arm, ReadIdleTimes, SetSystemKeepalive
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import Refusal, unexpected
from keepaliveD.model.results import Outcome
from keepaliveD.model.sockets import SocketTable
from keepaliveD.platforms.base import Platform, Tuner, Watching
from keepaliveD.platforms.requests import Open, Scan, Steps, find_owners
from keepaliveD.policy.activity import nothing_known
from keepaliveD.policy.connect import plan
from keepaliveD.policy.connections import by_urgency
from keepaliveD.policy.decider import Decider, Rules
from keepaliveD.policy.judge import Judgement, count, judge
from keepaliveD.records.settings import SettingsRecord

SHORTEST_PAUSE = 0.05  # seconds between two scans
COSTS = 20  # a scan for the sake of a deadline waits so many times as long as the last one took
LONGEST_STOP = 30.0  # seconds in which sockets are put back at the end, while the worker goes on


class Daemon:
    """One run of the daemon. Without `records` it is a dry run, which writes nothing to the kernel."""

    def __init__(
        self, config: Config, platform: Platform, records: Records | None, log: Log, outside: Surroundings
    ) -> None:
        self._config = config
        self._platform = platform
        self._records = records
        self._log = log
        self._outside = outside
        self._performer = Performer(platform, records)
        self._loop = Loop(outside, self._due, self._pause, self._show_life)
        self._engine_description = ""
        self._blind = ""  # why connections are not being watched
        self._cannot_tidy = False
        self._damaged: tuple[str, ...] = ()  # what was reported of damaged records of armed sockets
        self._complaint = ""  # what is wrong with the configuration that a reload refused
        self._decider = Decider(self._rules())
        self._slept = outside.slept()
        self._scanned = outside.now(), outside.now()  # when the last scan began, and when it ended
        self.judgement: Judgement

    def run(self) -> None:
        """Run until a signal ends it, and restore the settings whatever ends it.

        Raises Refusal if it cannot start; then it has changed nothing.
        """
        with self.restoring():
            if self._loop.do(self.start()):
                self._outside.notify("READY=1", self._status())
                self._loop.run()
        self.stop()

    def run_once(self, show: Callable[[Sequence[Connection]], None]) -> None:
        """Scan once, show the connections at risk, and undo everything that the run has changed.

        Raises Refusal.
        """
        with self.restoring():
            started = self._loop.do(self.start(once=True))
            try:
                if started:
                    self._loop.do(self._show(show))
            finally:
                self.stop(undo=True)

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Restore the settings if an error ends this block, unless the configuration keeps them after any end."""
        with restoring(
            self._platform.tuner,
            self._records.settings if self._records else None,
            self._log,
            lambda: self._config.restore_on_stop,
        ):
            yield

    def _show(self, show: Callable[[Sequence[Connection]], None]) -> Steps[None]:
        show((yield from find_owners(by_urgency(self.judgement, at_risk_only=True))))

    def start(self, *, once: bool = False) -> Steps[None]:
        """Scan for the first time and apply the settings. A run that scans only `once` does not arm at connect."""
        self._engine_description = yield Open(self._watching())
        outcomes = yield from self._scan()
        for outcome in outcomes:
            if outcome.refused and not isinstance(outcome.action, Arm | ReadIdleTimes):
                yield from self._disarm(only_mine=True)
                raise outcome.refused
        self._report_outcomes(outcomes)
        self._report_services_with_old_settings(outcomes)
        self._restore_if_not_applied()
        for note in self._platform.notes:
            self._report("started", NOTICE, f"{self._platform.name}: {note}")
        at_connect = "" if once else self._arm_at_connect()
        said = (f"tcp-keepalived {__version__}: {self._summary()}", self._engine_description, at_connect)
        self._report("started", INFO, "; ".join(filter(None, said)))
        self._report_doubts()

    def stop(self, *, undo: bool = False) -> None:
        """Restore the settings, if the configuration says so. Raises Refusal if that fails.

        Settings are restored before sockets are disarmed, because a socket takes from its network namespace what its
        program did not choose. `undo`: disarm also the sockets that this run has armed.
        """
        self._outside.notify("STOPPING=1")
        handing_over = self._outside.handing_over()
        refusal = self._restore_settings() if self._config.restore_on_stop and not handing_over else None
        if undo or (self._config.disarm_on_stop and not handing_over):
            only_mine = undo and not self._config.disarm_on_stop
            if not self._loop.finish(self._disarm(only_mine=only_mine), within=LONGEST_STOP):
                self._report("refused", ERROR, "cannot disarm, sockets stay armed: no answer; run keepalivectl disarm")
        if lost := self._performer.close():
            self._report("refused", ERROR, lost)
        if refusal:
            raise refusal

    def _due(self) -> Steps[None] | None:
        """Begin the reload or scan that is due by now, if any."""
        if self._loop.is_to_reload:
            self._loop.is_to_reload = False
            return self._reload()
        return self._scan_again() if self._outside.now() >= self._next_scan() else None

    def _next_scan(self) -> float:
        """Return when to scan again: at the interval, or sooner at a deadline, as far as scans are cheap."""
        began, ended = self._scanned
        deadline = max(self._decider.next_deadline, ended + max(SHORTEST_PAUSE, COSTS * (ended - began)))
        return min(ended + self._config.interval, deadline)

    def _pause(self) -> float:
        return max(0.0, self._next_scan() - self._outside.now())

    def _show_life(self) -> None:
        self._outside.notify("WATCHDOG=1", self._status())

    def _rules(self) -> Rules:
        config = self._config
        wanted = self._platform.tuner.names(config.keepalive) if config.apply else {}
        roles = self._platform.tuner.roles if config.keep_stricter else None
        return Rules(wanted, config.on_drift, config.paths, config.ignore, config.warn_before, config.arm, roles)

    def _watching(self) -> Watching:
        config = self._config
        return Watching(config.engine, config.all_namespaces, config.selects_by_interface, tuple(config.ignore))

    def _arm_at_connect(self) -> str:
        """Begin to arm at connect, if rules ask for it; return what to report about it."""
        config = self._config
        wanted = plan(config.arm, config.ignore, config.paths)
        said, stale = self._performer.arm_at_connect(
            wanted, config.engine, everywhere=config.all_namespaces, survive=config.survive_stop
        )
        if stale:
            self._report("refused", ERROR, stale)
        return said

    def _scan(self) -> Steps[list[Outcome]]:
        """Scan, decide, carry out the actions, and return their outcomes."""
        began = self._outside.now()
        self._scanned = began, began  # also if the scan fails
        table = yield Scan(began)
        asleep, self._slept = self._outside.slept() - self._slept, self._outside.slept()
        table = dataclasses.replace(table, reading=self._outside.now() - began, asleep=asleep)
        if table.engine_description != self._engine_description:
            self._engine_description = table.engine_description
            self._report("scan-failed", WARNING, f"switched to the {self._engine_description}")
        self._keep_damaged_aside()
        found = self._performer.read_settings(cared_for=self._config.apply)
        self.judgement, actions = self._decider.observe(table, found)
        outcomes = []
        for action in actions:
            if self._decider.given_up(action):
                continue
            outcome = yield from self._performer.perform(action)
            self._decider.record(outcome)
            outcomes.append(outcome)
        for outcome in self._performer.refresh_at_connect():
            self._decider.record(outcome)
            outcomes.append(outcome)
        self._tidy(table)
        self._scanned = began, self._outside.now()
        return outcomes

    def _keep_damaged_aside(self) -> None:
        """Keep a damaged record of armed sockets aside before it is needed, and report each of these once."""
        if self._records is None:
            return
        with contextlib.suppress(Refusal):  # whoever needs a record that cannot be read reports that
            before, self._damaged = self._damaged, self._records.arming.set_aside()
            for line in self._damaged:
                if line not in before:
                    self._report("record", ERROR, line)

    def _tidy(self, table: SocketTable) -> None:
        """Remove closed sockets from the arming record. If that fails, the record only grows; report it once."""
        if self._records is None or not table.complete:
            return
        try:
            self._records.arming.tidy(table.sockets["cookie"])
        except Refusal as refusal:
            if not self._cannot_tidy:
                self._report("refused", ERROR, str(refusal))
            self._cannot_tidy = True
        else:
            self._cannot_tidy = False

    def _report_services_with_old_settings(self, outcomes: Iterable[Outcome]) -> None:
        """Report the services that keep the old settings until they restart, on systems where services do so."""
        if not any(isinstance(outcome.action, SetSystemKeepalive) and not outcome.dry_run for outcome in outcomes):
            return
        try:
            ends = self._platform.unreached()
        except Refusal as refusal:
            self._report("applied", NOTICE, f"cannot list services that use the old settings: {refusal}")
            return
        if ends:
            listening = ", ".join(ends)
            message = f"restart the services listening on {listening}: they still use the old settings"
            self._report("applied", NOTICE, message)

    def _report_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            for entry in entries.of(outcome):
                self._log(entry)

    def _scan_again(self) -> Steps[None]:
        """Scan. A scan that fails, for whatever reason, is reported once and tried again at the next interval."""
        try:
            self._report_outcomes((yield from self._scan()))
        except Exception as error:  # a host full of strangers: what nobody foresaw must not end the watch
            before, self._blind = self._blind, f"scan failed; connections are not being watched: {_reason(error)}"
            if not before:
                self._report("scan-failed", ERROR, self._blind)
        else:
            if self._blind:
                self._report("scan-failed", NOTICE, "scan succeeded; connections are being watched again")
            self._blind = ""

    def _reload(self) -> Steps[None]:
        """Apply the new configuration, or keep the old one if the new one is wrong."""
        self._outside.reloading()
        before = self._config
        try:
            self._config = self._outside.load()
            rules = self._rules()
            self._engine_description = yield Open(self._watching())
        except Exception as error:  # whatever is wrong with the new one, the old one is good
            self._config = before
            said = [f"reload failed, the old configuration stays: {line}" for line in _reason(error).splitlines()]
            for line in said:
                self._report("reload-failed", ERROR, line)
            self._complaint = f"{said[0]}; "
        else:
            self._complaint = ""
            self._decider.follow(rules)
            self._restore_if_not_applied()
            news = (f"configuration reloaded: {self._summary()}", self._arm_at_connect())
            self._report("reloaded", NOTICE, "; ".join(filter(None, news)))
            self._report_doubts()
        yield from self._scan_again()  # a reload is complete once a scan has applied it
        self._outside.notify("READY=1", self._status())

    def _restore_if_not_applied(self) -> None:
        """Restore the settings at once if the configuration no longer applies any."""
        if not self._config.apply and self._config.restore_on_stop:
            self._restore_settings()

    def _disarm(self, *, only_mine: bool = False) -> Steps[None]:
        """Disarm the recorded sockets that still exist."""
        if self._records is None:
            return
        try:
            look = judge((yield Scan(self._outside.now())), nothing_known(), self._config.paths, ())
            self._performer.take_over()
            self._report_outcomes([(yield from self._performer.disarm(look, only_mine=only_mine))])
            if not only_mine:
                self._records.arming.forget_left_alone()
        except Refusal as refusal:
            self._report("refused", ERROR, f"cannot disarm, sockets stay armed: {refusal}")

    def _restore_settings(self) -> Refusal | None:
        """Restore the settings and report it; return the reason if that fails."""
        try:
            outcomes = self._performer.restore()
        except Refusal as refusal:
            self._report("refused", ERROR, str(refusal))
            return refusal
        self._report_outcomes(outcomes)
        return next((outcome.refused for outcome in outcomes if outcome.refused), None)

    def _summary(self) -> str:
        return f"{entries.counts_line(count(self.judgement))}; {self._intent()}"

    def _intent(self) -> str:
        if not self._config.apply:
            return "system keepalive left alone (keepalive.apply = false)"
        kept = ", ".join(f"{key} = {value}" for key, value in self._decider.kept.items())
        intent = f"system keepalive {self._config.keepalive}" + (f", but {kept}" if kept else "")
        return intent + (" (dry run)" if self._records is None else "")

    def _report_doubts(self) -> None:
        """Log the warnings of `keepalivectl check`: whoever reloads by systemctl does not see them otherwise."""
        for line in doubts.warnings(self._config):
            self._report("doubtful", WARNING, f"configuration: {line}")

    def _status(self) -> str:
        results = entries.results_line(self._decider.results)
        return f"STATUS={self._complaint}{self._blind or self._summary()}" + (f"; {results}" if results else "")

    def _report(self, event: str, priority: int, message: str) -> None:
        self._log(Entry(event, priority, message))


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


def _reason(error: Exception) -> str:
    return str(error if isinstance(error, Refusal) else unexpected(error))
