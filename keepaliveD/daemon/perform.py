"""Carry out actions: the only place that writes to the kernel; dry run lives here."""

from __future__ import annotations

import dataclasses

from keepaliveD.daemon.arming import SocketArming, take_over
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import (
    Action,
    Arm,
    Disarm,
    FoundSettings,
    Report,
    ReportArmed,
    ReportDrift,
    SetSystemKeepalive,
)
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model.results import Outcome
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import Steps, find_owners
from keepaliveD.policy.connect import Plan
from keepaliveD.policy.judge import Judgement
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.settings import SettingsRecord


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """What must outlive this process: the settings found, and the sockets armed."""

    settings: SettingsRecord
    arming: ArmingRecord


class Performer:
    """Turns actions into outcomes. Without `records` it is a dry run: the kernel is left alone."""

    def __init__(self, platform: Platform, records: Records | None) -> None:
        self._settings = SystemSettings(platform.tuner, records.settings if records else None)
        self._at_connect = platform.at_connect
        self._sockets = SocketArming(platform.at_connect, self._settings, records.arming if records else None)
        self._records = records
        self._arming_refused = ""
        self._begun = False  # whether new connections are armed
        self._lasting = False  # whether that outlives us

    def read_settings(self, *, cared_for: bool) -> FoundSettings:
        """What stands in the system, if that is in our care, and what is wrong with its record. Raises Refusal."""
        return self._settings.read(cared_for=cared_for)

    def restore(self) -> list[Outcome]:
        """Restore the system's settings, and say what came of it."""
        return self._settings.restore()

    def perform(self, action: Action) -> Steps[Outcome]:
        """Do it; a refusal is an outcome too."""
        reason = ""
        try:
            return (yield from self._perform(action))
        except Refusal as refusal:
            reason = str(refusal)
            return Outcome(action, refused=refusal, repeated=isinstance(action, Arm) and reason == self._arming_refused)
        finally:
            if isinstance(action, Arm):
                self._arming_refused = reason

    def arm_at_connect(self, plan: Plan, engine: str, *, everywhere: bool, survive: bool) -> tuple[str, str]:
        """Have new connections armed by this plan from now on, in place of the one before.

        `everywhere`: in all network namespaces, which is all that the kernel's program can. Returns what
        came of it in words, and what went wrong: an earlier program that is still at work, or records lost.
        """
        if self._records is None:
            return "", ""
        self._lasting = False
        said = "; ".join(plan.cut)
        try:
            if plan.openings and not everywhere:
                raise Unsupported('watch.namespaces = "own"')
            if plan.openings:
                said = "; ".join([self._begin_at_connect(plan, engine, survive=survive), *plan.cut])
                return said, "" if self._lasting else self._stale()
        except Refusal as refusal:
            said = f"cannot arm at connect; new connections are armed at the next scan ({refusal})"
        wrong = (self._end_at_connect(), self._stale())
        return said, "; ".join(filter(None, wrong))

    def _begin_at_connect(self, plan: Plan, engine: str, *, survive: bool) -> str:
        unpinned = self._at_connect.begin(engine=engine, plan=plan, survive=survive)
        self._begun = True
        self._lasting = survive and not unpinned
        reason = f", but not after the daemon stops (keepalive.survive_stop: {unpinned})" if unpinned else ""
        return f"new connections are armed at connect{reason}"

    def _end_at_connect(self) -> str:
        """Stop that; what it has recorded is kept with the other records. Why that is not possible, or nothing."""
        lost = ""
        try:
            if not self._lasting:
                self.take_over()
        except Refusal as refusal:
            lost = f"sockets armed at connect stay armed, and may be missing in the arming record: {refusal}"
        self._at_connect.close()
        self._begun = False
        return lost

    def _stale(self) -> str:
        """End what an earlier daemon has pinned; why that is not possible, or nothing."""
        try:
            if not self._at_connect.pinned():
                return ""
        except NotPermitted:
            return ""  # who may not look there cannot tell
        try:
            self._at_connect.unpin()
        except NotPermitted as refusal:
            return str(refusal)
        return ""

    def refresh_at_connect(self) -> list[Outcome]:
        """Have the kernel's program learn which units and containers there are; report what it has armed."""
        try:
            return [Outcome(ReportArmed(counted)) for counted in self._at_connect.refresh()]
        except Refusal:
            return []  # what it does not learn now it leaves to the scans

    def take_over(self) -> None:
        """Record the sockets that were armed at connect with the others. Raises Refusal."""
        if self._records is not None and self._begun:
            take_over(self._at_connect, self._records.arming)

    def close(self) -> str:
        """Arm no more new connections, unless that is to survive; what goes wrong with their records, or nothing."""
        return self._end_at_connect()

    def _perform(self, action: Action) -> Steps[Outcome]:
        match action:
            case SetSystemKeepalive():
                return self._settings.apply(action)
            case Arm():
                return Outcome(action, dry_run=self._records is None, armings=(yield from self._sockets.arm(action)))
            case Disarm():
                return (yield from self._sockets.put_back(action))
            case Report(connections):
                return Outcome(dataclasses.replace(action, connections=(yield from find_owners(connections))))
            case ReportDrift(found=found, yielded=True):
                self._settings.release(found)
                return Outcome(action)
            case _:
                return Outcome(action)

    def disarm(self, look: Judgement, *, only_mine: bool = False) -> Steps[Outcome]:
        """Put back what stood in the sockets on record; do so once the settings are restored."""
        return (yield from self._sockets.disarm(look, only_mine=only_mine))
