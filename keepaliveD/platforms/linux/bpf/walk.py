"""A walk over buckets of the kernel's table of TCP sockets, by walk.bpf.c: Linux 6.2 or later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux.bpf import libbpf, records, twins

OBJECT = Path(__file__).with_name("walk.bpf.o")
FIND, WALK, SIFT = "find_table", "walk", "sift"
RECORDS = 8192  # as many as there is room for
STEPS = 2048  # most records of one step, one for each socket

PLACE = np.dtype(
    [
        *((name, "u8") for name in ("table", "last", "only", "bucket", "whole", "node", "met", "passed", "next")),
        *((name, "u8") for name in ("steps", "others", "part")),
        ("now", "V16"),
    ]
)
SHARED: twins.Twins = {**records.SHARED, "place": PLACE}
ATTEMPTS = 100  # to get on, at a bucket that keeps changing; one of STEPS sockets is never passed, and left to sift()


@dataclass(frozen=True, slots=True)
class Table:
    """The address of the kernel's table, and the number of its last bucket."""

    address: int
    last: int


class Walk:
    """The program in the kernel, with a place in one table; it leaves out sockets whose peers are in `ignore`."""

    def __init__(self, ignore: Sequence[IPNetwork]) -> None:
        """Load it. Raises Unsupported, NotPermitted."""
        self._object = libbpf.Object(OBJECT, SHARED, requirements.WALK)
        try:
            records.load(self._object, ignore)
            self._find, self._walk, self._sift = map(self._object.program_fd, (FIND, WALK, SIFT))
            self._place = self._object.shared(".bss", PLACE, 1)
            self._records = self._object.shared("records", records.RECORD, RECORDS)
        except BaseException:
            self._object.close()
            raise

    def find_table(self) -> Table:
        """Return the table of the calling thread's namespace. Raises KernelError."""
        libbpf.run(self._find)
        (place,) = self._place
        return Table(int(place["table"]), int(place["last"]))

    def read(self, table: Table, buckets: range, only: int, sockets: Sockets) -> list[int]:
        """Append what is in these buckets: of one namespace, or of all if `only` is 0; return the buckets left out.

        Raises KernelError.
        """
        place, last, attempts, crowded = self._place, buckets[-1], 0, list[int]()
        place["table"], place["last"], place["only"] = table.address, last, only
        place["bucket"], place["whole"] = buckets[0], 0
        while (bucket := int(place["bucket"][0])) <= last:
            touching.on()
            libbpf.run(self._walk)
            if int(place["whole"][0]) + STEPS > RECORDS:
                self._decode(sockets)
            attempts = attempts + 1 if bucket == place["bucket"][0] else 0
            if attempts == ATTEMPTS or place["passed"][0] >= STEPS:
                crowded.append(int(place["bucket"][0]))
                place["bucket"] += 1
                attempts = 0
        self._decode(sockets)
        return crowded

    def sift(self, table: Table, bucket: int, only: int, most: int, sockets: Sockets) -> bool:
        """Append what is in a bucket of fewer than `most` sockets, a power of two; return whether that is all, or none.

        Each run walks over the whole bucket, and records a part of it, so that nothing has to be found again.
        Raises KernelError.
        """
        place, start, parts = self._place, len(sockets), most // STEPS
        place["table"], place["last"], place["only"] = table.address, bucket, only
        place["steps"], place["others"] = most, parts - 1
        for part in range(parts):
            place["bucket"], place["part"] = bucket, part
            touching.on()
            libbpf.run(self._sift)
            if place["bucket"][0] == bucket:
                sockets.truncate(start)
                return False
            self._decode(sockets)
        return True

    def close(self) -> None:
        """Take it out of the kernel."""
        del self._place, self._records  # they hold the maps
        self._object.close()

    def _decode(self, sockets: Sockets) -> None:
        records.decode(self._records[: int(self._place["whole"][0])], sockets)
        self._place["whole"] = 0
