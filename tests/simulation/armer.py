"""Arms simulated sockets: the real policy decides, as in platforms/linux/pidfd.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keepaliveD.model.actions import Arm
from keepaliveD.model.arming import LOOKED, Access
from keepaliveD.model.connections import Connection as Row
from keepaliveD.model.connections import Owner
from keepaliveD.model.keepalive import Found, Keepalive, Own, Shown, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult
from keepaliveD.model.rules import ArmAction
from keepaliveD.model.sockets import Column, TcpState
from keepaliveD.policy.arming.arming import first_matching
from keepaliveD.policy.arming.socket_settings import Wanted, decide_arming
from tests.simulation.connection import Connection
from tests.simulation.kernel import End


@dataclass(frozen=True, slots=True)
class ArmedAt:
    """A socket that was armed, and when its path would have forgotten it without a packet."""

    when: float
    forgotten_at: float
    before: SocketKeepalive
    after: SocketKeepalive


class Armer:
    """Sets sockets at `now`, which whoever drives it moves."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._earlier: dict[int, Armed] = {}
        self.now = 0.0
        self.armed: dict[int, list[ArmedAt]] = {}

    def arm(self, action: Arm) -> tuple[Arming, ...]:
        """What became of each."""
        return tuple(self._one(action, row) for row in action.connections)

    def read(self, targets: Column) -> Column:
        """Return what getsockopt(2) tells of each, as a row of LOOKED."""
        looked = np.zeros(len(targets), LOOKED)
        for row, cookie in zip(looked, targets["cookie"].tolist(), strict=True):
            connection = self._connections[cookie - 1]
            connection.advance(self.now)
            end = connection.here
            is_open = end.state == TcpState.ESTABLISHED
            row["access"] = Access.DONE if is_open else Access.CLOSED
            row["stands"] = (end.idle(self.now), end.interval(self.now), end.probes(self.now), end.options.on)
            row["unanswered"] = end.probes_out
        return looked

    def _one(self, action: Arm, row: Row) -> Arming:
        wish = first_matching(action.wishes, Owner())
        if (
            wish is None
            or wish.rule.action is ArmAction.OBSERVE
            or (wish.rule.action is ArmAction.REARM and row.keepalive is Shown.OFF)
        ):
            return Arming((row,), ArmingResult.LEFT_BY_RULE)
        connection = self._connections[row.cookie - 1]
        connection.advance(self.now)
        end = connection.here
        if end.state != TcpState.ESTABLISHED:
            return Arming((row,), ArmingResult.CLOSED)
        before = keepalive(end, self.now)
        system = end.system(self.now)
        user_timeout = int(end.options.user_timeout * 1000)
        earlier = self._earlier.get(row.cookie)
        decided = decide_arming(
            Found(
                before,
                _inherited(end),
                Keepalive(system.idle, system.interval, system.probes),
                user_timeout,
                end.probes_out,
            ),
            Wanted(wish, row.timeout, row.verdict, earlier, action.by_hand, earlier is not None, row.confirmed),
        )
        if isinstance(decided, ArmingResult):
            return Arming((row,), decided, before)
        self._earlier[row.cookie] = decided
        entry = ArmedAt(self.now, connection.forgotten_at(), before, decided.after)
        self.armed.setdefault(row.cookie - 1, []).append(entry)
        self._set(connection, before, decided.after)
        return Arming((row,), ArmingResult.ARMED, before, keepalive(end, self.now))

    def _set(self, connection: Connection, before: SocketKeepalive, after: SocketKeepalive) -> None:
        """All four, in the order of bpf/arm.bpf.c: the idle time last."""
        end = connection.here
        connection.note(self.now, end, f"is armed: {after} (before: {before})")
        connection.armed_at.append(self.now)
        end.options.interval = after.times.interval
        end.options.probes = after.times.probes
        if after.on != before.on:
            end.set_keepalive(self.now, after.on)
        end.set_idle(self.now, after.times.idle)


def keepalive(end: End, now: float) -> SocketKeepalive:
    """What getsockopt(2) tells."""
    return SocketKeepalive(end.options.on, Keepalive(end.idle(now), end.interval(now), end.probes(now)))


def _inherited(end: End) -> Own:
    """Which of the three the socket takes from its namespace."""
    options = end.options
    own = {Own.IDLE: options.idle, Own.INTERVAL: options.interval, Own.PROBES: options.probes}
    return Own(sum(field for field, value in own.items() if not value))
