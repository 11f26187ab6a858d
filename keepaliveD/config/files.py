"""The files in /etc: which there are, what is in them, and where each key came from.

Scalars: the later file wins; [[path]] and [[arm]] entries accumulate.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import stat
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path as File
from typing import Any, NamedTuple, cast

from keepaliveD.config.document import REPEATED, SECTIONS, beginning
from keepaliveD.config.lines import Key
from keepaliveD.config.toml import NotToml, parse
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import ConfigError, NoInput
from keepaliveD.model.text import printable, quoted, shortened
from keepaliveD.places import DEFAULT_FILE, DROP_INS, SUFFIX

LARGEST = 2**20  # bytes of a file


class Place(NamedTuple):
    """Where a key is written; places are in the order in which they are read. Entries are counted in their file."""

    number: int  # of the file
    line: int
    file: File
    key: Key = ()

    def __str__(self) -> str:
        return f"{printable(str(self.file))}:{self.line}"

    @property
    def label(self) -> str:
        """The key as people write it: path[2].timeout, entries counted from 1."""
        text = ""
        for part in self.key:
            word = f"[{part + 1}]" if isinstance(part, int) else quoted(shortened(part))
            text += word if isinstance(part, int) or not text else f".{word}"
        return text


@dataclass(frozen=True, slots=True)
class Merged:
    """The content of all files, and where each key came from; entries are counted from 0."""

    data: dict[str, Any] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    origins: dict[Key, tuple[int, Key]] = field(default_factory=dict)  # the file's number, the key in that file
    lines: list[Mapping[Key, int]] = field(default_factory=list)  # by the file's number
    unread: list[File] = field(default_factory=list)  # files in config.d that somebody may believe to be read

    def place(self, key: Key) -> Place:
        """Where to edit: the key itself, or else what it would be in."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                number, beginning = self.origins[key[:length]]
                there = beginning + key[length:]
                return Place(number, _line(self.lines[number], there), self.files[number], there)
        raise KeyError(key)

    def value(self, key: Key, default: str) -> Any:
        """What is written there, unchecked."""
        return (
            functools.reduce(lambda value, part: value[part], key, cast(Any, self.data))
            if self.is_written(key)
            else default
        )

    def is_written(self, key: Key) -> bool:
        """Whether any file has this key of a section or entry; else its default holds."""
        return key in self.origins


def _line(lines: Mapping[Key, int], key: Key) -> int:
    return next((lines[key[:length]] for length in range(len(key), 0, -1) if key[:length] in lines), 1)


def read(file: File | None) -> Merged:
    """Read `file` (without one: DEFAULT_FILE, if it is there) and the config.d beside it.

    Raises ConfigError where one is not TOML, NoInput where one cannot be read.
    """
    merged = Merged()
    for each in _files(file):
        try:
            data, lines = parse(_read(each))
        except NotToml as error:
            raise ConfigError(f"{printable(str(each))}:{error.line}: not TOML: {error}") from None
        merged.files.append(each)
        merged.lines.append(lines)
        _merge(merged, data)
    merged.unread.extend(_unread(file))
    return merged


def _files(file: File | None) -> Iterator[File]:
    main = file or DEFAULT_FILE
    if file is not None or _is_there(main):
        yield main
    yield from (each for each in _drop_ins(main) if each.suffix == SUFFIX)


def _unread(file: File | None) -> Iterator[File]:
    """Yield files such as zz.conf; not README, or old copies such as a.toml.dpkg-old."""
    for each in _drop_ins(file or DEFAULT_FILE):
        if SUFFIX not in each.name and not each.name.startswith("README"):
            yield each


def _drop_ins(main: File) -> list[File]:
    """Return what lies in config.d, but for what is hidden, as a shell's *.toml leaves it out: an editor's, mostly."""
    drop_ins = main.parent / DROP_INS
    if not _is_there(drop_ins):
        return []
    with _reading(drop_ins):
        return sorted(each for each in drop_ins.iterdir() if not each.name.startswith("."))


def _is_there(file: File) -> bool:
    """Unlike Path.exists(), this tells a file that is not there from one that may not be seen."""
    with _reading(file):
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _read(file: File) -> bytes:
    with _reading(file):
        _check_regular(file)
        with file.open("rb") as stream:
            octets = stream.read(LARGEST + 1)
    if len(octets) > LARGEST:
        raise ConfigError(f"{printable(str(file))}: is larger than {LARGEST >> 20} MiB, so it is no configuration file")
    return octets


def _check_regular(file: File) -> None:
    """Raise OSError for a FIFO or a device: to open one may wait for ever, or do something."""
    mode = file.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a directory is refused when it is opened
        raise OSError(errno.EINVAL, "it is not a regular file")


@contextlib.contextmanager
def _reading(file: File) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoInput(f"{printable(str(file))}: cannot be read: {error.strerror}") from error


def _merge(merged: Merged, data: Mapping[str, Any]) -> None:
    """Add the content of the last file, remembering where each key came from.

    A section of the wrong kind is refused here, or another file's would cover it up.
    """
    file = len(merged.files) - 1
    for section, content in data.items():
        merged.origins[(section,)] = file, (section,)
        if section in SECTIONS and not isinstance(content, list if section in REPEATED else dict):
            raise ConfigError(f"{merged.place((section,))}: {section}: begin it with {beginning(section)}")
        if isinstance(content, dict) and isinstance(merged.data.setdefault(section, {}), dict):
            merged.data[section] |= content
            merged.origins.update({(section, key): (file, (section, key)) for key in content})
        elif isinstance(content, list) and isinstance(merged.data.setdefault(section, []), list):
            start = len(merged.data[section])
            merged.data[section] += content
            for number, entry in enumerate(content):
                merged.origins[section, start + number] = file, (section, number)
                if isinstance(entry, dict):
                    merged.origins.update(
                        {(section, start + number, key): (file, (section, number, key)) for key in entry}
                    )
        else:
            merged.data[section] = content
