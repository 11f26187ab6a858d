"""What /proc says of a daemon's process: the files that it uses, and how to stop and reload it."""

from __future__ import annotations

import os
from pathlib import Path

from keepaliveD.places import DEFAULT_FILE, STATE_DIRECTORY, UNIT

STATE_VARIABLE = "STATE_DIRECTORY"  # systemd's


def configuration(pid: int, root: Path) -> Path | None:
    """Return the file that a daemon reads, by its command line; None where that cannot be told."""
    try:
        return _absolute(pid, root, Path(_given(pid, root, "--config") or DEFAULT_FILE))
    except OSError:
        return None


def directory_of(pid: int, root: Path) -> Path | None:
    """Return the state directory of a daemon, by its command line and environment; None where that cannot be told."""
    try:
        if given := _given(pid, root, "--state-dir"):
            return _absolute(pid, root, Path(given))
        for each in (root / f"proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0"):
            name, _, value = each.partition("=")
            if name == STATE_VARIABLE and value:
                return Path(value.split(":")[0])
    except OSError:
        return None
    return Path(STATE_DIRECTORY)


def has_another(pid: int, directory: Path, root: Path) -> bool:
    """Return whether a process has another directory of this name, as in a container; only root can see that."""
    its = root / f"proc/{pid}/root"
    return inode(its) is not None and inode(its / directory.relative_to("/")) != inode(directory)


def how_to_stop(pid: int, root: Path) -> str:
    """Return the command that stops a daemon."""
    return f"kill {pid}" if _runs_outside_unit(pid, root) else "systemctl stop tcp-keepalived"


def how_to_reload(pid: int, root: Path) -> str:
    """Return the command with which a daemon reads its configuration again."""
    return f"kill -HUP {pid}" if _runs_outside_unit(pid, root) else "systemctl reload tcp-keepalived"


def inode(path: Path) -> tuple[int, int] | None:
    """Return device and inode; None where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _given(pid: int, root: Path, option: str) -> str:
    """Return the last value of an option on the command line of a process, or of its beginning. Raises OSError."""
    words = (root / f"proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    found = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if len(name) > len("--") and option.startswith(name):  # argparse takes the beginning of a name as well
            found = value if equals else following
    return found


def _absolute(pid: int, root: Path, path: Path) -> Path:
    """Return the path as a process means it. Raises OSError: only root sees where others' processes work."""
    return path if path.is_absolute() else Path(os.readlink(root / f"proc/{pid}/cwd")) / path


def _runs_outside_unit(pid: int, root: Path) -> bool:
    """Return whether a process is seen to be a daemon that is not the unit's."""
    try:
        is_daemon = b"keepalive" in (root / f"proc/{pid}/cmdline").read_bytes().lower()
        in_unit = f"/{UNIT}" in (root / f"proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        is_daemon = in_unit = False  # hidden from us, or numbered otherwise in its container
    return is_daemon and not in_unit
