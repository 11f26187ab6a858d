"""Write a file into config.d, if the configuration is valid with it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from keepaliveD.config import load
from keepaliveD.config.files import DEFAULT_FILE, DROP_INS, SUFFIX
from keepaliveD.model.errors import ConfigError, NotPermitted, StateError
from keepaliveD.model.text import printable

MODE = 0o644


def write(config: Path | None, stem: str, text: str) -> Path:
    """Write it atomically into the config.d beside `config`, in place of what an earlier call wrote; return the file.

    Raises ConfigError where the configuration would not be valid with it, NotPermitted, StateError, NoInput.
    """
    main = config or DEFAULT_FILE
    file = main.parent / DROP_INS / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', stem)}{SUFFIX}"
    _check(main, file.name, text)
    try:
        file.parent.mkdir(exist_ok=True)
        _replace(file, text)
    except PermissionError as error:
        raise NotPermitted(f"{printable(str(file))}: cannot be written: {error.strerror}; run as root") from error
    except OSError as error:
        raise StateError(f"{printable(str(file))}: cannot be written: {error.strerror}") from error
    return file


def _check(main: Path, name: str, text: str) -> None:
    """Read the whole configuration as it would be: in a directory of links to its files, with the new one."""
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
            load(there / main.name)
        except ConfigError as error:
            raise ConfigError(str(error).replace(scratch, str(main.parent))) from None


def _replace(file: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, MODE)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
