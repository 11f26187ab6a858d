"""TCP sockets of all network namespaces in one pass over the kernel's table: Linux 6.2 or later.

Namespaces share that table, unless they were made with one of their own (net.ipv4.tcp_child_ehash_entries).
Of very many sockets two processors read a half each: one would spend most of its time waiting for memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence, Set
from functools import partial

import numpy as np

from keepaliveD.model.errors import KernelError, Refusal
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.bpf.walk import Table, Walk
from keepaliveD.platforms.linux.reading.cookies import Cookies
from keepaliveD.platforms.linux.reading.engine import Gaps
from keepaliveD.threads import Task

MANY = 10_000  # sockets without a cookie in a namespace: the kernel gives one to all sockets there at once
FOR_TWO = 200_000  # sockets, at the last look: of fewer one processor reads all in a tenth of a second
FEW = 1024  # buckets, as in tables that containers have of their own: one processor reads them at once
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

        Only a bucket without end is left out: where namespaces have a table of their own, it may have one bucket.
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
        crowded: set[int] = set()
        for table in {table for table, _ in self._entered.values()}:
            if not self._read_table(table, only, sockets):
                crowded |= {netns for netns, (its, _) in self._entered.items() if its == table}
        if not only:
            self._drop_strangers(sockets)
        self._seen = len(sockets)
        return crowded

    def _read_table(self, table: Table, only: int, sockets: Sockets) -> bool:
        """Append all sockets of a table, and return whether none is missing."""
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
            is_all = self._walk.read(table, buckets[:half], only, sockets)
        finally:
            reading.wait(PATIENCE)
        try:
            has_all = reading.result(PATIENCE)
        except OSError:  # it died before it began
            has_all = self._walk.read(table, buckets[half:], only, later)
        sockets.append(later)
        return is_all and has_all

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
