"""Carry out actions: the only place that writes to the kernel; dry run lives here."""

from __future__ import annotations

import dataclasses

from keepaliveD.custody import Custody, Return
from keepaliveD.errors import Refusal
from keepaliveD.model import Action, Because, Outcome, Report, ReportDrift, SetSystemKeepalive
from keepaliveD.platforms.base import Owners, Tuner


class Performer:
    """Turns actions into outcomes. Without `custody` it is a dry run: the kernel is left alone."""

    def __init__(self, tuner: Tuner, owners: Owners, custody: Custody | None) -> None:
        self._tuner = tuner
        self._owners = owners
        self._custody = custody

    def perform(self, action: Action) -> Outcome:
        """Do it; a refusal is an outcome too."""
        try:
            return self._perform(action)
        except Refusal as refusal:
            return Outcome(action, refused=refusal)

    def _perform(self, action: Action) -> Outcome:
        match action:
            case SetSystemKeepalive():
                if self._custody is None:
                    return Outcome(action, dry_run=True)
                self._set(action, self._custody)
                return Outcome(action)
            case Report(connections):
                return Outcome(dataclasses.replace(action, connections=self._owners.name(connections)))
            case ReportDrift(found=found, yielded=True) if self._custody is not None:
                self._custody.release(found)
                return Outcome(action)
            case _:
                return Outcome(action)

    def _set(self, action: SetSystemKeepalive, custody: Custody) -> None:
        custody.keep(action.found, action.values)
        try:
            self._tuner.write(action.values)
        except Refusal:
            custody.withdraw(self._tuner.read())
            raise
        custody.settle(action.values)


def give_back(tuner: Tuner, custody: Custody) -> tuple[Outcome, Return]:
    """Write the recorded values back where ours still stand, then forget them.

    Where that fails the record stays, for another try.
    Without a record the kernel is not even read.
    """
    due = custody.due_back(tuner.read()) if custody.holds_any() else Return()
    action = SetSystemKeepalive(due.values, due.stands, Because.RESTORE)
    try:
        if due.values:
            tuner.write(due.values)
    except Refusal as refusal:
        return Outcome(action, refused=refusal), due
    custody.close()
    return Outcome(action), due
