"""What to do about the system's keepalive settings: apply, keep, yield."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from keepaliveD.model import Action, Because, FoundSettings, Outcome, ReportDrift, SetSystemKeepalive


class OnDrift(enum.Enum):
    """What to do when somebody else writes a setting of ours."""

    REAPPLY = "reapply"
    YIELD = "yield"
    WARN = "warn"


class SystemKeepalive:
    """The settings in our care: the kernel's numbers by the kernel's names.

    A setting that was never in place is applied; one that was, and is no longer, has drifted.
    """

    def __init__(self, wanted: Mapping[str, int], on_drift: OnDrift) -> None:
        self._wanted = wanted
        self._on_drift = on_drift
        self._were_in_place: set[str] = set()
        self._left_alone: dict[str, int] = {}  # values of others that stay until they change again
        self._yielded: set[str] = set()

    def observe(self, settings: FoundSettings) -> list[Action]:
        """Compare what stands with what should."""
        found = settings.stands
        in_place = {key for key, value in self._wanted.items() if found[key] == value}
        self._were_in_place |= in_place
        self._left_alone = {key: value for key, value in self._left_alone.items() if key not in in_place}
        off = {
            key: found[key]
            for key in self._wanted.keys() - in_place - self._yielded
            if found[key] != self._left_alone.get(key)
        }
        drifted = {key: value for key, value in off.items() if key in self._were_in_place}
        missing = {key: value for key, value in off.items() if key not in self._were_in_place}
        return self._set(missing, Because.CONFIGURED) + self._on_drifted(drifted)

    def record(self, outcome: Outcome) -> None:
        """Learn what came of it: what could not be written is not tried again until it changes."""
        action = outcome.action
        if not isinstance(action, SetSystemKeepalive):
            return
        if outcome.refused or outcome.dry_run:
            self._left_alone |= action.found
        else:
            self._were_in_place |= action.values.keys()

    def _on_drifted(self, drifted: Mapping[str, int]) -> list[Action]:
        if not drifted:
            return []
        if self._on_drift is OnDrift.REAPPLY:
            return self._set(drifted, Because.DRIFT)
        if self._on_drift is OnDrift.YIELD:
            self._yielded |= drifted.keys()
        self._left_alone |= drifted
        wanted = {key: self._wanted[key] for key in drifted}
        return [ReportDrift(wanted, drifted, yielded=self._on_drift is OnDrift.YIELD)]

    def _set(self, found: Mapping[str, int], because: Because) -> list[Action]:
        values = {key: value for key, value in self._wanted.items() if key in found}
        return [SetSystemKeepalive(values, found, because)] if values else []
