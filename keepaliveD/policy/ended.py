"""Decide what ended connections lead to: reports of them, and paths whose timeouts they contradict."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from keepaliveD.model.actions import Action, FindRoutes, NameUnits, Outcome, Queued
from keepaliveD.model.autopsy import Alike, Death, Tally
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.findings import Finding
from keepaliveD.model.reports import ReportDeaths, ReportEvidence
from keepaliveD.model.routes import SeenByRoute
from keepaliveD.model.rules import Path, Rules
from keepaliveD.policy.autopsy.autopsy import Autopsy, AutopsyRules
from keepaliveD.policy.logged import log
from keepaliveD.policy.verdicts.activity import Activity
from keepaliveD.policy.verdicts.connections import owners_in
from keepaliveD.policy.verdicts.judge import Judgement

MOST_DEATHS = 100  # that are kept for who asks


class EndedDecider:
    """Has ends examined, and their owners looked for before they are logged; keeps the latest for who asks."""

    def __init__(self, rules: Rules) -> None:
        self.latest: deque[tuple[int, Death]] = deque(maxlen=MOST_DEATHS)  # reported, and how many each stands for
        self._rules = rules
        self._autopsy = Autopsy(_autopsy_rules(rules))
        self._reporting: list[ReportDeaths] = []  # whose owners are being looked for
        self._is_last = False  # the daemon stops: nobody looks for owners, or reports later

    def follow(self, rules: Rules) -> None:
        """Apply other rules from now on."""
        self._rules = rules
        self._autopsy.follow(_autopsy_rules(rules))

    @property
    def tally(self) -> Tally:
        """Return how many connections ended, and of what."""
        return self._autopsy.tally

    @property
    def units(self) -> Mapping[int, str]:
        """Return the units that are known, by cgroup: none without an autopsy."""
        return self._autopsy.units

    @property
    def paths(self) -> Sequence[Path]:
        """Return the paths with the timeouts that verdicts follow: evidence may have shortened some."""
        paths = self._rules.paths
        return self._autopsy.advisor.with_evidence(paths) if self._rules.autopsy else paths

    @property
    def findings(self) -> Sequence[Finding]:
        """Return what evidence says against the timeouts of paths."""
        return self._autopsy.advisor.findings if self._rules.autopsy else ()

    @property
    def by_route(self) -> Sequence[SeenByRoute]:
        """Return what connections of the default path have shown by each route, where there are several."""
        return self._autopsy.advisor.by_route.seen() if self._rules.autopsy else ()

    @property
    def next_due(self) -> float:
        """Return the instant at which ends that were held back are to be reported."""
        return self._autopsy.next_due

    def count_apart(self, cookies: Iterable[int]) -> None:
        """Learn which connections measure a path: their ends are counted apart, and not reported."""
        self._autopsy.count_apart(cookies)

    def remember(self, judgement: Judgement, memory: Activity) -> list[Action]:
        """Keep what a scan has found; return the report of evidence that is new, and whose units and routes to find."""
        if not self._rules.autopsy:
            return []
        self._autopsy.remember(judgement, memory)
        found = self._autopsy.advisor.due(judgement.table.taken_at)
        unnamed, to_find = self._autopsy.unnamed(), self._autopsy.advisor.by_route.to_find()
        return [
            *(log(ReportEvidence(found)) if found else ()),
            *([NameUnits(unnamed)] if unnamed else ()),
            *([FindRoutes(to_find)] if len(to_find) else ()),
        ]

    def observe(self, deaths: Deaths, now: float) -> list[Action]:
        """Return what to do about these ends."""
        return self._report(self._autopsy.observe(deaths, now), now)

    def report_due(self, now: float) -> list[Action]:
        """Return the reports of ends that have been held back for long enough."""
        return self._report(self._autopsy.due(now), now)

    def report_last(self, now: float) -> list[Action]:
        """Return the reports of all ends that are not reported yet: the daemon stops."""
        self._is_last = True
        return self._report((alike for report in self._reporting for alike in report.reports), now)

    def _report(self, reports: Iterable[Alike], now: float) -> list[Action]:
        """Report ends once their owners are found; while the daemon stops, log them and all that is held back."""
        held_back = self._autopsy.held_back(now) if self._is_last else ()
        action = ReportDeaths((*reports, *held_back), self._rules.interval)
        if not action.reports:
            return []
        if self._is_last:
            return log(action)
        self._reporting.append(action)
        return [action]

    def end_report(self, action: Queued) -> None:
        """Take note that an action is carried out, which may be a report of ends."""
        self._reporting = [report for report in self._reporting if report is not action]

    def learn(self, outcome: Outcome) -> None:
        """Learn owners and units from what came of an action, and keep the ends that it reported."""
        self._autopsy.learn_owners(owners_in(outcome, MOST_DEATHS))
        match outcome.action:
            case ReportDeaths(reports):
                for alike in reports:
                    each = alike.count if alike.is_summary else 1
                    self.latest += [(each, death) for death in alike.examples]
            case NameUnits(units=units):
                self._autopsy.name(units)
            case FindRoutes(ends, routes):
                self._autopsy.advisor.by_route.learn(ends, routes)


def _autopsy_rules(rules: Rules) -> AutopsyRules:
    logged = rules.logged_causes, rules.paths, rules.ignore, rules.arm, rules.products
    return AutopsyRules(*logged, rules.logged_units, rules.logged_users)
