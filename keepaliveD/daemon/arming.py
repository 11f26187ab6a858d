"""Arm and disarm the open sockets of other programs: read, decide, record, set; and keep the record true.

Other processes do the same at the same time. So a new entry replaces only the entry that was known when it was
decided. If somebody else has recorded a socket meanwhile, that entry stays, and the socket is read once more.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from keepaliveD.daemon.memory import give_back
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import Arm, Disarm, Outcome
from keepaliveD.model.arming import RESULT, TARGET
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import KernelError, Refusal
from keepaliveD.model.keepalive import ALL, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult, Entry, Mark, PutBack
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import AtConnect
from keepaliveD.platforms.requests import ChangeSocketSettings, ReadSocketSettings, Steps, find_owners
from keepaliveD.policy.arming.arming import by_rules
from keepaliveD.policy.arming.choices import Orders, Recorded, how_to_arm, how_to_disarm, targets, what_became
from keepaliveD.policy.arming.shared import NONE, Shared, are_among, are_armed, shared
from keepaliveD.policy.arming.socket_settings import as_chosen
from keepaliveD.policy.verdicts.connections import column, part, select
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.entries import Whose

MANY = 1000  # sockets; of more at once, processes are looked for only if a rule or the armer asks for them
BACK = (ArmingResult.DISARMED, ArmingResult.ALREADY_SET)  # what was armed has what it had
LEFT = (ArmingResult.CHANGED_SINCE, ArmingResult.CHANGED_MEANWHILE)  # somebody has set it
ROUNDS = 3  # at most, while other processes arm and disarm the same sockets


class SocketArming:
    """Arms and disarms sockets as policy decides. Without a record it is a dry run, which only reads the sockets."""

    def __init__(self, at_connect: AtConnect, settings: SystemSettings, record: ArmingRecord | None) -> None:
        self._at_connect = at_connect
        self._settings = settings
        self._record = record

    def arm(self, action: Arm) -> Steps[tuple[Arming, ...]]:
        """Arm these connections as their wishes say; return what became of each."""
        by_process = any(wish.rule.processes for wish in action.wishes)
        connections = yield from _with_owners(action.connections, by_process=by_process)
        armings: list[Arming] = []
        for _ in range(ROUNDS):
            known = self._known(connections)
            orders, left_alone = by_rules(action, connections, known)
            if self._record is not None and self._learn_armed_at_connect(orders.connections, known, self._record):
                known = self._known(connections)
            done, moved = yield from self._arm(orders, known, by_hand=action.by_hand)
            armings += [*left_alone, *done]
            if not moved:
                return tuple(armings)
            connections = _among(connections, moved)
        return (*armings, Arming(connections, ArmingResult.CHANGED_MEANWHILE))

    def _known(self, connections: Sequence[Connection]) -> Recorded:
        return self._record.known(column(connections, "cookie")) if self._record is not None else Recorded({})

    def _arm(self, orders: Orders, known: Recorded, *, by_hand: bool) -> Steps[tuple[list[Arming], set[int]]]:
        """Return the results, and the cookies of the sockets to read once more."""
        armings: list[Arming] = []
        again: set[int] = set()
        wanted = targets(orders.connections)
        at_once = len(wanted)
        while len(wanted):
            looked = yield ReadSocketSettings(wanted[:at_once], closing=False)
            at_once = len(looked)  # an armer that reads a few at a time is not sent all each time
            choices = how_to_arm(orders, wanted, looked, known, by_hand=by_hand)
            orders, wanted = orders.part(len(looked)), wanted[len(looked) :]
            armings += choices.left_alone()
            if self._record is None:
                armings += choices.foretold()
                continue
            ours = choices.to_set()
            moved, since = self._record.write(ours, known.turn), self._record.turn
            rows, changes = choices.changes(moved)
            if not len(changes):
                again |= moved
                continue
            results = yield from _change(changes, closing=False)
            done = choices.results(rows, results, ArmingResult.ARMED)
            moved |= _correct(done, ours, known.entries, self._record, since)
            yield from _record_again(done, ours, self._record, since)
            armings += _without(done, moved)
            again |= moved
        return armings, again

    def _learn_armed_at_connect(self, connections: Sequence[Connection], known: Recorded, record: ArmingRecord) -> bool:
        """Record as armed by us those of the sockets that were armed at connect; return whether there are any."""
        cookies = column(connections, "cookie")
        new = cookies[~are_among(cookies, known.entries)]
        if not len(new):
            return False
        with contextlib.suppress(Refusal):  # without BPF nobody can read what it has recorded
            if found := self._at_connect.armed():
                mine = {cookie: found[cookie] for cookie in new[are_among(new, found)].tolist()}
                record.write(mine, known.turn, Whose.EARLIER)
                return bool(mine)
        return False

    def recorded(self, cookies: Collection[int]) -> dict[int, Entry]:
        """Return what is recorded of these sockets, or was at connect."""
        known = self._record.known(cookies).entries if self._record is not None else {}
        entries = dict(known)
        if len(entries) < len(cookies):
            with contextlib.suppress(Refusal):
                found = self._at_connect.armed()
                entries.update({cookie: found[cookie] for cookie in cookies if cookie in found and cookie not in known})
        return entries

    def count_armed(self, cookies: Column) -> int:
        """Return how many of these sockets are armed, as recorded or at connect; 0 where the record cannot be read."""
        if self._record is None:
            return 0
        with contextlib.suppress(Refusal):
            known = self._record.known(cookies).entries
            armed = are_armed(cookies, known)
            with contextlib.suppress(Refusal):
                armed |= are_among(cookies, self._at_connect.armed()) & ~are_among(cookies, known)
            return int(np.count_nonzero(armed))
        return 0

    def disarm(self, look: Judgement, *, only_mine: bool = False) -> Steps[Outcome]:
        """Disarm the recorded sockets that are in this judgement. Call it after the system settings are restored.

        `only_mine`: only the sockets that this process was the first to arm.
        """
        if self._record is None:
            return Outcome(Disarm(()), dry_run=True)
        action, undone = Disarm(()), Mark.NOT_ARMED if only_mine else Mark.LEFT_ALONE
        try:
            cookies = look.table.sockets["cookie"]
            rows = are_armed(cookies, self._record.known(cookies).entries)
            if only_mine:
                rows &= are_among(cookies, self._record.armed_here(first=True))
            action = Disarm((yield from _with_owners(select(look, np.flatnonzero(rows)))))
            back = self._put_back(action.connections, self._record, undone, remembered=True)
            return Outcome(action, armings=(yield from back))
        except Refusal as refusal:
            return Outcome(action, refused=refusal)

    def put_back(self, action: Disarm) -> Steps[Outcome]:
        """Disarm these sockets, as far as they are recorded."""
        if self._record is None:
            return Outcome(action, dry_run=True)
        self._learn_armed_at_connect(action.connections, self._known(action.connections), self._record)
        found = yield from _with_owners(_armed(action.connections, self._known(action.connections)))
        armings = yield from self._put_back(found, self._record, Mark.LEFT_ALONE)
        return Outcome(dataclasses.replace(action, connections=found), armings=armings)

    def _put_back(
        self, connections: Sequence[Connection], record: ArmingRecord, undone: Mark, *, remembered: bool = False
    ) -> Steps[tuple[Arming, ...]]:
        """Disarm these sockets, and record them as `undone`; `remembered`: so that the next daemon may arm them."""
        armings: list[Arming] = []
        for _ in range(ROUNDS):
            known = self._known(connections)
            connections = _armed(connections, known)
            if not connections:
                return tuple(armings)
            done, moved = yield from self._disarm(connections, known, record, undone, remembered=remembered)
            armings += done
            connections = _among(connections, moved)
        return (*armings, Arming(connections, ArmingResult.CHANGED_MEANWHILE)) if connections else tuple(armings)

    def _disarm(
        self,
        connections: Sequence[Connection],
        known: Recorded,
        record: ArmingRecord,
        undone: Mark,
        *,
        remembered: bool,
    ) -> Steps[tuple[list[Arming], set[int]]]:
        """Return the results, and the cookies of the sockets to read once more, as others have armed them since."""
        armed = self._without_us(connections, known.entries)
        armings: list[Arming] = []
        again: set[int] = set()
        wanted = targets(connections)
        at_once = len(wanted)
        while len(wanted):
            looked = yield ReadSocketSettings(wanted[:at_once], closing=True)
            at_once = len(looked)
            choices = how_to_disarm(connections, wanted, looked, armed)
            connections, wanted = connections[len(looked) :], wanted[len(looked) :]
            done = choices.left_alone()
            rows, changes = choices.changes()
            if len(changes):
                record.check_writable()
                done += choices.results(rows, (yield from _change(changes, closing=True)), ArmingResult.DISARMED)
            moved = record.write(_undone(done, undone, known.entries if remembered else {}), known.turn)
            armings += _without(done, moved, unless=ArmingResult.DISARMED)
            again |= moved
        return armings, again

    def _without_us(self, connections: Sequence[Connection], entries: Mapping[int, Entry]) -> Shared[Armed]:
        """Return how these armed sockets were armed.

        Inherited times are as they would be if we had set no system setting.
        """
        cookies, known = column(connections, "cookie"), shared(entries)
        used, numbers = np.unique(known.numbers_of(cookies), return_inverse=True)
        kinds = [kind for number in used.tolist() if isinstance(kind := known.kinds[number], Armed)]
        if found := self._settings.without_us():
            namespace, system = found
            numbers = numbers + len(kinds) * (column(connections, "netns") == namespace)
            kinds += [as_chosen(kind, system) for kind in kinds]
        return Shared(cookies, numbers, kinds)


def _change(changes: Column, *, closing: bool) -> Steps[Column]:
    """Change sockets and return the results; read them once more if the worker is lost before it has answered."""
    give_back()  # what deciding and recording have freed, before as much again is sent
    try:
        results: Column = yield ChangeSocketSettings(changes, closing=closing)
    except KernelError:
        results = np.zeros(0, RESULT)
        while len(results) < len(changes):
            rest = changes[len(results) :]
            looked = yield ReadSocketSettings(rest[list(TARGET.names or ())].astype(TARGET), closing=closing)
            results = np.concatenate([results, what_became(rest[: len(looked)], looked)])
    return results


def take_over(at_connect: AtConnect, record: ArmingRecord) -> None:
    """Record the sockets armed at connect in the arming record, so that disarming finds them. Raises Refusal."""
    found = at_connect.armed()
    if found:
        known = record.known(found)
        new = {cookie: armed for cookie, armed in found.items() if cookie not in known.entries}
        record.write(new, known.turn, Whose.EARLIER)
    at_connect.forget()


def _correct(
    armings: Sequence[Arming],
    ours: Shared[Armed],
    before: Mapping[int, Entry],
    record: ArmingRecord,
    since: int,
) -> set[int]:
    """Record what stands in sockets that were not set; return the cookies of the sockets to read once more.

    What was set between our look and our change is decided anew, as if it had been set before we looked.
    """
    restored: dict[int, Entry] = {}
    stands: dict[int, Entry] = {}
    for arming in armings:
        is_failure = arming.result is ArmingResult.FAILED
        if is_failure or arming.result is ArmingResult.CHANGED_MEANWHILE:
            for cookie in column(arming.connections, "cookie").tolist():
                if is_failure and arming.after and arming.after != arming.before:
                    stands[cookie] = ours[cookie]._replace(after=arming.after)
                else:
                    restored[cookie] = before.get(cookie, Mark.NOT_ARMED)
    moved = record.write(restored, since, Whose.OTHERS) | record.write(stands, since)
    return moved | set(_cookies(armings, ArmingResult.CHANGED_MEANWHILE).tolist())


def _record_again(armings: Iterable[Arming], ours: Shared[Armed], record: ArmingRecord, since: int) -> Steps[None]:
    """Record sockets again that we set after another process had read them and recorded them as not armed."""
    replaced = record.changed(ours, since)
    if not replaced.entries:
        return
    lost = [
        one
        for arming in armings
        for one in (arming.connections if arming.result is ArmingResult.ARMED else ())
        if isinstance(replaced.entries.get(one.cookie), Mark | PutBack)
    ]
    if lost:
        wanted = targets(lost)
        looked = yield ReadSocketSettings(wanted, closing=True)
        choices = how_to_disarm(lost, wanted, looked, {one.cookie: ours[one.cookie] for one in lost})
        record.write({cookie: ours[cookie] for cookie in choices.to_set()}, replaced.turn)


def _undone(armings: Sequence[Arming], mark: Mark, entries: Mapping[int, Entry]) -> Shared[Entry]:
    """Return what to record of sockets after disarming: `mark`, or that somebody has set them since.

    Of those that have one of these `entries`, what was put back, where programs did not choose all of it.
    """
    known, parts = shared(entries), list[tuple[Column, Entry]]()
    for arming in armings:
        cookies = column(arming.connections, "cookie")
        if arming.result in LEFT:
            parts.append((cookies, Mark.LEFT_ALONE))
        if arming.result in BACK:
            numbers = known.numbers_of(cookies)
            for number in np.unique(numbers).tolist():
                entry = known.kinds[number] if number != NONE else mark
                parts.append((cookies[numbers == number], _as_put_back(entry, arming.after) or mark))
    numbers = np.repeat(np.arange(len(parts)), [len(cookies) for cookies, _ in parts])
    return Shared(
        np.concatenate([np.zeros(0, np.uint64), *(cookies for cookies, _ in parts)]),
        numbers,
        [entry for _, entry in parts],
    )


def _as_put_back(entry: Entry, stands: SocketKeepalive | None) -> PutBack | None:
    """Return the entry that this was put back; None where a program chose all of it, or that is not known."""
    if isinstance(entry, Armed) and entry.inherited & ALL and stands:
        return PutBack(stands, entry.inherited)
    return None


def _with_owners(connections: Sequence[Connection], *, by_process: bool = False) -> Steps[Sequence[Connection]]:
    """Return each connection once, with its owner: its unit alone where they are many, unless `by_process`."""
    are_many = len(connections) > MANY and not by_process
    return _each_once((yield from find_owners(connections, units_suffice=are_many)))


def _armed(connections: Sequence[Connection], known: Recorded) -> Sequence[Connection]:
    """Return those of the connections that are recorded as armed."""
    return part(connections, are_armed(column(connections, "cookie"), known.entries))


def _each_once(connections: Sequence[Connection]) -> Sequence[Connection]:
    """Return each connection once, sorted by process: a dump may list a socket twice."""
    _, first = np.unique(column(connections, "cookie"), return_index=True)
    first.sort()
    return part(connections, first[np.argsort(column(connections, "pid")[first], kind="stable")])


def _among(connections: Sequence[Connection], cookies: Collection[int]) -> Sequence[Connection]:
    """Return those of the connections that have one of these cookies."""
    return part(connections, np.isin(column(connections, "cookie"), np.fromiter(cookies, np.uint64, len(cookies))))


def _without(armings: Iterable[Arming], cookies: Collection[int], unless: ArmingResult | None = None) -> list[Arming]:
    """Return the armings without sockets that have these cookies, except those whose result is `unless`."""
    if not cookies:
        return list(armings)
    left = [arming if arming.result is unless else _others(arming, cookies) for arming in armings]
    return [arming for arming in left if len(arming.connections)]


def _others(arming: Arming, cookies: Collection[int]) -> Arming:
    others = ~np.isin(column(arming.connections, "cookie"), np.fromiter(cookies, np.uint64, len(cookies)))
    return dataclasses.replace(arming, connections=part(arming.connections, others))


def _cookies(armings: Iterable[Arming], *results: ArmingResult) -> Column:
    """Return the cookies of the sockets that have one of these results."""
    chosen = [column(arming.connections, "cookie") for arming in armings if arming.result in results]
    return np.concatenate([np.zeros(0, np.uint64), *chosen])
