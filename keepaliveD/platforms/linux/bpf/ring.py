"""Reads a BPF ring buffer (BPF_MAP_TYPE_RINGBUF) whose records have one size, as an array.

Source: kernel/bpf/ringbuf.c, tools/lib/bpf/ringbuf.c.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from keepaliveD.model.sockets import Column

BUSY, DISCARDED = 1 << 31, 1 << 30  # in the length of a record
HEADER = 8  # bytes before each record
POSITION = np.dtype("u8")


class Ring:
    """The reader's end; the kernel's object lives as long as its map, or this.

    The positions are read and written without barriers: the records between were read by many instructions of the
    interpreter later, or earlier.
    """

    def __init__(self, descriptor: int, size: int, kind: np.dtype[Any]) -> None:
        """Map the ring of so many bytes. Raises OSError."""
        stride = -(-(HEADER + kind.itemsize) // 8) * 8
        self._descriptor = descriptor
        self._size = size
        self._entry = np.dtype(
            {"names": ["length", "record"], "formats": ["u4", kind], "offsets": [0, HEADER], "itemsize": stride}
        )
        self._consumer = np.frombuffer(mmap.mmap(descriptor, mmap.PAGESIZE), POSITION, 1)
        # the data is mapped twice, one after the other, so that no record is in two pieces
        self._pages = mmap.mmap(descriptor, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        self._producer = np.frombuffer(self._pages, POSITION, 1)

    def fileno(self) -> int:
        """Return the map's descriptor, which can be read from when there are records."""
        return self._descriptor

    def read(self) -> Column:
        """Return all records that are complete, and make room."""
        start = int(self._consumer[0])
        count = (int(self._producer[0]) - start) // self._entry.itemsize
        entries = np.frombuffer(self._pages, self._entry, count, mmap.PAGESIZE + start % self._size)
        lengths = entries["length"].copy()  # before the records: a complete one stays as it is
        if (busy := lengths & BUSY != 0).any():
            lengths = lengths[: int(busy.argmax())]
        entries = entries[: len(lengths)]
        records: Column = entries["record"][lengths & DISCARDED == 0]
        self._consumer[0] = start + len(lengths) * self._entry.itemsize
        return records
