"""Saves: silences of armed connections that were longer than the idle timeout of the path, and that they survived."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np

from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Own
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.model.sockets import Bools, Column, Indices, Switch
from keepaliveD.policy.arming.arming import Considered, times
from keepaliveD.policy.verdicts.activity import find
from keepaliveD.policy.verdicts.judge import Judgement

NONE = np.empty(0, np.uint64)


class Saves:
    """Remembers by cookie whose present silence was counted: each silence counts once.

    One that was longer than the idle timeout before the connection was armed counts as if it had been.
    """

    def __init__(self) -> None:
        self._counted = NONE
        self._unarmed = NONE  # those whose silence was longer at the last scan, when they were not armed

    def observe(self, judgement: Judgement, rules: Sequence[ArmRule]) -> Indices:
        """Return the rows whose silence has become longer than the idle timeout since the scan before."""
        longer = _is_longer(judgement)
        is_saved = _saved(judgement, rules, longer)
        saved, all_cookies = np.flatnonzero(is_saved), judgement.table.sockets["cookie"]
        cookies = all_cookies[saved]
        _, before = find(self._counted, cookies)
        _, unarmed = find(self._unarmed, cookies)
        _, counted = find(self._counted, all_cookies)
        self._counted = all_cookies[longer & (is_saved | counted)]  # also while a probe is on its way
        self._unarmed = all_cookies[longer & ~is_saved & (judgement.activity.arming != Considered.ARMED.value)]
        return saved[~(before | unarmed)]


def _is_longer(judgement: Judgement) -> Bools:
    """Return on which connections no data passed for longer than the idle timeout of the path."""
    sockets = judgement.table.sockets
    quiet = np.fmin(sockets["since_sent"], sockets["since_received"])
    timeout = judgement.assigned.timeout
    longer: Bools = (quiet > timeout) & (timeout < FOREVER)  # false where no idle timeout is known
    return longer


def _saved(judgement: Judgement, rules: Sequence[ArmRule], longer: Bools) -> Bools:
    """Return which of these connections only probes have kept from being forgotten, and live.

    What was sent is answered.
    """
    sockets = judgement.table.sockets
    saved: Bools = longer & (judgement.forecast.verdict == Verdict.SAFE.value)
    saved &= (sockets["retransmits"] == 0) & (sockets["probes"] == 0)
    if saved.any():
        saved &= (judgement.activity.arming == Considered.ARMED.value) | _armed_at_connect(judgement, rules, saved)
    return saved


def _armed_at_connect(judgement: Judgement, rules: Sequence[ArmRule], among: Bools) -> Bools:
    """Return which of these sockets have exactly the times that a rule sets on their path.

    The kernel's program arms at connect, and counts the sockets, but does not tell which they are.
    """
    sockets, index = judgement.table.sockets, judgement.assigned.index
    own: Column = (sockets["own"] & (Own.IDLE | Own.INTERVAL)) == (Own.IDLE | Own.INTERVAL)
    among = among & own & (sockets["keepalive"] == Switch.ON.value)
    armed = np.zeros(len(sockets), np.bool_)
    for number in np.unique(index[among]).tolist():
        path = judgement.assigned.paths[number]
        for rule in rules:
            if rule.action is ArmAction.ENABLE and _selects(rule, path.name):
                idle, interval, _ = times(rule, path.timeout)
                armed |= (index == number) & (sockets["keepidle"] == idle) & (sockets["keepintvl"] == interval)
    return armed & among


def _selects(rule: ArmRule, path: str) -> bool:
    return not rule.paths or any(fnmatch.fnmatchcase(path, pattern) for pattern in rule.paths)
