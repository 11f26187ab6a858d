"""Messages between the daemon and its worker: pickled, with large arrays in shared memory.

Both ends are one program: whoever could forge a message here could do all that the daemon can.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from mmap import ACCESS_COPY, mmap
from typing import Any

HEADER = struct.Struct("=QQ")  # octets of the pickle; how many arrays follow it, their sizes first
SIZE = struct.Struct("=Q")
SMALL = 1 << 14  # octets of arrays that are copied: shared memory costs each end two descriptors, if it has them left


def pack(message: object) -> memoryview:
    """Return a message in one piece, its arrays included: they are copied once."""
    whole = io.BytesIO()
    whole.write(HEADER.pack(0, 0))
    pickle.dump(message, whole, protocol=5)
    packed = whole.getbuffer()
    HEADER.pack_into(packed, 0, len(packed) - HEADER.size, 0)
    return packed


def send(sock: socket.socket, message: object) -> None:
    """Send a message, large arrays in a file without a name that only memory holds. Raises OSError."""
    buffers: list[memoryview] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
    if sum(buffer.nbytes for buffer in buffers) <= SMALL:
        sock.sendall(pack(message))
        return
    sizes = b"".join(SIZE.pack(buffer.nbytes) for buffer in buffers)
    head = HEADER.pack(len(body), len(buffers)) + sizes
    file = _share(buffers)
    try:
        sent = socket.send_fds(sock, [head], [file])
    finally:
        os.close(file)
    sock.sendall(head[sent:] + body)


def _share(buffers: Sequence[memoryview]) -> int:
    """Return the descriptor of a file that contains these buffers one after the other."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("tcp-keepalived", os.MFD_CLOEXEC)
    else:
        import tempfile  # a megabyte of memory

        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    try:
        for buffer in buffers:
            written = 0
            while written < buffer.nbytes:
                written += os.write(file, buffer[written:])
    except BaseException as error:
        os.close(file)
        if isinstance(error, OSError):
            error.filename = "memory shared between its processes"  # which has no name that says so
        raise
    return file


class Receiver:
    """Puts messages together from the pieces that arrive."""

    def __init__(self) -> None:
        self._arrived = bytearray()
        self._files: list[int] = []

    def receive(self, sock: socket.socket) -> bool:
        """Receive what has arrived; return whether the other end is still open. Raises OSError."""
        octets, files, _, _ = socket.recv_fds(sock, 1 << 20, 1)
        self._arrived += octets
        self._files += files
        return bool(octets)

    def message(self) -> Any:
        """Return the next message, or None if it has not arrived in full."""
        if len(self._arrived) < HEADER.size:
            return None
        length, count = HEADER.unpack_from(self._arrived)
        start = HEADER.size + count * SIZE.size
        if len(self._arrived) < start + length:
            return None
        sizes = [SIZE.unpack_from(self._arrived, HEADER.size + at * SIZE.size)[0] for at in range(count)]
        buffers = self._buffers(sizes)
        with memoryview(self._arrived) as arrived, arrived[start : start + length] as body:
            message = pickle.loads(body, buffers=buffers)  # noqa: S301  # by ourselves
        del self._arrived[: start + length]
        return message

    def close(self) -> None:
        """Drop the pieces of a message that will not be complete."""
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _buffers(self, sizes: Sequence[int]) -> list[memoryview]:
        """Return the memory of the arrays, in the file that came with the message."""
        total = sum(sizes)
        if not total:
            return [memoryview(b"") for _ in sizes]
        if not self._files:  # the kernel drops a descriptor for which there is no room
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        file = self._files.pop(0)
        try:
            memory = memoryview(mmap(file, total, access=ACCESS_COPY))
        finally:
            os.close(file)
        buffers, end = [], 0
        for size in sizes:
            start, end = end, end + size
            buffers.append(memory[start:end])
        return buffers
