"""Write files that others read: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from keepaliveD.model.errors import Misuse, NotPermitted, StateError
from keepaliveD.model.text import printable
from keepaliveD.records.files import open_new

FOR_ALL = 0o644
DIRECTORY_FOR_ALL = 0o755
A_BLOCK = 4096  # bytes: what a small file takes of a disk


def write(file: Path, text: str, *, anew: bool = False) -> None:
    """Put a file in its place that everybody may read, whatever the umask is. Of a link, the file it leads to.

    With `anew` only where none is.

    A link of another user is not followed: as root, whoever owns the directory could name any file.
    Raises Misuse where a device, a pipe or a directory is there, or with `anew` a file; NotPermitted, StateError.
    """
    _write(file, text, keep=True, anew=anew)


def check(file: Path) -> None:
    """Write a file as write() does, in a directory as make_directory() makes it, and leave nothing of both behind.

    Raises what they raise.
    """
    made = not file.parent.exists()
    make_directory(file.parent)
    try:
        _write(file, " " * A_BLOCK, keep=False)
    finally:
        if made:
            with contextlib.suppress(OSError):  # somebody else has written there
                file.parent.rmdir()


def _write(file: Path, text: str, *, keep: bool, anew: bool = False) -> None:
    _follow_no_strangers(file)
    file = Path(os.path.realpath(file))
    if file.exists() and not file.is_file():
        raise Misuse(f"{printable(str(file))}: is no plain file, and would be replaced by one; name a file")
    new = file.with_name(f"{file.name}.new")
    if new.is_dir():
        raise Misuse(f"{printable(str(new))}: is a directory, and in the way of a new {file.name}; remove it")
    try:
        with open(open_new(new), "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), FOR_ALL)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        if keep and not anew:
            new.replace(file)
        elif keep:
            os.link(new, file)
            new.unlink()
        else:
            new.unlink()
    except FileExistsError as error:
        new.unlink()
        raise Misuse(f"{printable(str(file))}: somebody has written it meanwhile; nothing was written") from error
    except PermissionError as error:
        raise NotPermitted(f"{printable(str(file))}: cannot be written: {error.strerror}; run as root") from error
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()  # part of a file, on a full disk
        raise StateError(f"{printable(str(file))}: cannot be written: {error.strerror}") from error


def _follow_no_strangers(file: Path) -> None:
    """Raise NotPermitted where a link of another user is on the way to a file."""
    absolute = Path(os.path.abspath(file))
    for place in (*absolute.parents, absolute):
        if place.is_symlink() and place.lstat().st_uid not in (0, os.geteuid()):
            link = printable(str(place))
            raise NotPermitted(f"{printable(str(file))}: {link} is a link of another user; name what it leads to")


def make_directory(directory: Path) -> None:
    """Make a directory that everybody may read, if it is not there. Raises NotPermitted, StateError."""
    try:
        directory.mkdir()
        directory.chmod(DIRECTORY_FOR_ALL)
    except FileExistsError:
        pass
    except PermissionError as error:
        raise NotPermitted(f"{printable(str(directory))}: cannot be made: {error.strerror}; run as root") from error
    except OSError as error:
        raise StateError(f"{printable(str(directory))}: cannot be made: {error.strerror}") from error
