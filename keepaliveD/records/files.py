"""Open files of a directory that may be another user's: what was put in their place is not followed.

The service's user owns the state directory, and root runs keepalivectl there. So a symbolic link, a FIFO, a
second name of a file elsewhere, or somebody else's file is refused; and what root makes is given to the
directory's owner, or the daemon could not write it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

NOT_PLAIN = "it is not a plain file; remove it"


def open_own(file: Path, flags: int) -> int:
    """Return a descriptor of this file, made with mode 600 where O_CREAT says so. Raises OSError."""
    try:
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise OSError(errno.EINVAL, NOT_PLAIN) from error
        raise
    try:
        _adopt(descriptor, file)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def why_strange(status: os.stat_result, file: Path) -> str:
    """Return why a file with this status is not used in the place of `file`, and what to do; "" if it is used.

    What to do keeps what is in the file. Raises OSError.
    """
    if not stat.S_ISREG(status.st_mode):
        return NOT_PLAIN
    if status.st_nlink > 1:
        names = f"it has {status.st_nlink} names; keep this one and remove the rest, as of a backup"
        return f"{names}; to list them: find {_top(file.parent)} -xdev -samefile {file}"
    if status.st_uid not in (os.stat(file.parent).st_uid, 0, os.geteuid()):
        return f"it belongs to user {status.st_uid}; run as root: chown --reference={file.parent} {file}"
    return ""


def _top(directory: Path) -> Path:
    """Return the highest directory of its file system."""
    directory = directory.absolute()
    return next((each for each in (directory, *directory.parents) if each.is_mount()), directory)


def open_new(file: Path) -> int:
    """Return a descriptor to write a new file; what has its name is removed. Raises OSError."""
    file.unlink(missing_ok=True)
    return open_own(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def _adopt(descriptor: int, file: Path) -> None:
    """Refuse what is strange; give what is root's to the directory's owner."""
    status, directory = os.fstat(descriptor), os.stat(file.parent)
    if strange := why_strange(status, file):
        raise OSError(errno.EINVAL, strange)
    if os.geteuid() == 0 and status.st_uid != directory.st_uid:
        os.fchown(descriptor, directory.st_uid, directory.st_gid)
