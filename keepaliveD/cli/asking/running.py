"""Find the daemon that runs on this machine: who has locked its state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keepaliveD.cli.asking.asking import control_socket, listens
from keepaliveD.cli.asking.process import inode
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted
from keepaliveD.model.text import printable
from keepaliveD.places import LOCK
from keepaliveD.records.files import open_own
from keepaliveD.records.locks import listed

ITSELF = Path("/proc/self")

_too_many_locks: set[Path] = set()  # roots: once is enough for a command to wait for all that /proc/locks says


def running(directory: Path, root: Path) -> int:
    """The process that holds the lock of this state directory; 0 where none does, or none can be seen.

    It is read from /proc/locks (proc_locks(5)): to try the lock could keep a daemon from starting at that moment.
    The holder must be root or the owner: the process id of a daemon that has ended may be another's by now. What is
    said there of the file may fit others (subvolumes of btrfs, layers of overlayfs), which anybody may lock in a
    program of root's, such as su(1). So root, who can see that, believes only who has this very file open and locked.
    Raises KernelError, NotPermitted where it cannot be told, beside very many locks of others.
    """
    try:
        owner, names = _named_in_locks(directory / LOCK)
    except (OSError, ValueError):
        return 0
    itself = inode(directory / LOCK)

    def is_daemon(pid: int) -> bool:
        return _user(root, pid) in (0, owner) and _locks(root, pid, itself)

    if root not in _too_many_locks:
        try:
            return next((pid for pid, name in _flocks(root) if name in names and is_daemon(pid)), 0)
        except TimeoutError:
            _too_many_locks.add(root)
        except (OSError, ValueError):
            return 0
    return _listening(root, is_daemon) or _untold(directory)


def _listening(root: Path, is_daemon: Callable[[int], bool]) -> int:
    """Return the process that listens at the control socket, if it is the daemon that is meant; else 0."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        if (pid := listens(control_socket(root))) and is_daemon(pid):
            return pid
    return 0


def _untold(directory: Path) -> int:
    """Return 0 where the lock of this state directory is free: it is tried for an instant.

    Raises KernelError where it is not, by a process that cannot be found; NotPermitted where only root may try it.
    """
    why = "/proc/locks is too long to be read in time"
    lock = directory / LOCK
    try:
        with open(open_own(lock, os.O_RDONLY), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return 0
    except BlockingIOError as error:
        said = f"{printable(str(lock))} is locked by a process that cannot be found: {why}"
        raise KernelError(f"{said}; end the program that holds very many file locks, and try again") from error
    except OSError as error:
        refusal = NotPermitted if isinstance(error, PermissionError) else KernelError
        said = f"it cannot be told whether tcp-keepalived runs: {why}"
        raise refusal(f"{said}; {printable(str(lock))} cannot be locked: {error.strerror}; run as root") from error
    return 0


def _locks(root: Path, pid: int, file: tuple[int, int] | None) -> bool:
    """Return whether a process has this very file open and locked, or that may not be seen."""
    process = root / f"proc/{pid}"
    try:
        numbers = os.listdir(process / "fd")
    except PermissionError:
        return True
    except OSError:  # it has ended
        return False
    return any(inode(process / "fd" / each) == file and _is_locked(process / "fdinfo" / each) for each in numbers)


def _is_locked(about: Path) -> bool:
    """Return whether a descriptor holds a lock of flock(2), by what /proc says of it."""
    try:
        return b"FLOCK" in about.read_bytes()
    except OSError:
        return False


def _user(root: Path, pid: int) -> int | None:
    """Return whom a process belongs to; None where it has ended."""
    try:
        return (root / f"proc/{pid}").stat().st_uid
    except OSError:
        return None


def _named_in_locks(file: Path) -> tuple[int, set[str]]:
    """Return the owner of a file, and how /proc/locks may name it, such as 08:01:1234.

    The device there is that of the mount. stat(2) may tell another one, as on btrfs and overlayfs, which no other file
    system has either; it counts where the mount is not seen, as in a chroot. The file need not be readable.
    Raises OSError, ValueError.
    """
    handle = os.open(file, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        about = (ITSELF / f"fdinfo/{handle}").read_text(encoding="ascii").split()
    finally:
        os.close(handle)
    mount = about[about.index("mnt_id:") + 1].encode()
    # names of others stand there, in which only space, tab, newline and backslash are escaped
    mounts = (line.split(b" ") for line in (ITSELF / "mountinfo").read_bytes().split(b"\n") if line)
    devices = {tuple(map(int, device.split(b":"))) for number, _, device, *_ in mounts if number == mount}
    devices.add((os.major(status.st_dev), os.minor(status.st_dev)))
    return status.st_uid, {f"{major:02x}:{minor:02x}:{status.st_ino}" for major, minor in devices}


def _flocks(root: Path) -> Iterator[tuple[int, str]]:
    """Yield process and file of each exclusive lock of flock(2). Raises OSError, ValueError."""
    for line in listed(root / "proc/locks"):
        match line:
            case [_, "FLOCK", _, "WRITE", pid, file, *_]:
                yield int(pid), file
