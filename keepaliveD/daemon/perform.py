"""Carry out actions, or in a dry run return what they would do. Nothing else writes to the kernel."""

from __future__ import annotations

import contextlib
import dataclasses

from keepaliveD.daemon.arming import MANY, SocketArming, take_over
from keepaliveD.daemon.memory import give_back
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import (
    Action,
    Arm,
    AskFirewall,
    Disarm,
    FindRoutes,
    FoundSettings,
    LookInto,
    NameUnits,
    Outcome,
    Queued,
    ReadIdleTimes,
    RecordArmed,
    RestoreSettings,
    SetSystemKeepalive,
)
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model.questions import Asker
from keepaliveD.model.reports import (
    ReportArmed,
    ReportConnections,
    ReportDamaged,
    ReportDeaths,
    ReportDrift,
    ReportStillArmed,
)
from keepaliveD.model.routes import Route
from keepaliveD.platforms.base import Platform, Unpinned
from keepaliveD.platforms.requests import (
    Steps,
    find_owners,
    find_owners_of_ended,
    find_routes,
    find_units,
    find_units_of,
    look,
    look_into,
)
from keepaliveD.policy.arming.connect import ConnectPlan
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.records.both import Records


class Performer:
    """Turns actions into outcomes. Without `records` it is a dry run, which writes nothing to the kernel."""

    def __init__(self, platform: Platform, records: Records | None) -> None:
        self._settings = SystemSettings(platform.tuner, records.settings if records else None)
        self._at_connect = platform.at_connect
        self._sockets = SocketArming(platform.at_connect, self._settings, records.arming if records else None)
        self._records = records
        self._begun = False  # whether connections are armed at connect
        self._survives = False  # whether the program that does so is to outlive us
        self._lasting = False  # whether the program that does so outlives us
        self._unpinned = Unpinned()  # what does not although it should, as far as we have reported it

    @property
    def netns(self) -> int:
        """Return the inode of the network namespace whose settings these are; 0 where there are none."""
        return self._settings.netns

    def read_settings(self, *, cared_for: bool) -> FoundSettings:
        """Read the system settings, if we apply any, and what is wrong with their record. Raises Refusal."""
        return self._settings.read(cared_for=cared_for)

    def restore(self, action: RestoreSettings) -> list[Outcome]:
        """Restore the system settings, and return the outcomes. Raises Refusal where nothing is done."""
        outcomes = self._settings.restore(action.only)
        return [dataclasses.replace(one, action=_asked(one.action, action.asker)) for one in outcomes]

    def perform(self, action: Queued) -> Steps[Outcome]:
        """Carry out an action. A refusal is an outcome too."""
        try:
            return (yield from self._look_into(action) if isinstance(action, LookInto) else self._perform(action))
        except Refusal as refusal:
            return Outcome(action, refused=refusal)

    def arm_at_connect(self, plan: ConnectPlan, engine: str, *, everywhere: bool, survive: bool) -> tuple[str, str]:
        """Arm new connections at connect by this plan from now on, in place of the plan before.

        The kernel's program can arm only in all network namespaces (`everywhere`). Return what to report about
        it, and what went wrong: an earlier program still arms, or records are lost.
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
        stale = self._stale()  # first: beside a pinned program, the pin of its records would stay
        return said, "; ".join(filter(None, (self._end_at_connect(), stale)))

    def _begin_at_connect(self, plan: ConnectPlan, engine: str, *, survive: bool) -> str:
        unpinned = self._at_connect.begin(engine=engine, plan=plan, survive=survive)
        self._begun = True
        self._survives, self._unpinned = survive, unpinned
        self._lasting = survive and not unpinned.program
        return f"new connections are armed at connect{_unkept(unpinned)}"

    def _end_at_connect(self) -> str:
        """Stop arming at connect, and move its records to the arming record; return why that failed, or "".

        Records that an earlier daemon has left are moved, too: nobody else would read them.
        """
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
        """Remove the program that an earlier daemon has pinned; return why that failed, or ""."""
        try:
            if not self._at_connect.pinned():
                return ""
        except NotPermitted:
            return ""  # without the permission to look there we cannot know
        try:
            self._at_connect.unpin()
        except NotPermitted as refusal:
            return str(refusal)
        return ""

    def refresh_at_connect(self) -> list[Outcome]:
        """Show the kernel's program which units and containers exist now, and return what it has armed."""
        try:
            return [Outcome(ReportArmed(counted)) for counted in self._at_connect.refresh()]
        except Refusal:
            return []  # connections of owners that it does not know are armed by the scans

    def tend_at_connect(self) -> list[Outcome]:
        """Pin again what somebody has unpinned; return the report of that, or of what cannot be pinned, once."""
        unpinned = self._at_connect.tend() if self._begun else None
        if unpinned is None:
            return []
        before, self._unpinned = self._unpinned, unpinned
        self._lasting = self._survives and not unpinned.program
        if any(unpinned) and unpinned == before:
            return []
        unkept = f": new connections are armed at connect{_unkept(unpinned)}" if any(unpinned) else "; pinned it again"
        return [Outcome(ReportDamaged([f"the pins of what arms at connect were removed{unkept}"]))]

    def take_over(self) -> None:
        """Move the records of sockets armed at connect to the arming record, unless they are another daemon's.

        Raises Refusal.
        """
        if self._records is not None and (self._begun or not self._at_connect.shared()):
            take_over(self._at_connect, self._records.arming)

    def close(self) -> str:
        """Stop arming at connect, unless that survives us; return what went wrong with its records, or "".

        Call tend_at_connect() before: what cannot survive leaves its records to the arming record.
        """
        return self._end_at_connect() if self._begun else ""

    def _perform(self, action: Queued) -> Steps[Outcome]:
        match action:
            case SetSystemKeepalive():
                return self._settings.apply(action)
            case Arm():
                give_back()  # what judging has freed, before arming needs as much again
                return Outcome(action, dry_run=self._records is None, armings=(yield from self._sockets.arm(action)))
            case Disarm():
                return (yield from self._sockets.put_back(action))
            case RecordArmed():
                self.take_over()
            case ReadIdleTimes() | AskFirewall():
                return Outcome(action, looked=(yield from look(action)))
            case ReportConnections() | ReportDeaths() | NameUnits() | FindRoutes():
                return Outcome((yield from _filled_in(action)))
            case ReportDrift(found=found, yielded=True):
                self._settings.release(found)
            case ReportStillArmed(cookies):
                action = dataclasses.replace(action, count=self._sockets.count_armed(cookies))
        return Outcome(action)

    def _look_into(self, action: LookInto) -> Steps[Outcome]:
        """Read what stands in sockets, if that is possible here, and what the records say of them."""
        found = yield from find_owners(action.connections)
        looked = None
        with contextlib.suppress(NotPermitted, Unsupported):
            looked = yield from look_into(found)
        recorded = self._sockets.recorded([one.cookie for one in found])
        return Outcome(dataclasses.replace(action, connections=found, recorded=recorded), looked=looked)

    def disarm(self, look: Judgement, *, only_mine: bool = False) -> Steps[Outcome]:
        """Disarm the recorded sockets. Call it after the settings are restored."""
        return (yield from self._sockets.disarm(look, only_mine=only_mine))


def _unkept(unpinned: Unpinned) -> str:
    """Return what ends with the daemon though it should not, and why, after a comma; "" where nothing does."""
    lost = "if the daemon is killed, keepalivectl disarm cannot restore them"
    if unpinned.program:
        also = f"; {lost}" if unpinned.records else ""
        return f", but not after the daemon stops (keepalive.survive_stop: {unpinned.program}){also}"
    return f", but {lost} ({unpinned.records})" if unpinned.records else ""


def _asked(action: Action, asker: Asker | None) -> Action:
    """Return what was done to settings with who has asked for it."""
    return dataclasses.replace(action, asker=asker) if isinstance(action, SetSystemKeepalive) else action


def _filled_in(action: ReportConnections | ReportDeaths | NameUnits | FindRoutes) -> Steps[Queued]:
    """Return the same with the owners or routes of what it is about, as far as this process may look."""
    match action:
        case ReportConnections(connections):
            find = find_owners if len(connections) <= MANY else find_units_of
            return dataclasses.replace(action, connections=(yield from find(connections)))
        case ReportDeaths(reports):
            with contextlib.suppress(Refusal):  # what ended them is worth more than whose they were
                return dataclasses.replace(action, reports=(yield from find_owners_of_ended(reports)))
        case NameUnits(cgroups):
            units = dict.fromkeys(cgroups, "")
            with contextlib.suppress(Refusal):
                units = yield from find_units(cgroups)
            return NameUnits(cgroups, units)
        case FindRoutes(ends):
            routes: list[Route | None] = [None] * len(ends)
            with contextlib.suppress(Refusal):
                routes = yield from find_routes(ends)
            return FindRoutes(ends, routes)
    return action
