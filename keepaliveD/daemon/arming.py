"""Arm and disarm the open sockets of other programs, their record kept true."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence, Set

from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import Arm, Disarm
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.errors import Refusal
from keepaliveD.model.keepalive import Shown, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, Fate, Outcome
from keepaliveD.model.rules import ArmAction, Wish
from keepaliveD.platforms.base import AtConnect, Order
from keepaliveD.platforms.requests import ArmSockets, DisarmSockets, FindOwners, Steps
from keepaliveD.policy.arming import choose
from keepaliveD.policy.connections import with_cookies
from keepaliveD.policy.judge import Judgement
from keepaliveD.policy.settle import as_chosen, fits
from keepaliveD.records.arming import ArmingRecord


class SocketArming:
    """Carries out what is decided of sockets. Without a record it is a dry run: they are only looked at."""

    def __init__(self, at_connect: AtConnect, settings: SystemSettings, record: ArmingRecord | None) -> None:
        self._at_connect = at_connect
        self._settings = settings
        self._record = record
        self._armed: set[int] = set()  # cookies of those that this process armed ...
        self._first: set[int] = set()  # ... and that nobody had armed before

    def arm(self, action: Arm) -> Steps[tuple[Arming, ...]]:
        """Arm these connections as their wishes say; return what became of each."""
        orders: list[Order] = []
        armings: list[Arming] = []
        left = self._record.left() if self._record and not action.by_hand else set()
        for connection in (yield FindOwners(action.connections)):
            wish = choose(action.wishes, connection.owner)
            if wish is None or _is_idle(wish, connection):
                armings.append(Arming((connection,), Fate.OBSERVED))
            elif connection.cookie in left:
                armings.append(Arming((connection,), Fate.SET_AGAIN))
            else:
                orders.append(Order(connection, wish, action.by_hand, connection.cookie in self._armed))
        if orders:
            steps = self._carry_out(orders, self._record) if self._record else self._foretell(orders)
            armings += yield from steps
        return tuple(armings)

    def _foretell(self, orders: Sequence[Order]) -> Steps[list[Arming]]:
        """Look into the sockets, and set nothing; where nobody may look, what the rule wants is foretold."""
        try:
            armings: list[Arming] = yield ArmSockets(orders, {}, None)
            return armings
        except Refusal:
            return [_foretold(order.connection, order.wish) for order in orders]

    def _carry_out(self, orders: Sequence[Order], record: ArmingRecord) -> Steps[list[Arming]]:
        orders = self._learn_armed_at_connect(orders, record)
        earlier, left = record.armed(), record.left()
        armings: list[Arming] = yield ArmSockets(orders, earlier, record.keep)
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

    def disarm(self, look: Judgement, *, only_mine: bool = False) -> Steps[Outcome]:
        """Put back what stood in the sockets on record that are there to be seen; do so once the settings are restored.

        `only_mine`: those alone that this process was the first to arm.
        """
        if self._record is None:
            return Outcome(Disarm(()), dry_run=True)
        record = self._record
        action = Disarm(())
        try:
            armed = record.armed()
            wanted = self._first & armed.keys() if only_mine else armed.keys()
            action = Disarm((yield FindOwners(with_cookies(look, wanted))))
            armings = (yield from self._disarm(action.connections, armed)) if action.connections else []
            undone = _cookies(armings, Fate.DISARMED, Fate.ENOUGH)
            record.leave(_cookies(armings, Fate.SET_AGAIN, Fate.CHANGED) | (set() if only_mine else undone))
            record.withdraw(undone if only_mine else ())
        except Refusal as refusal:
            return Outcome(action, refused=refusal)
        return Outcome(action, armings=tuple(armings))

    def _disarm(self, connections: Sequence[Connection], armed: Mapping[int, Armed]) -> Steps[list[Arming]]:
        """Put back what stood there; what a socket took from its namespace, as that would be without us."""
        if found := self._settings.without_us():
            namespace, system = found
            alike = {each: as_chosen(each, system) for each in set(armed.values())}
            here = {one.cookie for one in connections if one.netns == namespace}
            armed = {cookie: alike[each] if cookie in here else each for cookie, each in armed.items()}
        armings: list[Arming] = yield DisarmSockets(connections, armed)
        return armings


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
