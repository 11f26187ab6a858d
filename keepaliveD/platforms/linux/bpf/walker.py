"""TCP sockets of all network namespaces in one pass over the kernel's table, by walk.bpf.c: Linux 6.2 or later.

Namespaces share that table, unless they were made with one of their own (net.ipv4.tcp_child_ehash_entries).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import KernelError
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux.bpf import libbpf, records, twins
from keepaliveD.platforms.linux.reading.cookies import Cookies
from keepaliveD.platforms.linux.reading.engine import Gaps

OBJECT = Path(__file__).with_name("walk.bpf.o")
FIND, WALK = "find_table", "walk"
RECORDS = 8192  # as many as there is room for
STEPS = 2048  # most records of one step, one for each socket

PLACE = np.dtype([(name, "u8") for name in ("table", "mask", "only", "bucket", "whole", "node", "met", "now")])
SHARED: twins.Twins = {**records.SHARED, "place": PLACE}
MANY = 10_000  # sockets without a cookie in a namespace: the kernel gives one to all sockets there at once
ATTEMPTS = 100  # to get on, at a bucket that keeps changing; one of more than STEPS sockets is never passed


@dataclass(frozen=True, slots=True)
class Table:
    """The address of the kernel's table, and the number of its last bucket."""

    address: int
    last: int


class BpfWalker:
    """The programs in the kernel, which leave out sockets whose peers are in `ignore`."""

    name = "bpf"

    def __init__(self, ignore: Sequence[IPNetwork] = ()) -> None:
        """Load them. Raises Unsupported, NotPermitted."""
        self.crowded: Set[int] = frozenset()
        self.changed_idle_time: Set[int] = frozenset()
        self._entered: dict[int, tuple[Table, Cookies]] = {}
        self._object = libbpf.Object(OBJECT, SHARED, requirements.WALK)
        try:
            records.load(self._object, ignore)
            self._find, self._walk = self._object.program_fd(FIND), self._object.program_fd(WALK)
            self._place = self._object.shared(".bss", PLACE, 1)
            self._records = self._object.shared("records", records.RECORD, RECORDS)
        except BaseException:
            self._object.close()
            raise

    def enter(self, netns: int) -> None:
        """Find the table of the calling thread's namespace. Raises NotPermitted, Unsupported, KernelError."""
        cookies = Cookies()
        try:
            libbpf.run(self._find)
        except BaseException:
            cookies.close()
            raise
        (place,) = self._place
        self._entered[netns] = Table(int(place["table"]), int(place["mask"])), cookies

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
            for count in self._pass(table, only):
                if count is None:
                    crowded |= {netns for netns, (its, _) in self._entered.items() if its == table}
                else:
                    records.decode(self._records[:count], sockets)
        if not only:
            self._drop_strangers(sockets)
        return crowded

    def close(self) -> None:
        """Take them out of the kernel."""
        for netns in list(self._entered):
            self.leave(netns)
        del self._place, self._records  # they hold the maps
        self._object.close()

    def _pass(self, table: Table, only: int) -> Iterator[int | None]:
        """Yield the number of records whenever they fill up, and at the end; None if a bucket is left out.

        Raises KernelError.
        """
        place = self._place
        place["table"], place["mask"], place["only"] = table.address, table.last, only
        place["bucket"] = place["whole"] = 0
        attempts = 0
        while (bucket := int(place["bucket"][0])) <= table.last:
            touching.on()
            libbpf.run(self._walk)
            whole = int(place["whole"][0])
            if whole + STEPS > RECORDS:
                yield whole
                place["whole"] = 0
            attempts = attempts + 1 if bucket == place["bucket"][0] else 0
            if attempts == ATTEMPTS:
                place["bucket"] += 1
                attempts = 0
                yield None
        yield int(place["whole"][0])

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
