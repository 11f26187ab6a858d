"""Carry out actions: the only place that writes to the kernel; dry run lives here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set

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
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model.keepalive import Shown, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, Fate, Outcome
from keepaliveD.model.rules import ArmAction, Wish
from keepaliveD.platforms.base import AtConnect, Order, Platform
from keepaliveD.policy.arming import choose
from keepaliveD.policy.connect import Plan
from keepaliveD.policy.connections import with_cookies
from keepaliveD.policy.judge import Judgement
from keepaliveD.policy.settle import as_chosen, fits
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
        self._owners = platform.owners
        self._armer = platform.armer
        self._records = records
        self._armed: set[int] = set()  # cookies of those that this process armed ...
        self._first: set[int] = set()  # ... and that nobody had armed before
        self._arming_refused = ""
        self._at_connect = platform.at_connect
        self._begun = False  # whether new connections are armed
        self._lasting = False  # whether that outlives us

    def look_at_settings(self, *, cared_for: bool) -> FoundSettings:
        """What stands in the system, if that is in our care, and what is wrong with its record. Raises Refusal."""
        return self._settings.look(cared_for=cared_for)

    def restore(self) -> list[Outcome]:
        """Restore the system's settings, and say what came of it."""
        return self._settings.restore()

    def perform(self, action: Action) -> Outcome:
        """Do it; a refusal is an outcome too."""
        reason = ""
        try:
            return self._perform(action)
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
        left = [f"{what}: at the next scan" for what in plan.cut]
        said = "; ".join(left)
        try:
            if plan.openings and not everywhere:
                raise Unsupported('watch.namespaces = "own"')
            if plan.openings:
                said = "; ".join([self._begin_at_connect(plan, engine, survive=survive), *left])
                return said, "" if self._lasting else self._stale()
        except Refusal as refusal:
            said = f"cannot arm at connect; new connections are armed at the next scan ({refusal})"
        wrong = (self._end_at_connect(), self._stale())
        return said, "; ".join(filter(None, wrong))

    def _begin_at_connect(self, plan: Plan, engine: str, *, survive: bool) -> str:
        unpinned = self._at_connect.begin(engine=engine, plan=plan, survive=survive)
        self._begun = True
        self._lasting = survive and not unpinned
        reason = f", but not after the daemon's end (keepalive.survive_stop: {unpinned})" if unpinned else ""
        return f"new connections are armed at connect{reason}"

    def _end_at_connect(self) -> str:
        """Stop that; what it has recorded is kept with the other records. Why that is not possible, or nothing."""
        lost = ""
        try:
            if not self._lasting:
                self.take_over()
        except Refusal as refusal:
            lost = f"sockets that were armed at connect stay armed, and may have no record: {refusal}"
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

    def look_around(self) -> list[Outcome]:
        """Have the kernel's program learn which units and containers there are; report what it has armed."""
        try:
            return [Outcome(ReportArmed(counted)) for counted in self._at_connect.look_around()]
        except Refusal:
            return []  # what it does not learn now it leaves to the scans

    def take_over(self) -> None:
        """Record the sockets that were armed at connect with the others. Raises Refusal."""
        if self._records is not None and self._begun:
            take_over(self._at_connect, self._records.arming)

    def close(self) -> str:
        """Arm no more new connections, unless that is to survive; what goes wrong with their records, or nothing."""
        return self._end_at_connect()

    def _perform(self, action: Action) -> Outcome:
        match action:
            case SetSystemKeepalive():
                return self._settings.apply(action)
            case Arm():
                return Outcome(action, dry_run=self._records is None, armings=self._arm(action))
            case Report(connections):
                return Outcome(dataclasses.replace(action, connections=self._owners.name(connections)))
            case ReportDrift(found=found, yielded=True):
                self._settings.release(found)
                return Outcome(action)
            case _:
                return Outcome(action)

    def _arm(self, action: Arm) -> tuple[Arming, ...]:
        orders: list[Order] = []
        armings: list[Arming] = []
        left = self._records.arming.left() if self._records and not action.by_hand else set()
        for connection in self._owners.name(action.connections):
            wish = choose(action.wishes, connection.owner)
            if wish is None or _is_idle(wish, connection):
                armings.append(Arming((connection,), Fate.OBSERVED))
            elif connection.cookie in left:
                armings.append(Arming((connection,), Fate.SET_AGAIN))
            else:
                orders.append(Order(connection, wish, action.by_hand, connection.cookie in self._armed))
        if orders:
            records = self._records
            armings += self._carry_out(orders, records.arming) if records else self._foretell(orders)
        return tuple(armings)

    def _foretell(self, orders: Sequence[Order]) -> list[Arming]:
        """Look into the sockets, and set nothing; where nobody may look, what the rule wants is foretold."""
        try:
            return self._armer.arm(orders, {}, None)
        except Refusal:
            return [_foretold(order.connection, order.wish) for order in orders]

    def _carry_out(self, orders: Sequence[Order], record: ArmingRecord) -> list[Arming]:
        orders = self._learn_armed_at_connect(orders, record)
        earlier, left = record.armed(), record.left()
        armings = self._armer.arm(orders, earlier, record.keep)
        armed = _cookies(armings, Fate.ARMED)
        self._armed |= armed
        self._first |= armed - earlier.keys()
        record.leave(_cookies(armings, Fate.CHANGED))
        self._undo(armings, earlier, left, record)
        return armings

    def _learn_armed_at_connect(self, orders: Sequence[Order], record: ArmingRecord) -> Sequence[Order]:
        """Record those among these that were armed at connect, and order them as if we had armed them before."""
        unknown = {order.connection.cookie for order in orders} - record.armed().keys() - record.left()
        mine = {}
        if unknown:
            with contextlib.suppress(Refusal):  # without BPF nobody can read what it has recorded
                found = self._at_connect.armed()
                mine = {cookie: found[cookie] for cookie in unknown if cookie in found}
        if not mine:
            return orders
        record.keep(mine)
        self._armed.update(mine)
        return [order._replace(again=order.again or order.connection.cookie in mine) for order in orders]

    def _undo(
        self, armings: Iterable[Arming], earlier: Mapping[int, Armed], left: Set[int], record: ArmingRecord
    ) -> None:
        """Record of those that failed what stands there now: mostly what stood there before."""
        failed = {one.cookie: each for each in armings if each.fate is Fate.FAILED for one in each.connections}
        if not failed:
            return
        noted = record.armed()
        begun = {cookie: each for cookie, each in failed.items() if noted.get(cookie) != earlier.get(cookie)}
        as_before = {cookie for cookie, each in begun.items() if each.after == each.before}
        record.keep(
            {cookie: earlier[cookie] for cookie in as_before & earlier.keys()}
            | {
                cookie: noted[cookie]._replace(after=each.after)
                for cookie, each in begun.items()
                if cookie not in as_before and each.after
            }
        )
        record.withdraw(as_before - earlier.keys() - left)
        record.leave(as_before & left)

    def disarm(self, look: Judgement, *, only_mine: bool = False) -> Outcome:
        """Put back what stood in the sockets on record that are there to be seen; do so once the settings are restored.

        `only_mine`: those alone that this process was the first to arm.
        """
        if self._records is None:
            return Outcome(Disarm(()), dry_run=True)
        record = self._records.arming
        action = Disarm(())
        try:
            armed = record.armed()
            wanted = self._first & armed.keys() if only_mine else armed.keys()
            action = Disarm(self._owners.name(with_cookies(look, wanted)))
            armings = self._disarm(action.connections, armed) if action.connections else []
            undone = _cookies(armings, Fate.DISARMED, Fate.ENOUGH)
            record.leave(_cookies(armings, Fate.SET_AGAIN, Fate.CHANGED) | (set() if only_mine else undone))
            record.withdraw(undone if only_mine else ())
        except Refusal as refusal:
            return Outcome(action, refused=refusal)
        return Outcome(action, armings=tuple(armings))

    def _disarm(self, connections: Sequence[Connection], armed: Mapping[int, Armed]) -> list[Arming]:
        """Put back what stood there; what a socket took from its namespace, as that would be without us."""
        if found := self._settings.without_us():
            namespace, system = found
            alike = {each: as_chosen(each, system) for each in set(armed.values())}
            here = {one.cookie for one in connections if one.netns == namespace}
            armed = {cookie: alike[each] if cookie in here else each for cookie, each in armed.items()}
        return self._armer.disarm(connections, armed)


def take_over(at_connect: AtConnect, record: ArmingRecord) -> None:
    """Record the sockets that were armed at connect with the others, for whoever disarms them. Raises Refusal."""
    found = at_connect.armed()
    if found:
        known = record.armed().keys() | record.left()
        record.keep({cookie: found[cookie] for cookie in found if cookie not in known})
    at_connect.forget()


def _cookies(armings: Iterable[Arming], *fates: Fate) -> set[int]:
    """Of those with one of these fates."""
    return {one.cookie for arming in armings if arming.fate in fates for one in arming.connections}


def _is_idle(wish: Wish, connection: Connection) -> bool:
    """Whether the rule has nothing to do here; `rearm` needs keepalive that is on already."""
    action = wish.rule.action
    return action is ArmAction.OBSERVE or (action is ArmAction.REARM and connection.keepalive is Shown.OFF)


def _foretold(connection: Connection, wish: Wish) -> Arming:
    """What a dry run can tell without a look into the socket, which may have shorter times of its own."""
    helps = connection.verdict is Verdict.CUT or fits(wish.times, connection.timeout)
    return Arming((connection,), Fate.WOULD if helps else Fate.TOO_LONG, after=SocketKeepalive(True, wish.times))
