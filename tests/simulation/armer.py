"""Arms simulated sockets: the real policy decides, as in platforms/linux/pidfd.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepaliveD.model import (
    Arm,
    ArmAction,
    Armed,
    Arming,
    Fate,
    Keepalive,
    Owner,
    Shown,
    SocketKeepalive,
)
from keepaliveD.model import Connection as Row
from keepaliveD.policy.arming import choose
from keepaliveD.policy.settle import settle_order
from keepaliveD.sockets import TcpState
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

    def _one(self, action: Arm, row: Row) -> Arming:
        wish = choose(action.wishes, Owner())
        if (
            wish is None
            or wish.rule.action is ArmAction.OBSERVE
            or (wish.rule.action is ArmAction.REARM and row.keepalive is Shown.OFF)
        ):
            return Arming((row,), Fate.OBSERVED)
        connection = self._connections[row.cookie - 1]
        connection.advance(self.now)
        end = connection.here
        if end.state != TcpState.ESTABLISHED:
            return Arming((row,), Fate.GONE)
        before = keepalive(end, self.now)
        system = end.system(self.now)
        earlier = self._earlier.get(row.cookie)
        wanted = settle_order(
            before,
            Keepalive(system.idle, system.interval, system.probes),
            wish,
            earlier,
            by_hand=action.by_hand,
            again=earlier is not None,
        )
        if isinstance(wanted, Fate):
            return Arming((row,), wanted, before)
        self._earlier[row.cookie] = Armed(earlier.before if earlier else before, wanted)
        entry = ArmedAt(self.now, connection.forgotten_at(), before, wanted)
        self.armed.setdefault(row.cookie - 1, []).append(entry)
        self._set(connection, before, wanted)
        return Arming((row,), Fate.ARMED, before, keepalive(end, self.now))

    def _set(self, connection: Connection, before: SocketKeepalive, after: SocketKeepalive) -> None:
        """In the order of bpf/arm.bpf.c: the idle time last."""
        end = connection.here
        connection.note(self.now, end, f"is armed: {after} (before: {before})")
        connection.armed_at.append(self.now)
        if after.times.interval != before.times.interval:
            end.options.interval = after.times.interval
        if after.times.probes != before.times.probes:
            end.options.probes = after.times.probes
        if after.on != before.on:
            end.set_keepalive(self.now, after.on)
        end.set_idle(self.now, after.times.idle)


def keepalive(end: End, now: float) -> SocketKeepalive:
    """What getsockopt(2) tells."""
    return SocketKeepalive(end.options.on, Keepalive(end.idle(now), end.interval(now), end.probes(now)))
