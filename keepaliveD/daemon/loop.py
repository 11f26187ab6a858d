"""The daemon's life: look, act, wait; reload; stop and give back."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from keepaliveD import __version__
from keepaliveD.config import Config, doubts
from keepaliveD.daemon.perform import Performer, Records
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.daemon.signals import RELOAD, STOP
from keepaliveD.log import entries
from keepaliveD.log.entries import ERROR, INFO, NOTICE, WARNING, Entry
from keepaliveD.log.journal import Log
from keepaliveD.model.actions import Arm, SetSystemKeepalive
from keepaliveD.model.errors import Refusal, unexpected
from keepaliveD.model.results import Outcome
from keepaliveD.model.sockets import SocketTable
from keepaliveD.platforms.base import Platform, Tuner, Watcher
from keepaliveD.policy.activity import nothing_known
from keepaliveD.policy.connect import plan
from keepaliveD.policy.decider import Decider, Rules
from keepaliveD.policy.judge import Judgement, count, judge
from keepaliveD.records.settings import SettingsRecord

SHORTEST_PAUSE = 0.05  # seconds between two scans
COSTS = 20  # a scan for the sake of a deadline waits so many times as long as the last one took


class Surroundings(Protocol):
    """The process that the daemon lives in; tests put a stepped clock here."""

    watchdog: float  # seconds after which the service manager expects a sign of life

    def now(self) -> float:
        """Return seconds that never go back, those in which the machine was suspended included."""

    def slept(self) -> float:
        """Return the seconds in which the machine was suspended since it booted."""

    def wait(self, seconds: float) -> signal.Signals | None:
        """Return the next signal, or None once the time is over."""

    def notify(self, *assignments: str) -> None:
        """Send these to the service manager, without waiting for it."""

    def reloading(self) -> None:
        """Tell the service manager that a reload begins."""

    def load(self) -> Config:
        """Read the configuration again. Raises ConfigError, NoInput."""

    def handing_over(self) -> bool:
        """Whether a successor takes the settings over at once, as in an upgrade."""


class Daemon:
    """One run. Without `records` it is a dry run: the kernel is left as it is."""

    def __init__(
        self, config: Config, platform: Platform, records: Records | None, log: Log, outside: Surroundings
    ) -> None:
        self._config = config
        self._platform = platform
        self._records = records
        self._log = log
        self._outside = outside
        self._performer = Performer(platform, records)
        self._watcher = self._watch()
        self._blind = False
        self._untidy = False
        self._damaged: tuple[str, ...] = ()  # what was reported of damaged records of armed sockets
        self._complaint = ""  # what is wrong with the configuration that was not taken
        self._decider = Decider(self._rules())
        self._slept = outside.slept()
        self._looked = outside.now(), outside.now()  # when the last scan began, and when it ended
        self.judgement: Judgement

    def run(self) -> None:
        """Live until a signal ends it, and restore the settings whatever ends it.

        Raises Refusal, having changed nothing, where it cannot start.
        """
        with self.restoring():
            self.start()
            self._live()
        self.stop()

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Restore the settings where this block is ended by an error, unless they are to stay after any end."""
        with restoring(
            self._platform.tuner,
            self._records.settings if self._records else None,
            self._log,
            lambda: self._config.restore_on_stop,
        ):
            yield

    def _live(self) -> None:
        self._outside.notify("READY=1", self._status())
        while (caught := self._outside.wait(self._pause(self._next_look()))) not in STOP:
            if caught is RELOAD:
                self._reload()
            if self._outside.now() >= self._next_look():
                self._look_again()
            self._outside.notify("WATCHDOG=1", self._status())

    def start(self, *, once: bool = False) -> None:
        """Take the first look and tune. A run that ends `once` that is done leaves new connections alone."""
        outcomes = self._look()
        for outcome in outcomes:
            if outcome.refused and not isinstance(outcome.action, Arm):
                self._disarm(only_mine=True)
                self._watcher.close()
                raise outcome.refused
        self._tell(outcomes)
        self._tell_unreached(outcomes)
        self._let_go()
        for note in self._platform.notes:
            self._say("started", NOTICE, f"{self._platform.name}: {note}")
        at_connect = "" if once else self._arm_at_connect()
        said = (f"tcp-keepalived {__version__}: {self._summary()}", self._watcher.engine, at_connect)
        self._say("started", INFO, "; ".join(filter(None, said)))
        self._say_doubts()

    def stop(self, *, undo: bool = False) -> None:
        """Give back what was found, if that is wanted. Raises Refusal where that fails.

        Settings go back before sockets, which take from their namespace what their programs did not choose.
        `undo`: also the sockets that this run has armed.
        """
        self._outside.notify("STOPPING=1")
        handing_over = self._outside.handing_over()
        refusal = self._give_back() if self._config.restore_on_stop and not handing_over else None
        if undo or (self._config.disarm_on_stop and not handing_over):
            self._disarm(only_mine=undo and not self._config.disarm_on_stop)
        self._watcher.close()
        if lost := self._performer.close():
            self._say("refused", ERROR, lost)
        if refusal:
            raise refusal

    def _next_look(self) -> float:
        """Return when to scan again: at the interval, or sooner at a deadline, as far as scans are cheap."""
        began, ended = self._looked
        deadline = max(self._decider.next_deadline, ended + max(SHORTEST_PAUSE, COSTS * (ended - began)))
        return min(ended + self._config.interval, deadline)

    def _pause(self, next_look: float) -> float:
        return max(0.0, min(next_look - self._outside.now(), self._outside.watchdog))

    def _rules(self) -> Rules:
        config = self._config
        wanted = self._platform.tuner.names(config.keepalive) if config.apply else {}
        roles = self._platform.tuner.roles if config.keep_stricter else None
        return Rules(wanted, config.on_drift, config.paths, config.ignore, config.warn_before, config.arm, roles)

    def _watch(self) -> Watcher:
        config = self._config
        return self._platform.watcher(
            engine=config.engine,
            all_namespaces=config.all_namespaces,
            with_interfaces=config.selects_by_interface,
            ignore=config.ignore,
        )

    def _arm_at_connect(self) -> str:
        """Have new connections armed while they are opened, where rules want that; what came of it."""
        config = self._config
        wanted = plan(config.arm, config.ignore, config.paths)
        said, stale = self._performer.arm_at_connect(
            wanted, config.engine, everywhere=config.all_namespaces, survive=config.survive_stop
        )
        if stale:
            self._say("refused", ERROR, stale)
        return said

    def _look(self) -> list[Outcome]:
        """One scan and all that follows from it."""
        engine, began = self._watcher.engine, self._outside.now()
        self._looked = began, began  # whatever comes of it
        table = self._watcher.snapshot(began)
        asleep, self._slept = self._outside.slept() - self._slept, self._outside.slept()
        table = dataclasses.replace(table, reading=self._outside.now() - began, asleep=asleep)
        if engine != self._watcher.engine:
            self._say("scan-failed", WARNING, f"another way of watching had to be taken: {self._watcher.engine}")
        self._keep_damaged_aside()
        found = self._performer.look_at_settings(cared_for=self._config.apply)
        self.judgement, actions = self._decider.observe(table, found)
        outcomes = []
        for action in actions:
            if self._decider.given_up(action):
                continue
            outcome = self._performer.perform(action)
            self._decider.record(outcome)
            outcomes.append(outcome)
        for outcome in self._performer.look_around():
            self._decider.record(outcome)
            outcomes.append(outcome)
        self._tidy(table)
        self._looked = began, self._outside.now()
        return outcomes

    def _keep_damaged_aside(self) -> None:
        """Keep a damaged record of armed sockets aside before it is needed, and report each of these once."""
        if self._records is None:
            return
        with contextlib.suppress(Refusal):  # whoever needs a record that cannot be read reports that
            before, self._damaged = self._damaged, self._records.arming.set_aside()
            for line in self._damaged:
                if line not in before:
                    self._say("record", ERROR, line)

    def _tidy(self, table: SocketTable) -> None:
        """Clear the record of sockets that are gone; where that fails it stays long, which is told once."""
        if self._records is None or not table.complete:
            return
        try:
            self._records.arming.tidy(table.sockets["cookie"])
        except Refusal as refusal:
            if not self._untidy:
                self._say("refused", ERROR, str(refusal))
            self._untidy = True
        else:
            self._untidy = False

    def _tell_unreached(self, outcomes: Iterable[Outcome]) -> None:
        """Name the servers that new settings do not reach, where the system is such."""
        if not any(isinstance(outcome.action, SetSystemKeepalive) and not outcome.dry_run for outcome in outcomes):
            return
        try:
            ends = self._platform.unreached()
        except Refusal as refusal:
            self._say("applied", NOTICE, f"who listens under the old settings cannot be told: {refusal}")
            return
        if ends:
            self._say("applied", NOTICE, f"restart who listens at {', '.join(ends)}: they keep to the old settings")

    def _tell(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            for entry in entries.of(outcome):
                self._log(entry)

    def _look_again(self) -> None:
        """Scan; one that fails, for whatever reason, is reported once and tried again at the next turn."""
        try:
            self._tell(self._look())
        except Exception as error:  # a host full of strangers: what nobody foresaw must not end the watch
            if not self._blind:
                self._say("scan-failed", ERROR, f"scan failed; connections are not being watched: {_reason(error)}")
            self._blind = True
        else:
            if self._blind:
                self._say("scan-failed", NOTICE, "scan succeeded; connections are being watched again")
            self._blind = False

    def _reload(self) -> None:
        """Go by the new configuration; keep the old one if the new one is wrong."""
        self._outside.reloading()
        before = self._config
        try:
            self._config = self._outside.load()
            rules = self._rules()
            watcher = self._watch()
        except Exception as error:  # whatever is wrong with the new one, the old one is good
            self._config = before
            said = [f"configuration not reloaded, the old one stays: {line}" for line in _reason(error).splitlines()]
            for line in said:
                self._say("reload-failed", ERROR, line)
            self._complaint = f"{said[0]}; "
        else:
            self._complaint = ""
            self._watcher.close()
            self._watcher = watcher
            self._decider.follow(rules)
            self._let_go()
            news = (f"configuration reloaded: {self._summary()}", self._arm_at_connect())
            self._say("reloaded", NOTICE, "; ".join(filter(None, news)))
            self._say_doubts()
        self._look_again()  # ready is who has put it in force
        self._outside.notify("READY=1", self._status())

    def _let_go(self) -> None:
        """Settings that are no longer in our care, by a changed configuration, go back at once."""
        if not self._config.apply and self._config.restore_on_stop:
            self._give_back()

    def _disarm(self, *, only_mine: bool = False) -> None:
        """Put back the sockets that were armed, as far as they are still there."""
        if self._records is None:
            return
        try:
            look = judge(self._watcher.snapshot(self._outside.now()), nothing_known(), self._config.paths, ())
            self._performer.take_over()
            self._tell([self._performer.disarm(look, only_mine=only_mine)])
            if not only_mine:
                self._records.arming.forget_left()
        except Refusal as refusal:
            self._say("refused", ERROR, f"sockets stay armed: {refusal}")

    def _give_back(self) -> Refusal | None:
        """Restore what was found, and tell; the reason where that fails."""
        try:
            outcomes = self._performer.restore()
        except Refusal as refusal:
            self._say("refused", ERROR, str(refusal))
            return refusal
        self._tell(outcomes)
        return next((outcome.refused for outcome in outcomes if outcome.refused), None)

    def _summary(self) -> str:
        return f"{entries.counts_line(count(self.judgement))}; {self._intent()}"

    def _intent(self) -> str:
        if not self._config.apply:
            return "system keepalive left alone"
        kept = ", ".join(f"{key} = {value}" for key, value in self._decider.kept.items())
        intent = f"system keepalive {self._config.keepalive}" + (f", but {kept}" if kept else "")
        return intent + (" (dry run)" if self._records is None else "")

    def _say_doubts(self) -> None:
        """Log what `keepalivectl check` warns of: who reloads by systemctl does not see it otherwise."""
        for line in doubts.warnings(self._config):
            self._say("doubtful", WARNING, f"configuration: {line}")

    def _status(self) -> str:
        fates = entries.fates_line(self._decider.fates)
        return f"STATUS={self._complaint}{self._summary()}" + (f"; {fates}" if fates else "")

    def _say(self, event: str, priority: int, message: str) -> None:
        self._log(Entry(event, priority, message))


@contextlib.contextmanager
def restoring(
    tuner: Tuner, record: SettingsRecord | None, log: Log, wanted: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Restore the settings that are on record where this block is ended by an error.

    They may be an earlier daemon's, which was killed or has handed them over: nobody else is left to
    restore them.
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
