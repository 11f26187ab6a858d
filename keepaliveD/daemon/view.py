"""How the daemon is at a moment, for whoever asks: what the control socket shows."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence

from keepaliveD.daemon.perform import Performer
from keepaliveD.daemon.settings import settings
from keepaliveD.model.actions import Because, Outcome, SetSystemKeepalive
from keepaliveD.model.connections import Counts
from keepaliveD.model.reports import ReportDrift, ReportRewriter
from keepaliveD.model.rules import Rules
from keepaliveD.model.snapshot import Ended, LastScan, Setting, Snapshot, Totals, Tried
from keepaliveD.model.status import Status
from keepaliveD.platforms.base import Platform
from keepaliveD.policy.answers.listing import Listed, Lister
from keepaliveD.policy.decider import Decider
from keepaliveD.policy.verdicts.totals import totals
from keepaliveD.records.both import Records

KEPT = "a stricter time is kept (keepalive.keep_stricter)"


class View:
    """What is known of the daemon and its last scan. None of it waits for anything."""

    def __init__(
        self,
        decider: Decider,
        performer: Performer,
        platform: Platform,
        records: Records | None,
        now: Callable[[], float],
    ) -> None:
        self._decider = decider
        self._performer = performer
        self._platform = platform
        self._records = records
        self._now = now
        self._began = now()
        self._lister = Lister()
        self._tried = Tried()
        self._totals = Totals()  # of the last scan, once somebody has asked

    def count_scan(self, took: float) -> None:
        """Count a scan, and the seconds that it took."""
        self._tried = self._tried._replace(scans=self._tried.scans + 1, scanning=self._tried.scanning + took)

    def count_drifts(self, outcome: Outcome) -> None:
        """Count the settings that somebody else has changed, by what is logged of that."""
        self._tried = self._tried._replace(drifts=self._tried.drifts + _drifts(outcome))

    def snapshot(self) -> Snapshot:
        """Return how the daemon is now, for whoever asks. It waits for nothing."""
        now, table, status = self._now(), self._decider.judgement.table, self._decider.status
        if self._totals.taken_at != table.taken_at:
            self._totals = totals(self._decider.judgement)
        rules, age = self._decider.rules, now - self._decider.judgement.forecast.now
        record = self._records.settings if self._records else None
        scan = LastScan(now - table.read_by, table.reading, rules.interval) if table.engine_description else None
        return Snapshot(
            pid=os.getpid(),
            running=now - self._began,
            applied=rules.keepalive is not None,
            settings=tuple(_noted(one, status) for one in settings(rules.wanted, self._platform.tuner, record)),
            engine=table.engine_description,
            unseen=self._decider.unseen,
            counts=status.counts,
            scan=scan,
            results=status.results,
            tally=status.tally,
            problems=_problems(status, rules),
            paths=tuple(self._decider.ended.paths),
            findings=tuple(self._decider.ended.findings),
            by_route=tuple(self._decider.ended.by_route),
            at_risk=tuple(dataclasses.replace(one, left=one.left - age) for one in self._decider.at_risk),
            restores=rules.restore_on_stop,
            now=time.time(),
            totals=self._totals,
            tried=self._tried,
            probes_sent=self._platform.probes_sent(),
            unwatched=table.unwatched,
            netns=self._performer.netns,
        )

    def listed(self) -> Listed:
        """Return the last scan, for whoever lists its connections. It waits for nothing."""
        units = self._decider.ended.units if self._decider.rules.autopsy else None
        return self._lister.listed(self._decider.judgement, units, self._now())

    def namespaces(self) -> Sequence[tuple[int, Counts]]:
        """Return the network namespaces of the last scan, by inode."""
        return self._lister.namespaces(self._decider.judgement)

    def ended(self) -> Ended:
        """Return what is kept of connections that ended, for whoever asks."""
        return Ended(self._now(), self._decider.status.tally, tuple(self._decider.ended.latest))


def _problems(status: Status, rules: Rules) -> tuple[str, ...]:
    complaint = status.complaint.removesuffix("; ")
    refused = dict.fromkeys(status.refused.values())  # one reason may be that of several settings
    return tuple(filter(None, (complaint, status.blind, status.suspended, *status.troubles, *refused, *rules.doubts)))


def _noted(one: Setting, status: Status) -> Setting:
    """Return the setting with the reason why something else stands than is wanted, where that is known."""
    if one.name in status.refused:
        return one._replace(note="cannot be set")
    return one._replace(note=KEPT) if one.stands is not None and one.stands == status.kept.get(one.name) else one


def _drifts(outcome: Outcome) -> int:
    """Return how many settings this outcome tells of that someone else has changed: each change counts once."""
    match outcome.action:
        case SetSystemKeepalive(found=found, because=Because.DRIFT) if outcome.refused is None:
            return len(found)
        case ReportDrift(found=found):
            return len(found)
        case ReportRewriter(repeats=repeats, reapplied=False):
            return sum(repeat.count for repeat in repeats.values())
    return 0
