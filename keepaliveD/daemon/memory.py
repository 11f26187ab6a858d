"""Freed memory, of which the C library keeps a lot where small pieces that are in use lie between."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give the memory that is free back to the system now, with a C library that can (malloc_trim(3)).

    It takes 0.1 ms, or 10 ms for 100 MB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
