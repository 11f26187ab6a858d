"""Decide what to do about the system's keepalive settings: apply, keep, yield."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keepaliveD.model.actions import Action, Because, FoundSettings, Outcome, SetSystemKeepalive
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.reports import ReportDrift, ReportRewriter, ReportStricter
from keepaliveD.model.rules import OnDrift, Roles
from keepaliveD.policy.arming.strictness import keep_stricter
from keepaliveD.policy.repeats import Repeats

FIRST_RETRY = 1.0  # seconds after which what was refused is tried again, then twice as many, and so on
LONGEST_RETRY = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class _LeftAlone:
    """A value that is left alone until some time, or until it changes; `reason` if writing it was refused."""

    value: int
    until: float = FOREVER
    pause: float = 0.0
    reason: str = ""


class SystemKeepalive:
    """Decides on the settings that we apply: the kernel's numbers by the kernel's names.

    A setting that was never in place is applied; one that was, and is no longer, has drifted.
    With `roles`, a stricter setting that stands without us is kept: at the start, and with REAPPLY always.
    """

    def __init__(self, wanted: Mapping[str, int], on_drift: OnDrift, roles: Roles | None = None) -> None:
        self._wanted = wanted
        self._on_drift = on_drift
        self._roles = roles
        self._target: Mapping[str, int] = {}
        self.kept: Mapping[str, int] = {}  # what stands in place of what is wanted, because a time is stricter
        self._in_place: dict[str, int] = {}  # the value that was, when it last was
        self._left_alone: dict[str, _LeftAlone] = {}
        self._yielded: set[str] = set()
        self._repeats = Repeats()
        self._now = 0.0

    def observe(self, found: FoundSettings, now: float) -> list[Action]:
        """Compare the settings that stand with those that should; return the actions."""
        self._now = now
        actions = self._aim(found.without_us)
        stands = {key: found.stands[key] for key in self._target}
        in_place = {key: value for key, value in self._target.items() if stands[key] == value}
        self._in_place |= in_place
        self._left_alone = {key: left for key, left in self._left_alone.items() if key not in in_place}
        off = {
            key: stands[key]
            for key in self._target.keys() - in_place.keys() - self._yielded
            if not self._is_left_alone(key, stands[key])
        }
        drifted = {key: value for key, value in off.items() if self._in_place.get(key, value) != value}
        missing = {key: value for key, value in off.items() if key not in drifted}
        return [*actions, *self._set(missing, Because.CONFIGURED), *self._on_drifted(drifted)]

    def leave(self, keys: Iterable[str] | None) -> frozenset[str]:
        """Leave these settings, or all, to whoever sets them; return those that were cared for until now."""
        before = frozenset(self._wanted if keys is None else keys) - self._yielded
        self._yielded |= before
        return before

    def care_for(self, keys: Iterable[str]) -> None:
        """Leave these settings to nobody else any more."""
        self._yielded -= set(keys)

    def record(self, outcome: Outcome) -> None:
        """Learn the outcome of an action. A refused setting is tried again after a while, or once it changes."""
        action = outcome.action
        if not isinstance(action, SetSystemKeepalive):
            return
        if outcome.dry_run:
            self._left_alone |= {key: _LeftAlone(value) for key, value in action.found.items()}
        elif outcome.refused:
            self._left_alone |= {key: self._refused(key, value, outcome) for key, value in action.found.items()}
        else:
            self._in_place |= action.values
            self._left_alone = {key: left for key, left in self._left_alone.items() if key not in action.values}

    @property
    def refused(self) -> Mapping[str, str]:
        """Return the settings that could not be set when that was last tried, with the reasons."""
        left = self._left_alone.items()
        return {key: one.reason for key, one in sorted(left) if one.reason and key not in self._yielded}

    def _aim(self, without_us: Mapping[str, int]) -> list[Action]:
        """Decide what should stand. Report stricter settings that are kept once, and when they change."""
        if self._roles is None:
            self._target = self._wanted
        elif not self._target or self._on_drift is OnDrift.REAPPLY:
            self._target = keep_stricter(without_us, self._wanted, self._roles)
        before = self.kept
        self.kept = {key: value for key, value in self._target.items() if value != self._wanted[key]}
        if not self.kept or self.kept == before:
            return []
        return [ReportStricter({key: self._wanted[key] for key in self.kept}, self.kept)]

    def _is_left_alone(self, key: str, value: int) -> bool:
        left = self._left_alone.get(key)
        return left is not None and left.value == value and self._now < left.until

    def _was_refused(self, key: str, value: int) -> bool:
        """Return whether this value was to be replaced before, in vain: nobody has set it again."""
        left = self._left_alone.get(key)
        return left is not None and left.value == value and bool(left.reason)

    def _refused(self, key: str, value: int, outcome: Outcome) -> _LeftAlone:
        before = self._left_alone.get(key)
        pause = min(2 * before.pause, LONGEST_RETRY) if before and before.pause else FIRST_RETRY
        return _LeftAlone(value, self._now + pause, pause, str(outcome.refused))

    def _on_drifted(self, drifted: Mapping[str, int]) -> list[Action]:
        loud = {
            key: value
            for key, value in drifted.items()
            if self._was_refused(key, value) or self._repeats.happened(key, value, self._now)
        }
        actions: list[Action] = []
        if drifted and self._on_drift is OnDrift.REAPPLY:
            actions += self._set(drifted, Because.DRIFT, quiet=drifted.keys() - loud.keys())
        elif drifted:
            self._left_alone |= {key: _LeftAlone(value) for key, value in drifted.items()}
            if self._on_drift is OnDrift.YIELD:
                self._yielded |= drifted.keys()
            if loud:
                yielded = self._on_drift is OnDrift.YIELD
                actions.append(ReportDrift({key: self._target[key] for key in loud}, loud, yielded=yielded))
        if repeats := self._repeats.due(self._now):
            wanted = {key: self._target[key] for key in repeats}
            actions.append(ReportRewriter(wanted, repeats, reapplied=self._on_drift is OnDrift.REAPPLY))
        return actions

    def _set(self, found: Mapping[str, int], because: Because, quiet: Iterable[str] = ()) -> list[Action]:
        values = {key: value for key, value in self._target.items() if key in found}
        before = {self._left_alone[key].reason for key in values if key in self._left_alone}
        return [SetSystemKeepalive(values, found, because, frozenset(quiet), frozenset(before))] if values else []
