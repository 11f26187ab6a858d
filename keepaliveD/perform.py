"""Carry out actions: the only place that writes to the kernel; dry run lives here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence

from keepaliveD.errors import Refusal
from keepaliveD.ledger import Ledger
from keepaliveD.model import (
    Action,
    Arm,
    ArmAction,
    Arming,
    Connection,
    Disarm,
    Fate,
    FoundSettings,
    Outcome,
    Report,
    ReportDrift,
    SetSystemKeepalive,
    Shown,
    SocketKeepalive,
    Wish,
)
from keepaliveD.platforms.base import ConnectArmer, Order, Platform
from keepaliveD.policy.arming import choose
from keepaliveD.policy.connect import Opening
from keepaliveD.records.settings import SettingsRecord
from keepaliveD.settings import SystemSettings

SETTLED = (Fate.DISARMED, Fate.SET_AGAIN, Fate.CHANGED)  # nothing of ours stands there any more


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """What must outlive this process: the settings found, and the sockets armed."""

    settings: SettingsRecord
    ledger: Ledger


class Performer:
    """Turns actions into outcomes. Without `records` it is a dry run: the kernel is left alone."""

    def __init__(self, platform: Platform, records: Records | None) -> None:
        self._settings = SystemSettings(platform.tuner, records.settings if records else None)
        self._owners = platform.owners
        self._armer = platform.armer
        self._records = records
        self._armed: set[int] = set()  # cookies
        self._at_connect = platform.at_connect
        self._connect_armer: ConnectArmer | None = None

    def look_at_settings(self, *, cared_for: bool) -> FoundSettings:
        """What stands in the system, if that is in our care, and what is wrong with its record. Raises Refusal."""
        return self._settings.look(cared_for=cared_for)

    def restore(self) -> list[Outcome]:
        """Restore the system's settings, and say what came of it."""
        return self._settings.restore()

    def perform(self, action: Action) -> Outcome:
        """Do it; a refusal is an outcome too."""
        try:
            return self._perform(action)
        except Refusal as refusal:
            return Outcome(action, refused=refusal)

    def arm_at_connect(self, wanted: Sequence[Opening], engine: str, *, everywhere: bool, survive: bool) -> str:
        """Have new connections armed by these from now on, in place of those before; what came of it, in words.

        `everywhere`: in all network namespaces, which is all that the kernel's program can.
        """
        if self._records is None:
            return ""
        before, self._connect_armer = self._connect_armer, None
        try:
            return self._arm_at_connect(wanted, engine, everywhere=everywhere, survive=survive)
        except Refusal as refusal:
            return f"new connections wait for the next scan ({refusal})"
        finally:
            if before:
                before.close()

    def _arm_at_connect(self, wanted: Sequence[Opening], engine: str, *, everywhere: bool, survive: bool) -> str:
        if not (wanted and survive) and self._at_connect.surviving():
            self._at_connect.end()
        if not wanted:
            return ""
        if not everywhere:
            return 'new connections wait for the next scan (watch.namespaces = "own")'
        self._connect_armer = self._at_connect.begin(engine=engine, openings=wanted, survive=survive)
        said = "new connections are armed at connect"
        if reason := self._connect_armer.unpinned:
            said += f", but not after the daemon's end (keepalive.survive_stop: {reason})"
        return said

    def look_around(self) -> None:
        """Tell who arms new connections which units and containers there are now, where rules ask for them."""
        if self._connect_armer:
            with contextlib.suppress(Refusal):  # what it does not learn now it leaves to the scans
                self._connect_armer.look_around()

    def close(self) -> None:
        """Arm no more new connections, unless that is to survive."""
        if self._connect_armer:
            self._connect_armer.close()

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
        left = self._records.ledger.left() if self._records and not action.by_hand else set()
        for connection in self._owners.name(action.connections):
            wish = choose(action.wishes, connection.owner)
            if wish is None or _is_idle(wish, connection):
                armings.append(Arming((connection,), Fate.OBSERVED))
            elif connection.cookie in left:
                armings.append(Arming((connection,), Fate.SET_AGAIN))
            elif self._records is None:
                armings.append(Arming((connection,), Fate.WOULD, after=SocketKeepalive(True, wish.times)))
            else:
                orders.append(Order(connection, wish, action.by_hand, connection.cookie in self._armed))
        if orders and self._records is not None:
            ledger = self._records.ledger
            earlier = ledger.armed()
            done = self._armer.arm(orders, earlier, ledger.keep)
            self._armed.update(_cookies(done, Fate.ARMED))
            failed = _cookies(done, Fate.FAILED)
            ledger.leave([*_cookies(done, Fate.CHANGED), *failed - earlier.keys()])
            ledger.keep({cookie: earlier[cookie] for cookie in failed & earlier.keys()})
            armings += done
        return tuple(armings)


def _cookies(armings: Iterable[Arming], *fates: Fate) -> set[int]:
    """Of those with one of these fates."""
    return {one.cookie for arming in armings if arming.fate in fates for one in arming.connections}


def _is_idle(wish: Wish, connection: Connection) -> bool:
    """Whether the rule has nothing to do here; `rearm` needs keepalive that is on already."""
    action = wish.rule.action
    return action is ArmAction.OBSERVE or (action is ArmAction.REARM and connection.keepalive is Shown.OFF)


def disarm(connections: tuple[Connection, ...], platform: Platform, ledger: Ledger) -> Outcome:
    """Put back what stood in those of them that were armed, and leave alone from now on whom that is settled for."""
    armed = ledger.armed()
    action = Disarm(platform.owners.name(one for one in connections if one.cookie in armed))
    try:
        armings = platform.armer.disarm(action.connections, armed) if action.connections else []
        ledger.leave(_cookies(armings, *SETTLED))
    except Refusal as refusal:
        return Outcome(action, refused=refusal)
    return Outcome(action, armings=tuple(armings))
