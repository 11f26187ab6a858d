"""How a person starts the daemon here, and which configuration it reads then."""

from __future__ import annotations

import shlex
from pathlib import Path

from keepaliveD.places import DEFAULT_FILE, UNIT

BY_UNIT = "systemctl start tcp-keepalived"
UNITS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
CLONE = Path(__file__).parents[2] / "script/run"
ITS_FILE = "etc/tcp-keepalived/config.toml"  # below the clone


def how_to_start(root: Path, file: Path | None = None) -> str:
    """Return the command that starts a daemon: that of the unit, or of a clone where there is no unit.

    `file` is the configuration that it should read, if not the usual one; a unit names its own.
    """
    if not _is_clone(root):
        return BY_UNIT
    file = file or (DEFAULT_FILE if _is_configured(root) else None)
    return shlex.join([str(CLONE), *(["--config", str(file)] if file and file != _file_of_clone() else [])])


def file_to_be_read(root: Path) -> Path | None:
    """Return the configuration that a daemon will read, if it is another one than the usual: that of a clone.

    Whoever has written the usual one means it, also in a clone.
    """
    return _file_of_clone() if _is_clone(root) and not _is_configured(root) else None


def _is_clone(root: Path) -> bool:
    return CLONE.exists() and not any((root / directory / UNIT).exists() for directory in UNITS)


def _is_configured(root: Path) -> bool:
    return (root / DEFAULT_FILE.relative_to("/")).exists()


def _file_of_clone() -> Path:
    return CLONE.parents[1] / ITS_FILE
