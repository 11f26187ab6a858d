"""Find which processes have sockets open, by the BPF iterator of holders.bpf.c: one pass over all open files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from keepaliveD.platforms.linux.bpf import iterator, libbpf, twins

OBJECT = Path(__file__).with_name("holders.bpf.o")
PROGRAM = "find_holders"
WANTED = "wanted"
MOST = 100_000  # sockets at a time: less than its max_entries
SCRATCH = 1 << 16  # bytes: 4096 records

RECORD = np.dtype([("inode", "u8"), ("pid", "u4"), ("fd", "u4")])
SHARED: twins.Twins = {"record": RECORD}


class BpfHolders:
    """Finds the processes of our own pid namespace that have sockets open."""

    def __init__(self) -> None:
        self._object: libbpf.Object | None = None
        self._link = -1

    def find(self, inodes: Collection[int]) -> dict[int, tuple[int, int]]:
        """Return for each socket inode the lowest process that has it open, and its number there.

        Raises Unsupported, NotPermitted, KernelError.
        """
        programs = self._load()
        wanted = np.fromiter(inodes, np.uint64, len(inodes))[:MOST]
        found: dict[int, tuple[int, int]] = {}
        try:
            programs.put_all(WANTED, wanted, np.ones(len(wanted), np.uint8))
            opened = libbpf.open_iterator(self._link)
            for some in iterator.records(opened, RECORD, memoryview(bytearray(SCRATCH))):
                for inode, pid, fd in some.tolist():
                    found[inode] = min(found.get(inode, (pid, fd)), (pid, fd))
            programs.drop_all(WANTED, wanted)
        except BaseException:
            self.close()  # what is left in the map would be found by the next one
            raise
        return found

    def close(self) -> None:
        """Remove the program from the kernel."""
        if self._object:
            self._object.close()
        self._object = None

    def _load(self) -> libbpf.Object:
        if self._object is None:
            programs = libbpf.Object(OBJECT, SHARED)
            try:
                programs.load()
                self._link = programs.attach_iterator(PROGRAM)
            except BaseException:
                programs.close()
                raise
            self._object = programs
        return self._object
