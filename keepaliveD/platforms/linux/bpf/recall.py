"""Read the records of connect.bpf.c about sockets that it armed and that are still open, by recall.bpf.c."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.keepalive import Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.bpf import iterator, libbpf, twins

OBJECT = Path(__file__).with_name("recall.bpf.o")
READ, FORGET = "read_armed", "forget_read"
SCRATCH = 1 << 20  # bytes: some 20,000 records

ARMED = np.dtype(
    [("before", libbpf.SETTINGS), ("after", libbpf.SETTINGS), ("inherited", "u1"), ("state", "u1")], align=True
)
RECORD = np.dtype([("cookie", "u8"), ("armed", ARMED)], align=True)
SHARED: twins.Twins = {"record": RECORD}


class Recalled(Mapping[int, Armed]):
    """How each open socket was armed at connect, by cookie."""

    def __init__(self, found: Column) -> None:
        self._found = found[np.argsort(found["cookie"])]

    def __getitem__(self, cookie: int) -> Armed:
        """Return how that socket was armed. Raises KeyError."""
        place = int(np.searchsorted(self._found["cookie"], np.uint64(cookie)))
        if place == len(self._found) or self._found["cookie"][place] != cookie:
            raise KeyError(cookie)
        record = self._found[place]["armed"]
        return Armed(_keepalive(record["before"]), _keepalive(record["after"]), Own(int(record["inherited"])))

    def __iter__(self) -> Iterator[int]:
        """Yield each cookie."""
        return iter(self._found["cookie"].tolist())

    def __len__(self) -> int:
        """Return the number of sockets."""
        return len(self._found)


def read(records: int) -> Recalled:
    """Read the map with this descriptor. Raises NotPermitted, Unsupported, KernelError."""
    with _iterator(READ, records) as opened:
        parts = [part.copy() for part in iterator.records(opened, RECORD, memoryview(bytearray(SCRATCH)))]
    return Recalled(np.concatenate(parts) if parts else np.empty(0, RECORD))


def forget(records: int) -> None:
    """Remove the records that were read: they are kept elsewhere. Raises NotPermitted, Unsupported, KernelError."""
    with _iterator(FORGET, records) as opened:
        iterator.exhaust(opened)


@contextlib.contextmanager
def _iterator(program: str, records: int) -> Iterator[int]:
    programs = libbpf.Object(OBJECT, SHARED, requirements.RECALL)
    try:
        programs.load()
        yield libbpf.open_iterator(programs.attach_iterator(program, over=records))
    finally:
        programs.close()


def _keepalive(numbers: Column) -> SocketKeepalive:
    """Return a struct settings as a value of the model."""
    idle, interval, probes, on = numbers.tolist()
    return SocketKeepalive(bool(on), Keepalive(idle, interval, probes))
