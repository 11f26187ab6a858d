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

STRANGE = "it is not a plain file of the directory's owner with one name; remove it"


def open_own(file: Path, flags: int) -> int:
    """Return a descriptor of this file, made with mode 600 where O_CREAT says so. Raises OSError."""
    try:
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise OSError(errno.EINVAL, STRANGE) from error
        raise
    try:
        _adopt(descriptor, os.stat(file.parent))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_new(file: Path) -> int:
    """Return a descriptor to write a new file; what has its name is removed. Raises OSError."""
    file.unlink(missing_ok=True)
    return open_own(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def _adopt(descriptor: int, directory: os.stat_result) -> None:
    """Refuse what is strange; give what is root's to the directory's owner."""
    status = os.fstat(descriptor)
    owners = (directory.st_uid, 0, os.geteuid())
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid not in owners:
        raise OSError(errno.EINVAL, STRANGE)
    if os.geteuid() == 0 and status.st_uid != directory.st_uid:
        os.fchown(descriptor, directory.st_uid, directory.st_gid)
