"""What a scan reads of simulated sockets: the table that each engine would make of them."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

from keepaliveD.model.keepalive import Own
from keepaliveD.model.sockets import SOCKET, Column, Indices, Sockets, SocketTable, Switch, TcpState, Timer
from tests.simulation.connection import Connection
from tests.simulation.kernel import HZ, NEVER, End
from tests.simulation.world import World, network

SINCE_PACKET = 1024e-6  # seconds: the unit of since_packet in bpf/record.h
V4_MAPPED = 0xFFFF_0000_0000
STAMPS = {"since_sent": 0, "since_received": 1, "since_acked": 2}  # columns of what a reading leaves
SEGMENTS_IN, SEGMENTS_OUT, TIMER, EXPIRES, STATE, ON, IDLE, INTERVAL, PROBES = range(3, 12)
STAMP, SLACK, USER_TIMEOUT, RETRANSMITS, UNANSWERED, WIDTH = range(12, 18)
FILLED = {
    *("cookie", "cgroup", "local_high", "local_low", "remote_high", "remote_low", "netns", "inode", "uid"),
    *("interface", "segments_in", "segments_out", "keepidle", "keepintvl", "since_sent", "since_received"),
    *("since_acked", "since_packet", "expires", "slack", "user_timeout", "local_port", "remote_port", "state"),
    *("timer", "keepalive", "keepcnt", "own", "retransmits", "probes", "subflow"),
}


class EngineName(enum.Enum):
    """How sockets are read."""

    BPF = "bpf"
    NETLINK = "netlink"


def reading(end: End) -> tuple[float, ...]:
    """One socket as numbers; instants are jiffies, but for its stamp."""
    timer, expires = end.timer()
    options = end.options
    return (
        end.last_sent,
        end.last_received,
        end.last_ack,
        end.segments_in,
        end.segments_out,
        timer,
        expires,
        end.state,
        options.on,
        options.idle,
        options.interval,
        options.probes,
        end.stamp,
        end.slack,
        options.user_timeout,
        end.retransmits,
        end.probes_out,
    )


class Reader:
    """Reads all connections of a world, each at its own instant of the scan."""

    def __init__(self, world: World, connections: Sequence[Connection], engine: EngineName) -> None:
        self._world = world
        self._connections = connections
        self._bpf = engine is EngineName.BPF
        self._rows = np.zeros((len(connections), WIDTH))
        self._next = np.array([connection.next_event for connection in connections])
        self._offset = np.array([connection.plan.read_offset for connection in connections])
        self._fixed = self._what_stays()
        self._taken_at = float("inf")  # of the scan before

    def touched(self, number: int, now: float) -> None:
        """Somebody has set this socket: read it again."""
        self._next[number] = now

    def scan(self, taken_at: float, takes: float) -> SocketTable:
        """All that are established or half-closed; `takes` is seconds that it reads rows for."""
        read_at = taken_at + self._offset * takes
        due = np.flatnonzero(self._next <= read_at)
        if len(due):
            self._advance(due, read_at)
        rows = np.flatnonzero(self._rows[:, STATE] > 0)
        sockets = self._fixed.select(rows)
        self._fill(sockets, self._rows[rows], read_at[rows], taken_at)
        asleep = sum(max(0.0, min(end, taken_at) - max(start, self._taken_at)) for start, end in self._world.asleep)
        self._taken_at = taken_at
        return SocketTable(sockets, taken_at, reading=takes, asleep=asleep)

    def is_over(self) -> bool:
        """Whether no scan will find a socket anymore: a decider would be shown one empty table after the other."""
        if (self._rows[:, STATE] > 0).any():
            return False
        return all(one.closed_at < NEVER or one.next_event == NEVER for one in self._connections)

    def _advance(self, due: Indices, read_at: Column) -> None:
        readings, following = [], []
        for number, until in zip(due.tolist(), read_at[due].tolist(), strict=True):
            connection = self._connections[number]
            connection.advance(until)
            readings.append(reading(connection.here))
            following.append(connection.next_event)
        self._rows[due] = readings
        self._next[due] = following

    def _what_stays(self) -> Sockets:
        assert set(SOCKET) == FILLED, f"what would an engine tell of {set(SOCKET) ^ FILLED}?"
        sockets = Sockets()
        new = sockets.extend(len(self._connections))
        for column in new.values():
            column[:] = 0
        numbers = np.arange(len(self._connections), dtype=np.uint64)
        paths = [int(network(connection.plan.path).network_address) for connection in self._connections]
        new["cookie"][:] = numbers + np.uint64(1)
        new["inode"][:] = numbers + np.uint64(1)
        new["local_low"][:] = V4_MAPPED | 0xC0000201
        new["remote_low"][:] = np.array(paths, np.uint64) + numbers % np.uint64(65536) + np.uint64(V4_MAPPED)
        new["local_port"][:], new["remote_port"][:] = 40000, 5432
        return sockets

    def _fill(self, sockets: Sockets, rows: Column, read_at: Column, taken_at: float) -> None:
        clock = self._world.clock
        first = clock.jiffies(taken_at)
        jiffies = first + ((read_at - taken_at) * HZ).astype(np.int64)
        for name, column in STAMPS.items():
            sockets[name][:] = (jiffies - rows[:, column]) / HZ
        sockets["segments_in"][:] = rows[:, SEGMENTS_IN]
        sockets["segments_out"][:] = rows[:, SEGMENTS_OUT]
        sockets["timer"][:] = rows[:, TIMER]
        sockets["expires"][:] = np.where(rows[:, TIMER] > 0, np.maximum(rows[:, EXPIRES] - jiffies, 0) / HZ, 0)
        sockets["state"][:] = np.where(rows[:, STATE] > 0, rows[:, STATE], TcpState.ESTABLISHED.value)
        sockets["retransmits"][:] = rows[:, RETRANSMITS]
        sockets["probes"][:] = rows[:, UNANSWERED]
        sockets["since_packet"][:] = sockets["slack"][:] = np.nan
        if self._bpf:
            self._fill_keepalive(sockets, rows, taken_at)
            self._fill_stamps(sockets, rows, read_at)

    def _fill_stamps(self, sockets: Sockets, rows: Column, read_at: Column) -> None:
        """As bpf/record.h has them."""
        asleep = sum(
            np.clip(end - np.maximum(rows[:, STAMP], start), 0.0, end - start) * (read_at >= end)
            for start, end in self._world.asleep
        )
        sockets["since_packet"][:] = (read_at - rows[:, STAMP] - asleep) // SINCE_PACKET * SINCE_PACKET
        sockets["slack"][:] = np.where(rows[:, TIMER] == Timer.RETRANSMIT.value, 0, rows[:, SLACK]) / HZ
        sockets["user_timeout"][:] = rows[:, USER_TIMEOUT] * 1000

    def _fill_keepalive(self, sockets: Sockets, rows: Column, now: float) -> None:
        system = next(each for each in reversed(self._world.sysctls) if each.since <= now)
        idle, interval, probes = rows[:, IDLE], rows[:, INTERVAL], rows[:, PROBES]
        sockets["keepalive"][:] = np.where(rows[:, ON] > 0, Switch.ON.value, Switch.OFF.value)
        sockets["keepidle"][:] = np.where(idle > 0, idle, system.idle)
        sockets["keepintvl"][:] = np.where(interval > 0, interval, system.interval)
        sockets["keepcnt"][:] = np.where(probes > 0, probes, system.probes)
        sockets["own"][:] = (idle > 0) * Own.IDLE.value + (interval > 0) * Own.INTERVAL.value
        sockets["own"][:] += ((probes > 0) * Own.PROBES.value).astype(np.uint8)
