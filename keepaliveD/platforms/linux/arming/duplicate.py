"""A descriptor of another program's socket, whose options are read and set while other threads go on.

Whoever reads or sets most options waits for the socket's lock, which its program may hold for ever. Python's own
socket keeps its other threads waiting with it, also when it is made of a descriptor: it asks for its address then.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NoReturn, overload

LIBC = ctypes.CDLL(None, use_errno=True)  # whose calls let other threads go on
SYS_PIDFD_GETFD = 438  # on every architecture
INT = ctypes.sizeof(ctypes.c_int)


class Duplicate:
    """A descriptor, which may be no socket's. Its methods are those of socket.socket."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._number

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._number)

    @overload
    def getsockopt(self, level: int, option: int) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, size: int) -> bytes: ...
    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """Return an option: a number, or the first `size` bytes of it. Raises OSError."""
        value, length = ctypes.create_string_buffer(size or INT), ctypes.c_uint32(size or INT)
        if LIBC.getsockopt(self._number, level, option, value, ctypes.byref(length)) < 0:
            _fail()
        return value.raw[: length.value] if size else int.from_bytes(value.raw, sys.byteorder, signed=True)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option to a number. Raises OSError."""
        if LIBC.setsockopt(self._number, level, option, ctypes.byref(ctypes.c_int(value)), INT) < 0:
            _fail()


def duplicate(pidfd: int, number: int) -> Duplicate:
    """Return a duplicate of a process's descriptor, by a pidfd of the process. Raises OSError."""
    own = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
    return Duplicate(own) if own >= 0 else _fail()


def _fail() -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
