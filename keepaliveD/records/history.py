"""The history of ended connections where no journal keeps it: the newest entries, one JSON object a line.

There are two files: the one that entries are added to, and the one before it. Neither grows beyond MOST octets.
A kill may leave half a line, and a disk that is full as well: such a line is left out, and harms no other.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keepaliveD.records.directory import reporting
from keepaliveD.records.files import open_own

FILE, BEFORE = "deaths", "deaths.1"
MOST = 1 << 20  # octets of each file: some 700 entries
LATEST = 1e11  # seconds of the epoch: no entry is of the year 5138
TIMESTAMP = "timestamp"  # seconds of the epoch, as in JsonLog

Fields = Mapping[str, Any]


class History:
    """The files in a state directory, which need not exist."""

    def __init__(self, directory: Path) -> None:
        self._file, self._before = directory / FILE, directory / BEFORE

    def begin(self) -> None:
        """Make the file if there is none, so that it is known where the history is. Raises NotPermitted, StateError."""
        with reporting(self._file, "written"):
            os.close(open_own(self._file, os.O_WRONLY | os.O_CREAT))

    def add(self, fields: Fields) -> None:
        """Add an entry that has a timestamp. Raises NotPermitted, StateError."""
        line = json.dumps(fields).encode() + b"\n"
        with reporting(self._file, "written"):
            if self._size() + len(line) > MOST:
                self._file.replace(self._before)
            descriptor = open_own(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                os.write(descriptor, line if _ends_whole(descriptor) else b"\n" + line)
            finally:
                os.close(descriptor)

    def exists(self) -> bool:
        """Return whether there is any. Raises NotPermitted, StateError."""
        with reporting(self._file, "read"):
            return any(_is_there(file) for file in self._in_order())

    def since(self, instant: float) -> Iterator[Fields]:
        """Yield the entries since this instant of the epoch, in their order. Raises NotPermitted, StateError."""
        for file in self._in_order():
            for line in _octets(file).splitlines():
                if (fields := _entry(line)) and fields[TIMESTAMP] >= instant:
                    yield fields

    def _in_order(self) -> tuple[Path, Path]:
        return self._before, self._file

    def _size(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self._file.stat(follow_symlinks=False).st_size
        return 0


def _is_there(file: Path) -> bool:
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _ends_whole(descriptor: int) -> bool:
    """Return whether the last line is whole."""
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _octets(file: Path) -> bytes:
    """Return what is in a file, as much as we would have written; nothing where there is none."""
    with (
        reporting(file, "read"),
        contextlib.suppress(FileNotFoundError),
        open(open_own(file, os.O_RDONLY), "rb") as opened,
    ):
        return opened.read(MOST)
    return b""


def _entry(line: bytes) -> Fields | None:
    """Return the entry of a line, or None where it is damaged."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    when = fields.get(TIMESTAMP)
    whole = isinstance(when, int | float) and 0 <= when < LATEST
    return fields if whole else None
