"""Let a world go by, scan by scan, and keep what was said."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from keepaliveD.model.duration import FOREVER
from keepaliveD.model.sockets import Column, SocketTable
from tests.simulation.armer import ArmedAt, Armer
from tests.simulation.connection import Connection
from tests.simulation.decider import Decider, Decides, Said, Word
from tests.simulation.scans import EngineName, Reader
from tests.simulation.world import World, plan

UNSAID = 255


@dataclass(frozen=True, slots=True)
class Scan:
    """When it began and ended."""

    start: float
    end: float


@dataclass(slots=True)
class Run:
    """What happened in one world, and what was said of it. By number of the connection; scans by index."""

    world: World
    engine: EngineName
    connections: list[Connection]
    scans: list[Scan] = field(default_factory=list)
    verdicts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # (scan, verdict) where it changed
    words: dict[int, list[tuple[int, Word]]] = field(default_factory=dict)
    armed: dict[int, list[ArmedAt]] = field(default_factory=dict)
    shown: list[tuple[SocketTable, Said]] = field(default_factory=list)
    rows: int = 0  # that were judged
    hours: float = 0.0  # of connections behind firewalls, while the daemon watched


def run(
    world: World,
    engine: EngineName,
    *,
    only: int | None = None,
    at: Sequence[Scan] = (),
    decide: Callable[[World], Decides] = Decider,
) -> Run:
    """Play it all; or only one connection, with its story, scanned at the same instants."""
    plans = [plan(world, number) for number in range(world.size)]
    connections = [Connection(each, story=each.number == only) for each in plans]
    done = Run(world, engine, connections)
    if only is not None:
        for connection in connections:
            if connection.plan.number != only:
                connection.cancel()
    reader = Reader(world, connections, engine)
    armer = Armer(connections)
    decider = decide(world)
    last = np.full(world.size, UNSAID, np.uint8)
    when = Moments(world, at)
    while (start := when.next()) is not None:
        end = start + when.takes()
        if reader.is_over():
            done.scans.append(Scan(start, end))
            when.said(done.scans[-1], FOREVER)
            continue
        table = reader.scan(start, end - start)
        armer.now = end + 0.001
        said = decider.scan(table, end, armer.arm, armer.read)
        for arming in said.armings:
            for row in arming.connections:
                reader.touched(row.cookie - 1, armer.now)
        done.scans.append(Scan(start, end))
        done.rows += len(table)
        if only is not None:
            done.shown.append((table, said))
        _remember(done, said, last)
        when.said(done.scans[-1], said.due)
    for connection in connections:
        connection.advance(world.until)
    done.armed = armer.armed
    done.hours = sum(_watched(each, world.until) for each in connections) / 3600
    return done


def _watched(connection: Connection, until: float) -> float:
    return max(0.0, min(until, connection.plan.ends, connection.closed_at) - max(0.0, connection.plan.born))


def _remember(done: Run, said: Said, last: Column) -> None:
    number = len(done.scans) - 1
    rows = (said.cookie - np.uint64(1)).astype(np.intp)
    changed = np.flatnonzero(last[rows] != said.verdict)
    for row, verdict in zip(rows[changed].tolist(), said.verdict[changed].tolist(), strict=True):
        done.verdicts.setdefault(row, []).append((number, verdict))
    last[rows] = said.verdict
    for word in said.words:
        done.words.setdefault(word.cookie - 1, []).append((number, word))


class Moments:
    """When scans begin: as in the daemon's loop, but not while it or its machine stands still."""

    def __init__(self, world: World, at: Sequence[Scan]) -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}/scans")
        self._reading = random.Random(f"{world.seed}/reading")
        self._fixed = [scan.start for scan in at] if at else None
        self._count = 0
        self._next = 0.001

    def next(self) -> float | None:
        """The next one, None after the last."""
        if self._fixed is not None:
            self._count += 1
            return self._fixed[self._count - 1] if self._count <= len(self._fixed) else None
        now = self._next + self._rng.random() * self._world.jitter
        for start, end in (*self._world.pauses, *self._world.asleep, *self._world.pauses):
            if start - 2 * self._world.takes <= now < end:
                now = end + 0.01
        return now if now + 2 * self._world.takes < self._world.until else None

    def takes(self) -> float:
        """For how many seconds this one reads rows: not each scan takes as long as the one before."""
        return self._world.takes * self._reading.uniform(0.1, 1)

    def said(self, scan: Scan, due: float) -> None:
        """A scan is over: the next one begins when the decider wants it."""
        self._next = min(scan.end + self._world.interval, due)
