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
from keepaliveD.policy.activity import find
from keepaliveD.policy.arming import Considered, times
from keepaliveD.policy.judge import Judgement

NONE = np.empty(0, np.uint64)


class Saves:
    """Remembers by cookie whose present silence was counted: each silence counts once."""

    def __init__(self) -> None:
        self._counted = NONE

    def observe(self, judgement: Judgement, rules: Sequence[ArmRule]) -> Indices:
        """Return the rows whose silence has become longer than the idle timeout since the scan before."""
        saved = np.flatnonzero(_saved(judgement, rules))
        cookies = judgement.table.sockets["cookie"][saved]
        _, before = find(self._counted, cookies)
        self._counted = cookies
        return saved[~before]


def _saved(judgement: Judgement, rules: Sequence[ArmRule]) -> Bools:
    """Return which connections only probes have kept from being forgotten, and live.

    No data passed for longer than the idle timeout of the path. What was sent is answered.
    """
    sockets = judgement.table.sockets
    quiet = np.fmin(sockets["since_sent"], sockets["since_received"])
    saved: Bools = quiet > judgement.assigned.timeout  # false where no idle timeout is known
    saved &= (judgement.forecast.verdict == Verdict.SAFE.value) & (judgement.assigned.timeout < FOREVER)
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
