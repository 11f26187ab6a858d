"""Standard output that cannot be written: its reader has gone, or its disk is full."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from keepaliveD.model.errors import Exit

GONE, FULL = "its reader has gone", "its disk is full"
CARRIED_OUT = (
    "keepalivectl: standard output: cannot be written: No space left on device; "
    "the command was carried out, but its output is incomplete"
)
LEAVES: dict[str, tuple[int, list[str]]] = {GONE: (Exit.OK, []), FULL: (Exit.IOERR, [CARRIED_OUT])}  # an order
UNWRITABLE = pytest.mark.parametrize("unwritable", LEAVES)


@contextlib.contextmanager
def printing_in_vain(monkeypatch: pytest.MonkeyPatch, why: str, name: str = "stdout") -> Iterator[None]:
    """Have this stream of the program be one that cannot be written."""
    with _stream(why) as stream, monkeypatch.context() as patched:
        patched.setattr(sys, name, stream)
        yield


@contextlib.contextmanager
def _stream(why: str) -> Iterator[TextIO]:
    if why == FULL:
        number = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, number = os.pipe()
        os.close(reader)
    stream = open(number, "w", buffering=1, encoding="utf-8")  # noqa: SIM115  # closed below, where that may fail
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()
