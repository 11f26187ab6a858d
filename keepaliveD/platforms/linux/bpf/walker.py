"""TCP sockets of all network namespaces in one pass over the kernel's table: Linux 6.2 or later.

Namespaces share that table, unless they were made with one of their own (net.ipv4.tcp_child_ehash_entries).
Of very many sockets two processors read a half each: one would spend most of its time waiting for memory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence, Set
from functools import partial

import numpy as np

from keepaliveD.model.errors import KernelError, Refusal
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.bpf.walk import STEPS, Table, Walk
from keepaliveD.platforms.linux.reading.cookies import Cookies
from keepaliveD.platforms.linux.reading.engine import Gaps
from keepaliveD.threads import Task

MANY = 10_000  # sockets without a cookie in a namespace: the kernel gives one to all sockets there at once
FOR_TWO = 200_000  # sockets, at the last look: of fewer one processor reads all in a tenth of a second
FEW = 1024  # buckets, as in tables that containers have of their own: one processor reads them at once
MOST = 1 << 16  # sockets of a bucket; a walk over it takes 4 ms, in which this processor does nothing else
ENOUGH = 1.0  # seconds for all crowded buckets of a scan
PATIENCE = 600.0  # seconds for the other one: who waits for this process ends it long before


class BpfWalker:
    """Reads the kernel's table, without sockets whose peers are in `ignore`."""

    name = "bpf"

    def __init__(self, ignore: Sequence[IPNetwork] = ()) -> None:
        """Load the program. Raises Unsupported, NotPermitted."""
        self.crowded: Set[int] = frozenset()
        self.changed_idle_time: Set[int] = frozenset()
        self._ignore = ignore
        self._entered: dict[int, tuple[Table, Cookies]] = {}
        self._seen = 0  # sockets at the last look
        self._walk = Walk(ignore)
        self._second: Walk | None = None

    def enter(self, netns: int) -> None:
        """Find the table of the calling thread's namespace. Raises NotPermitted, Unsupported, KernelError."""
        cookies = Cookies()
        try:
            self._entered[netns] = self._walk.find_table(), cookies
        except BaseException:
            cookies.close()
            raise

    def leave(self, netns: int) -> None:
        """Leave the namespace."""
        _, cookies = self._entered.pop(netns)
        cookies.close()

    def read(self, sockets: Sockets) -> Gaps:
        """Append all; none is left out that was there all the time. Raises KernelError.

        Only crowded buckets are left out that take too long: anybody can fill those of a table of his own, and some
        of one that others use, too.
        """
        start = len(sockets)
        crowded = self._read_tables(sockets)
        if self._name_many(sockets):
            sockets.truncate(start)
            crowded = self._read_tables(sockets)
        self.crowded = crowded
        return dict.fromkeys(crowded) | self._name(sockets)

    def _read_tables(self, sockets: Sockets) -> set[int]:
        """Append all sockets of all tables, and return the namespaces of which some are missing."""
        only = next(iter(self._entered)) if len(self._entered) == 1 else 0
        crowded: list[tuple[Table, int]] = []
        for table in dict.fromkeys(table for table, _ in self._entered.values()):
            crowded += [(table, bucket) for bucket in self._read_table(table, only, sockets)]
        missing = {table for table, _ in self._sift(crowded, only, sockets)}
        if not only:
            self._drop_strangers(sockets)
        self._seen = len(sockets)
        return {netns for netns, (table, _) in self._entered.items() if table in missing}

    def _sift(self, crowded: list[tuple[Table, int]], only: int, sockets: Sockets) -> list[tuple[Table, int]]:
        """Append all sockets of crowded buckets, smaller ones first; return the buckets that are still left out."""
        until, most = time.monotonic() + ENOUGH, STEPS
        while crowded and most < MOST:
            most *= 2
            crowded = [
                (table, bucket)
                for table, bucket in crowded
                if time.monotonic() > until or not self._walk.sift(table, bucket, only, most, sockets)
            ]
        return crowded

    def _read_table(self, table: Table, only: int, sockets: Sockets) -> list[int]:
        """Append all sockets of a table, and return the buckets that are left out."""
        buckets = range(table.last + 1)
        other = self._other() if self._seen >= FOR_TWO and len(buckets) > FEW else None
        if other is None:
            return self._walk.read(table, buckets, only, sockets)
        half = len(buckets) // 2
        later = Sockets(capacity=self._seen * 9 // 16)  # half of them, and some
        try:
            reading = Task(partial(other.read, table, buckets[half:], only, later))
        except OSError:  # no thread can be started
            return self._walk.read(table, buckets, only, sockets)
        try:
            crowded = self._walk.read(table, buckets[:half], only, sockets)
        finally:
            reading.wait(PATIENCE)
        try:
            others = reading.result(PATIENCE)
        except OSError:  # it died before it began
            others = self._walk.read(table, buckets[half:], only, later)
        sockets.append(later)
        return crowded + others

    def _other(self) -> Walk | None:
        """Return a walk for another processor; None where there is none, or too little of something."""
        if len(os.sched_getaffinity(0)) == 1:
            return None
        with contextlib.suppress(Refusal):
            self._second = self._second or Walk(self._ignore)
        return self._second

    def close(self) -> None:
        """Take it out of the kernel."""
        for netns in list(self._entered):
            self.leave(netns)
        for walk in (self._walk, self._second):
            if walk is not None:
                walk.close()

    def _drop_strangers(self, sockets: Sockets) -> None:
        """Leave out sockets of namespaces that were not entered, as other engines do not see these either."""
        known = np.isin(sockets["netns"], list(self._entered))
        if not known.all():
            sockets.retain(known)

    def _name_many(self, sockets: Sockets) -> bool:
        """Have the kernel give cookies at once where many sockets have none; return whether to read all tables anew."""
        namespaces, counts = np.unique(sockets["netns"][sockets["cookie"] == 0], return_counts=True)
        crowds = namespaces[counts > MANY].tolist()
        for netns in crowds:
            with contextlib.suppress(KernelError):  # then each is asked for
                self._entered[netns][1].give_to_all()
        return bool(crowds)

    def _name(self, sockets: Sockets) -> Gaps:
        """Have the kernel give cookies to sockets without one; leave out sockets that have closed meanwhile."""
        gaps: Gaps = {}
        unnamed = np.flatnonzero(sockets["cookie"] == 0)
        if not len(unnamed):
            return gaps
        for netns in sorted(set(sockets["netns"][unnamed].tolist())):
            its = unnamed[sockets["netns"][unnamed] == netns]
            _, cookies = self._entered[netns]
            try:
                sockets["cookie"][its] = cookies.of(sockets.select(its))
            except KernelError:
                gaps[netns] = None  # those that have one are seen
        sockets.retain(sockets["cookie"] != 0)
        return gaps
