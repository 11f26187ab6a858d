"""Decide what to do about a scan: which settings to write, what to arm, what to report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from keepaliveD.model.actions import NOT_CARED_FOR, Action, Arm, AskFirewall, FoundSettings, Outcome, ReadIdleTimes
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.reports import ReportArmed, ReportConnections, ReportNearlyFull, ReportRecord, ReportUnwatched
from keepaliveD.model.results import RETRIED, ArmingResult
from keepaliveD.model.rules import Path, Rules
from keepaliveD.model.sockets import ALL_WATCHED, Bools, SocketTable
from keepaliveD.policy import gaps
from keepaliveD.policy.arming import arming
from keepaliveD.policy.arming.suspension import LASTING, Suspension, refused
from keepaliveD.policy.sysctls import SystemKeepalive
from keepaliveD.policy.verdicts import activity, announce, firewall, idle_times
from keepaliveD.policy.verdicts.activity import Activity
from keepaliveD.policy.verdicts.connections import select
from keepaliveD.policy.verdicts.forecast import Forecast
from keepaliveD.policy.verdicts.judge import Judgement, judge

VERDICTS = {int(verdict): verdict for verdict in Verdict}


class ScanDecider:
    """Judges each scan against the memory of the scans before."""

    def __init__(self, rules: Rules) -> None:
        self._memory = activity.nothing_known()
        self._gaps = gaps.Known()
        self._nearly_full = firewall.NearlyFull()
        self.next_deadline = FOREVER  # instant at which a scan would make a verdict certain
        self._troubles: tuple[str, ...] = ()
        self.results: Counter[ArmingResult] = Counter()
        self._now = 0.0  # of the scan
        self._withheld: tuple[Judgement, Bools] | None = None  # whose reports wait for what becomes of arming
        self._rules = rules
        self.follow(rules)

    def follow(self, rules: Rules) -> None:
        """Apply other rules from now on, and keep what is known of the sockets."""
        self._memory = arming.reconsider(self._memory)
        if rules.paths != self._rules.paths:
            self._memory = activity.without_survived(self._memory)
        self._rules = rules
        self._suspension: Suspension | None = None
        self._cannot_read = False
        self._settings = SystemKeepalive(rules.wanted, rules.on_drift, rules.roles)

    def observe(
        self, table: SocketTable, found: FoundSettings = NOT_CARED_FOR, with_evidence: Sequence[Path] | None = None
    ) -> tuple[Judgement, list[Action]]:
        """Judge this scan, and decide what to do about it and about these system settings.

        `with_evidence` are the paths by which to warn, where they are not those by which to arm.
        """
        self._now = table.taken_at
        judgement = judge(table, self._memory, self._rules.paths, self._rules.ignore, with_evidence)
        to_put_back, memory = arming.to_put_back(judgement)
        judgement = replace(judgement, activity=memory)
        suspended = self._suspension is not None and table.taken_at < self._suspension.until
        to_arm, memory = ([], memory) if suspended else arming.plan(judgement.to_arm_by, self._rules.arm)
        being_armed = arming.planned(judgement.activity, memory) if to_arm else None
        to_read, memory = idle_times.to_read(judgement, memory, self._rules.warn_before)
        to_ask, memory = firewall.to_ask(judgement, memory, self._rules.warn_before)
        waiting = [each for each in (being_armed, firewall.awaited(to_ask, judgement.forecast)) if each is not None]
        news, self._memory = announce.select_news(
            judgement.forecast, memory, judgement.table.sockets, self._rules.warn_before, *waiting
        )
        actions = [
            *self.observe_settings(found, table.taken_at),
            *to_put_back,
            *to_arm,
            *([] if self._cannot_read else to_read),
            *to_ask,
        ]
        actions += self._report_unwatched(table)
        full, self._nearly_full = firewall.nearly_full(table.tracked, self._nearly_full, table.taken_at)
        if full:
            actions.append(ReportNearlyFull(full))
        actions += _report(judgement, news)
        self._withheld = (judgement, being_armed) if being_armed is not None else None
        self.next_deadline = _next_deadline(judgement.forecast)
        return judgement, actions

    def report_left(self) -> list[Action]:
        """Return the report of those connections that were to be armed since the scan and are left as they are."""
        if self._withheld is None:
            return []
        (judgement, being_armed), self._withheld = self._withheld, None
        others = ~(being_armed & arming.are_left(self._memory))
        news, self._memory = announce.select_news(
            judgement.forecast, self._memory, judgement.table.sockets, self._rules.warn_before, others
        )
        return _report(judgement, news)

    def consult_firewall(self, judgement: Judgement, connections: Sequence[Connection]) -> list[AskFirewall]:
        """Return the question to this host's own firewall about connections of the last scan, if it is worth one."""
        actions, self._memory = firewall.to_ask_about(judgement, self._memory, connections)
        return actions

    @property
    def memory(self) -> Activity:
        """Return what is remembered of the sockets of the last scan."""
        return self._memory

    def observe_settings(self, found: FoundSettings, now: float) -> list[Action]:
        """Decide what to do about these system settings alone."""
        return [*self._report_record(found.troubles), *self._settings.observe(found, now)]

    def leave_settings(self, keys: Iterable[str] | None) -> frozenset[str]:
        """Leave these settings of the system, or all, as they are from now on, until other rules apply.

        Return those that were cared for until now.
        """
        return self._settings.leave(keys)

    def care_for_settings(self, keys: Iterable[str]) -> None:
        """Care for these settings of the system again."""
        self._settings.care_for(keys)

    @property
    def kept(self) -> Mapping[str, int]:
        """Return the settings that stand in place of the wanted ones, because they are stricter."""
        return self._settings.kept

    @property
    def refused(self) -> Mapping[str, str]:
        """Return the settings of the system that could not be set when that was last tried, with the reasons."""
        return self._settings.refused

    @property
    def troubles(self) -> tuple[str, ...]:
        """Return what is wrong with the settings record, by the last look at it."""
        return self._troubles

    @property
    def suspended(self) -> str:
        """Return for how long arming had been suspended when the last scan began, and why; nothing where it is not."""
        return self._suspension.describe(self._now) if self._suspension else ""

    def _report_unwatched(self, table: SocketTable) -> list[Action]:
        """Return the report of network namespaces that are not watched, or not completely, if that is news."""
        news, self._gaps = gaps.news(table.unwatched, self._gaps, table.taken_at, table.netns)
        return [ReportUnwatched(news)] if news != ALL_WATCHED else []

    def _report_record(self, troubles: tuple[str, ...]) -> list[Action]:
        """Return the report of what is new about the settings record, if anything is."""
        before, self._troubles = self._troubles, troubles
        news = tuple(line for line in troubles if line not in before)
        return [ReportRecord(news)] if news or (before and not troubles) else []

    def record(self, outcome: Outcome) -> None:
        """Learn the outcome of an action."""
        self._settings.record(outcome)
        if isinstance(outcome.action, ReportArmed):
            self.results[ArmingResult.ARMED_AT_CONNECT] += outcome.action.counted.sockets
        if isinstance(outcome.action, Arm):
            suspension, self._suspension = self._suspension, None
            if outcome.refused:
                self._suspension = refused(suspension, outcome.refused, self._now)
                self._memory = arming.not_asked(self._memory, outcome.action.connections)
            for each in outcome.armings:
                if outcome.action.last or each.result not in RETRIED:
                    self.results[each.result] += len(each.connections)
            self._memory = arming.remember(idle_times.learn_armed(self._memory, outcome.armings), outcome.armings)
        if isinstance(outcome.action, ReadIdleTimes):
            self._cannot_read = self._cannot_read or isinstance(outcome.refused, LASTING)
            self._memory = idle_times.learn(self._memory, outcome)
        if isinstance(outcome.action, AskFirewall):
            self._memory = firewall.learn(self._memory, outcome)
        if isinstance(outcome.action, AskFirewall | ReadIdleTimes) and outcome.action.urgent:
            self.next_deadline = self._memory.taken_at if outcome.looked is not None else self.next_deadline


def _report(judgement: Judgement, news: announce.News) -> list[Action]:
    """Return the report of this news, if there is any."""
    if not len(news.rows):
        return []
    before = tuple(map(VERDICTS.__getitem__, news.before.tolist()))
    return [ReportConnections(select(judgement, news.rows), before, tuple(news.unreported.tolist()))]


def _next_deadline(forecast: Forecast) -> float:
    """Return the first instant from now on at which a connection that nothing saves is certainly cut."""
    doomed = (forecast.verdict >= Verdict.LATE.value) & (forecast.cut_by > forecast.now)
    return float(np.min(forecast.cut_by, where=doomed, initial=FOREVER))
