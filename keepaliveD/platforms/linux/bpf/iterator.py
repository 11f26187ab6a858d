"""Run an iterator over all sockets, and read the records that it writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import touching


def records(iterator: int, kind: np.dtype[np.void], scratch: memoryview) -> Iterator[Column]:
    """Yield the records as arrays in `scratch`, each valid until the next; close the descriptor. Raises KernelError."""
    try:
        filled, ended = 0, False
        while not ended:
            size = _read(iterator, scratch[filled:])
            filled, ended = filled + size, size == 0
            if ended or filled == len(scratch):
                count = filled // kind.itemsize
                whole: npt.NDArray[np.void] = np.frombuffer(scratch, kind, count)
                yield whole
                rest = filled - whole.nbytes
                scratch[:rest] = scratch[whole.nbytes : filled]
                filled = rest
    finally:
        os.close(iterator)
    if filled:
        raise KernelError(
            f"BPF: {filled} unexpected bytes after the last socket: the BPF object is from another version"
        )


def exhaust(iterator: int, is_enough: Callable[[], bool] = lambda: False) -> None:
    """Have an iterator visit everything that writes no records, but an octet now and then. Raises KernelError.

    At each octet it may be enough.
    """
    try:
        while _read(iterator, memoryview(bytearray(1))) and not is_enough():
            continue
    finally:
        os.close(iterator)


def _read(iterator: int, space: memoryview) -> int:
    while True:
        touching.on()
        try:
            return os.readv(iterator, [space])
        except BlockingIOError:
            continue  # after a million sockets without a record the kernel must be asked again
        except OSError as error:
            raise KernelError(f"BPF: the iterator cannot be read: {error.strerror}") from error
