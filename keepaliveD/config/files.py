"""The files in /etc: which there are, what is in them, and where each key came from.

Scalars: the later file wins; [[path]] and [[arm]] entries accumulate.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from keepaliveD.config.document import REPEATED, SECTIONS, beginning
from keepaliveD.errors import ConfigError, NoInput

DEFAULT_FILE = File("/etc/tcp-keepalived/config.toml")
DROP_INS = "config.d"  # beside the file

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """The content of all files, and the file that each key came from; entries are counted from 0."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, File] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)

    def origin(self, location: Key) -> File | str:
        """The file to edit."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.origins:
                return self.origins[location[:length]]
        return "configuration"


def read(file: File | None) -> Merged:
    """Read `file` (without one: DEFAULT_FILE, if it is there) and the config.d beside it.

    Raises ConfigError where one is not TOML, NoInput where one cannot be read.
    """
    merged = Merged()
    for each in _files(file):
        merged.files.append(each)
        _merge(merged, _read(each), each)
    return merged


def _files(file: File | None) -> Iterator[File]:
    main = file or DEFAULT_FILE
    drop_ins = main.parent / DROP_INS
    if file is not None or _is_there(main):
        yield main
    if _is_there(drop_ins):
        with _reading(drop_ins):
            yield from sorted(each for each in drop_ins.iterdir() if each.suffix == ".toml")


def _is_there(file: File) -> bool:
    """Unlike Path.exists(), this tells a file that is not there from one that may not be seen."""
    with _reading(file):
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _read(file: File) -> dict[str, Any]:
    with _reading(file):
        try:
            return tomllib.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number or a nesting without end
            raise ConfigError(f"{file}: not TOML: {error}") from error


@contextlib.contextmanager
def _reading(file: File) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoInput(f"{file}: cannot be read: {error.strerror}") from error


def _merge(merged: Merged, data: Mapping[str, Any], file: File) -> None:
    """Add one file's content, remembering where each key came from.

    A section of the wrong kind is refused here, or another file's would cover it up.
    """
    for section, content in data.items():
        if section in SECTIONS and not isinstance(content, list if section in REPEATED else dict):
            raise ConfigError(f"{file}: {section}: begin it with {beginning(section)}")
        merged.origins[(section,)] = file
        if isinstance(content, dict) and isinstance(merged.data.setdefault(section, {}), dict):
            merged.data[section] |= content
            merged.origins.update({(section, key): file for key in content})
        elif isinstance(content, list) and isinstance(merged.data.setdefault(section, []), list):
            start = len(merged.data[section])
            merged.data[section] += content
            merged.origins.update({(section, start + number): file for number in range(len(content))})
        else:
            merged.data[section] = content
