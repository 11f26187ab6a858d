"""The decider: observations and the time go in, actions come out; it touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keepaliveD.model import Action, IPNetwork, Outcome, Path, Report, ReportUnseen, SocketTable, Verdict
from keepaliveD.policy import activity, announce
from keepaliveD.policy.judge import Judgement, connections, judge
from keepaliveD.policy.sysctls import OnDrift, SystemKeepalive


@dataclass(frozen=True, slots=True)
class Rules:
    """What the administrator wants. `wanted` is empty where the settings are not in our care."""

    wanted: Mapping[str, int]
    on_drift: OnDrift
    paths: Sequence[Path]
    ignore: Sequence[IPNetwork]
    warn_before: float


class Engine:
    """Judges each scan against the memory of those before it."""

    def __init__(self, rules: Rules) -> None:
        self._memory = activity.nothing_known()
        self._unseen = 0
        self.follow(rules)

    def follow(self, rules: Rules) -> None:
        """Go by other rules from now on; what is known of the sockets is kept."""
        self._rules = rules
        self._settings = SystemKeepalive(rules.wanted, rules.on_drift)

    def observe(self, table: SocketTable, found: Mapping[str, int]) -> tuple[Judgement, list[Action]]:
        """Judge this snapshot, and choose what to do about it and about these system settings."""
        judgement = judge(table, self._memory, self._rules.paths, self._rules.ignore)
        rows, self._memory = announce.choose(judgement.forecast, judgement.activity, self._rules.warn_before)
        actions = self._settings.observe(found)
        if table.unseen != self._unseen:
            self._unseen = table.unseen
            actions.append(ReportUnseen(table.unseen))
        if len(rows):
            before = tuple(Verdict(verdict) for verdict in judgement.activity.told[rows])
            actions.append(Report(connections(judgement, rows), before))
        return judgement, actions

    def record(self, outcome: Outcome) -> None:
        """Learn what came of an action."""
        self._settings.record(outcome)
