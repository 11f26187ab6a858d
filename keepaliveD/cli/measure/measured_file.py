"""The file in config.d that holds a measurement: whether it may be written, and writing it."""

from __future__ import annotations

import zlib
from pathlib import Path

from keepaliveD.cli import dropin
from keepaliveD.config.drop_ins import escaped
from keepaliveD.model.errors import ConfigError, Misuse, StateError
from keepaliveD.model.text import printable, quoted
from keepaliveD.places import DEFAULT_FILE, DROP_INS, SUFFIX

REPLACED = "keepalivectl measure --write replaces this file as long as nobody changes it"


def check(main: Path | None, name: str, target: str, text: str) -> None:
    """See that write() can write this [[path]], leaving nothing behind. Raises what it raises."""
    dropin.check_place(main, stem(name))
    _check(main or DEFAULT_FILE, name, target, text)


def write(main: Path | None, name: str, target: str, text: str) -> Path:
    """Write the [[path]] of this name, measured to HOST:PORT, in place of an earlier measurement; return the file.

    Raises Misuse where the file was changed, or is of another target; ConfigError where the configuration would not be
    valid, or the [[path]] would never match; NotPermitted, StateError, NoInput.
    """
    _check(main or DEFAULT_FILE, name, target, text)
    return dropin.write(main, stem(name), f"{text}{_seal(text)}")


def stem(name: str) -> str:
    """Return the name of the file for a path, before it is escaped and without its suffix."""
    return f"measured {name}"


def _check(main: Path, name: str, target: str, text: str) -> None:
    file = main.parent / DROP_INS / f"{escaped(stem(name))}{SUFFIX}"
    _see_unchanged(file, target)
    for warning in dropin.check(main, file.name, text):
        if warning.startswith(f"path {quoted(name)}: never matches"):
            raise ConfigError(f"{printable(str(file))}: not written: {warning}")


def _see_unchanged(file: Path, target: str) -> None:
    """Raise Misuse where replacing a file would lose what a person wrote, or the measurement of another target."""
    try:
        there = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateError(f"{printable(str(file))}: cannot be read: {error.strerror}") from error
    *lines, last = there.splitlines(keepends=True) or [""]
    remedy = "move it away, or leave out --write and paste the [[path]]"
    if last != _seal("".join(lines)):
        raise Misuse(f"{printable(str(file))}: changed since it was written, so it is not replaced; {remedy}")
    if not lines[0].startswith(heading(target)):
        of = printable(lines[0].removeprefix(heading("")[:-2]).partition(": ")[0])
        raise Misuse(f"{printable(str(file))}: measured to {of}, so it is not replaced; {remedy}, or give --name")


def heading(target: str) -> str:
    """Return how the first line of a measurement begins."""
    return f"# keepalivectl measure {printable(target)}: "


def _seal(text: str) -> str:
    """Return the last line, by which a change of the others shows."""
    return f"# {zlib.crc32(text.encode()):08x}: {REPLACED}\n"
