"""Write a file into config.d, if the configuration is valid with it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from keepaliveD.cli import files
from keepaliveD.cli.printing.fitting import tell
from keepaliveD.config import doubts, load
from keepaliveD.config.drop_ins import escaped
from keepaliveD.model.errors import ConfigError, NoInput, StateError
from keepaliveD.places import DEFAULT_FILE, DROP_INS, SUFFIX


def write(config: Path | None, stem: str, text: str) -> Path:
    """Write it into the config.d beside `config`, in place of what an earlier call wrote; return the file.

    Say what `keepalivectl check` will warn of. Raises ConfigError where the configuration would not be valid with it,
    NotPermitted, StateError, NoInput.
    """
    main = config or DEFAULT_FILE
    file = _file(main, stem)
    warn(main, file.name, text)
    files.make_directory(file.parent)
    files.write(file, text)
    return file


def check_place(config: Path | None, stem: str) -> None:
    """See that write() can write, leaving nothing behind. Raises what it raises."""
    main = config or DEFAULT_FILE
    check(main)
    files.check(_file(main, stem))


def _file(main: Path, stem: str) -> Path:
    return main.parent / DROP_INS / f"{escaped(stem)}{SUFFIX}"


def warn(main: Path, name: str, text: str) -> None:
    """Say what `keepalivectl check` will warn of once the file is written, and does not now.

    Raises ConfigError, NoInput, StateError.
    """
    now = check(main)
    for line in check(main, name, text):
        if line not in now:
            tell("warning", line)


def check(main: Path, name: str = "", text: str = "") -> list[str]:
    """Return the warnings of `keepalivectl check` for the whole configuration as it would be with the new file.

    It is read in a directory of links to its files. Raises ConfigError, NoInput, StateError.
    """
    try:
        return _check(main, name or f"new{SUFFIX}", text)
    except OSError as error:
        raise StateError(f"the configuration cannot be checked: {error.strerror or error}") from error


def _check(main: Path, name: str, text: str) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tcp-keepalived-") as scratch:
        there = Path(scratch)
        (there / DROP_INS).mkdir()
        if main.exists():
            (there / main.name).symlink_to(main.absolute())
        else:
            (there / main.name).touch()
        if (main.parent / DROP_INS).is_dir():
            for each in (main.parent / DROP_INS).iterdir():
                if each.name != name:
                    (there / DROP_INS / each.name).symlink_to(each.absolute())
        (there / DROP_INS / name).write_text(text, encoding="utf-8")
        try:
            warnings = list(doubts.warnings(load(there / main.name)))
        except (ConfigError, NoInput) as error:
            raise type(error)(str(error).replace(scratch, str(main.parent))) from None
    return [each.replace(scratch, str(main.parent)) for each in warnings]
