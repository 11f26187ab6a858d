"""Decide what to log of the daemon itself: what stays as it was is logged once."""

from __future__ import annotations

from keepaliveD.model.actions import Action, Arm, LogOutcome, Outcome, TidyArmingRecord
from keepaliveD.model.reports import Report, ReportBlind, ReportDamaged, ReportEngine, ReportUnseenDeaths


class Logged:
    """What the log says of how sockets are read, of scans that fail, and of what is refused again and again."""

    def __init__(self) -> None:
        self.engine_description = ""
        self.blind = ""  # why connections are not being watched
        self.unseen = ""  # what cannot be seen of ends
        self.damaged: tuple[str, ...] = ()  # what is wrong with records of armed sockets
        self._has_failed = False  # whether anything did since the last scan began
        self._cannot_tidy = False
        self._arming_refused = ""  # why the last arming was

    def begin_scan(self) -> None:
        """Take note that a scan begins."""
        self._has_failed = False

    def fail(self) -> None:
        """Take note that something has failed: what goes on is no proof that connections are watched again."""
        self._has_failed = True

    def go_blind(self, reason: str) -> list[Action]:
        """Return the report that connections are not being watched, unless that is logged already."""
        before, self.blind = self.blind, f"scan failed; connections are not being watched: {reason}"
        return [] if before else log(ReportBlind(self.blind))

    def end_scan(self) -> list[Action]:
        """Return the report that connections are watched again, if they were not."""
        if not self.blind or self._has_failed:
            return []
        self.blind = ""
        return log(ReportBlind(""))

    def observe(self, engine_description: str, damaged: tuple[str, ...] | None) -> list[Action]:
        """Return the report of what has changed: how a scan read sockets, and damaged records, None if unknown."""
        actions: list[Action] = []
        if engine_description != self.engine_description:
            self.engine_description = engine_description
            actions += log(ReportEngine(engine_description))
        if damaged is not None:
            before, self.damaged = self.damaged, damaged
            if news := [line for line in damaged if line not in before]:
                actions += log(ReportDamaged(news))
        return actions

    def is_news(self, outcome: Outcome) -> bool:
        """Return whether to log this outcome: what fails for the same reason again is logged once."""
        match outcome.action:
            case Arm():
                before, self._arming_refused = self._arming_refused, str(outcome.refused or "")
                return not (outcome.refused and self._arming_refused == before)
            case ReportUnseenDeaths(missing):
                self.unseen = missing
                return False
            case TidyArmingRecord():
                failed_before, self._cannot_tidy = self._cannot_tidy, outcome.refused is not None
                return self._cannot_tidy and not failed_before
        return True


def log(report: Report) -> list[Action]:
    """Return the action that logs a report."""
    return [LogOutcome(Outcome(report))]
