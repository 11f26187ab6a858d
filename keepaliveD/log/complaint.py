"""Write to a stream past its buffer, and say what ended a program."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from keepaliveD.model.text import printable

Write = Callable[[str], object]

PATIENCE = 1.0  # seconds that the end of a program waits for its reader


def unbuffered(stream: TextIO | None) -> Write:
    """Return what writes text to the stream's descriptor; the interpreter has no stream where that is closed.

    Not through its buffer, whose lock a writer that is stuck would keep until the interpreter ends.
    A reader that has gone away, or a full disk, ends nothing: what was found is still to be restored.
    """
    if stream is None:
        return len
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return stream.write  # one that was put in its place

    def write(text: str) -> None:
        octets = text.encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            while octets:
                octets = octets[os.write(descriptor, octets) :]

    return write


def complain(program: str, error: object, fit: Callable[[str], Iterable[str]] = lambda line: [line]) -> None:
    """Say on standard error what ended a program, each line by itself, unless nobody reads it for PATIENCE seconds.

    `fit` breaks a line that is too long for a terminal.
    """
    write = unbuffered(sys.stderr)
    for line in str(error).splitlines():
        with contextlib.suppress(OSError, ValueError):
            if not select.select([], [sys.stderr], [], PATIENCE)[1]:
                return
        write("".join(f"{part}\n" for part in fit(f"{program}: {printable(line)}")))
