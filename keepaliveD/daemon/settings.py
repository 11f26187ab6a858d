"""Set and restore the system settings, and keep their record true. Nothing else writes system settings."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping

from keepaliveD.model.actions import Because, FoundSettings, Outcome, SetSystemKeepalive
from keepaliveD.model.errors import KernelError, LaterRecord, Misuse, Refusal
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.reports import ReportNotRestored
from keepaliveD.model.snapshot import Setting
from keepaliveD.model.text import quoted, shortened
from keepaliveD.platforms.base import Tuner
from keepaliveD.records.settings import DueBack, SettingsRecord

TRIES = 10  # to record what somebody else has just written, and to overwrite it before it changes again


class SystemSettings:
    """The settings of one system, and the record of the values found. Without a record they are only read."""

    def __init__(self, tuner: Tuner, record: SettingsRecord | None) -> None:
        self._tuner = tuner
        self._record = record
        self._damaged: tuple[str, ...] | None = None  # files that are no record, as soon as they were looked for

    def read(self, *, cared_for: bool) -> FoundSettings:
        """Read what stands, if the settings are in our care, and see to the record. Raises Refusal."""
        troubles = self._troubles()
        stands = self._tuner.read() if cared_for else {}
        without_us = stands
        with contextlib.suppress(LaterRecord):  # it is among the troubles; connections are watched all the same
            without_us = self._record.without_us(stands) if self._record else stands
        return FoundSettings(stands, without_us, troubles)

    def apply(self, action: SetSystemKeepalive) -> Outcome:
        """Record the values found, then write all new values, or leave all settings as they were.

        A value that somebody else writes meanwhile is recorded before it is overwritten. Raises Refusal.
        """
        if self._record is None:
            return Outcome(action, dry_run=True)
        self._record.record_found(action.found, action.values)
        replaced: dict[str, int] = {}
        try:
            for key, value in _longer_first(action.values, action.found):
                replaced[key] = action.found[key]  # first: what fails may have written all the same
                replaced[key] = self._exchange(key, action.found[key], value, self._record)
        except Refusal as refusal:
            raise self._undo(action.values, replaced, self._record, refusal) from refusal
        self._record.confirm_set(action.values)
        return Outcome(dataclasses.replace(action, found={key: replaced[key] for key in action.values}))

    @property
    def netns(self) -> int:
        """Return the inode of our network namespace; 0 where there are none."""
        return int("".join(filter(str.isdecimal, self._tuner.identity.get("netns", ""))) or "0")

    def without_us(self) -> tuple[int, Keepalive] | None:
        """Return the inode of our network namespace and its settings without us; None if no value of ours stands.

        Raises Refusal.
        """
        roles = self._tuner.roles
        if self._record is None or not all(roles) or not self._record.holds_any():
            return None
        values = self._record.without_us(self._tuner.read())
        return self.netns, Keepalive(*(values[key] for key in roles))

    def release(self, keys: Mapping[str, int]) -> None:
        """Leave these settings to somebody else, for good."""
        if self._record:
            self._record.release(keys)

    def restore(self, only: Collection[str] | None = None, *, beside_daemon: bool = False) -> list[Outcome]:
        """Write the values found back where ours still stand, then remove the record.

        `only`: of these settings; the others stay in the record. `beside_daemon`: leave the record to a daemon.
        A setting that cannot be written does not hinder the others, and stays in the record for another try.
        Without a record the kernel is not even read. Raises Refusal where nothing is done.
        """
        if unknown := sorted(set(only or ()) - self._tuner.ranges.keys()):
            names = ", ".join(self._tuner.ranges)
            raise Misuse(f"{quoted(shortened(unknown[0]))}: not a setting that is restored; name one of {names}")
        if self._record is None:
            return []
        if not self._record.holds_any():
            return [] if beside_daemon else self._forget({}, {}, self._record, all_done=True)
        due = self._record.due_back(self._tuner.read())
        if only is not None:
            due = _only(due, only)
        restored, left, refused = self._write_back(due)
        outcomes = [Outcome(SetSystemKeepalive(restored, due.stands, Because.RESTORE))] if restored else []
        if left:
            outcomes.append(Outcome(ReportNotRestored(left)))
        if beside_daemon:
            return [*outcomes, *refused]
        all_done = only is None and not refused
        return [*outcomes, *refused, *self._forget(restored, left, self._record, all_done=all_done)]

    def _write_back(self, due: DueBack) -> tuple[dict[str, int], dict[str, int], list[Outcome]]:
        """Return the settings restored, those that somebody else has set, and those that could not be written."""
        restored: dict[str, int] = {}
        left, refused = dict(due.left_alone), []
        for key, value in _longer_first(due.values, due.stands):
            try:
                stood = self._tuner.exchange(key, due.stands[key], value)
            except Refusal as refusal:
                action = SetSystemKeepalive({key: value}, {key: due.stands[key]}, Because.RESTORE)
                refused.append(Outcome(action, refused=refusal))
                continue
            if stood == due.stands[key]:
                restored[key] = value
            elif stood != value:
                left[key] = stood
        return {key: value for key, value in due.values.items() if key in restored}, left, refused

    def _troubles(self) -> tuple[str, ...]:
        if self._record is None:
            return ()
        if self._damaged is None:
            self._damaged = self._record.set_aside()
        try:
            lost = self._record.tend()
        except LaterRecord as refusal:
            return (*self._damaged, str(refusal))
        except Refusal as refusal:
            return (*self._damaged, f"{refusal}; each scan tries again to write the settings record")
        said = "the settings record was removed or replaced, or got a second name or another owner; wrote it again"
        return (*self._damaged, said) if lost else self._damaged

    def _exchange(self, key: str, expected: int, value: int, record: SettingsRecord) -> int:
        """Write a value over the value that stands, recording what stands first; return what stood there."""
        for _ in range(TRIES):
            stood = self._tuner.exchange(key, expected, value)
            if stood == expected:
                return stood
            record.record_found({key: stood}, {key: value})
            expected = stood
        raise KernelError(f"{key}: cannot be set to {value}: someone else keeps changing it; find out who")

    def _undo(
        self, values: Mapping[str, int], replaced: Mapping[str, int], record: SettingsRecord, why: Refusal
    ) -> Refusal:
        """Put back the values that ours have replaced, where ours still stand; return the reason with what failed."""
        for key, before in reversed([*replaced.items()]):
            with contextlib.suppress(Refusal):  # the reason for it all is worth more
                self._tuner.exchange(key, values[key], before)
        try:
            stands = self._tuner.read()
        except Refusal:
            return why  # the record stays, whatever stands
        record.withdraw(stands)
        stuck = [key for key, before in replaced.items() if before != stands[key] == values[key]]
        return type(why)(f"{why}; {', '.join(stuck)} could not be restored") if stuck else why

    def _forget(
        self, restored: Mapping[str, int], left: Mapping[str, int], record: SettingsRecord, *, all_done: bool
    ) -> list[Outcome]:
        """Remove the record, or the settings that are done from it. A failure is reported, and loses nothing."""
        if not all_done:
            record.release({**restored, **left})
            return []
        try:
            record.close()
        except Refusal as refusal:
            problem = type(refusal)(f"{refusal}; no setting is left to restore: remove the file as soon as you can")
            return [Outcome(SetSystemKeepalive({}, {}, Because.RESTORE), refused=problem)]
        return []


def _longer_first(values: Mapping[str, int], stands: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the settings in the order in which to write them.

    Idle 180, interval 20 and 9 probes are a mix that gives a peer less time than the values before or after: who is
    killed between two writes must not leave it behind.
    """
    return sorted(values.items(), key=lambda one: one[1] < stands[one[0]])


def _only(due: DueBack, keys: Collection[str]) -> DueBack:
    """Return what is to be restored of these settings."""
    values, stands, left = (
        {key: value for key, value in part.items() if key in keys} for part in (due.values, due.stands, due.left_alone)
    )
    return DueBack(values, stands, left)


def settings(wanted: Mapping[str, int], tuner: Tuner, record: SettingsRecord | None) -> tuple[Setting, ...]:
    """Return what is wanted, what stands, and what stood before ours, as far as it can be read. Nothing is changed."""
    stands: Mapping[str, int] = {}
    before: Mapping[str, int] = {}
    with contextlib.suppress(Refusal):
        stands = tuner.read()
        before = record.due_back(stands).values if record else {}
    return tuple(Setting(name, value, stands.get(name), before.get(name)) for name, value in wanted.items())
