"""How a person starts the daemon here."""

from __future__ import annotations

import shlex
from pathlib import Path

from keepaliveD.places import UNIT

BY_UNIT = "systemctl start tcp-keepalived"
UNITS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
CLONE = Path(__file__).parents[2] / "script/run"


def how_to_start(root: Path, file: Path | None = None) -> str:
    """Return the command that starts a daemon: that of the unit, or of a clone where there is no unit.

    `file` is the configuration that it should read, if not the usual one; a unit names its own.
    """
    if not CLONE.exists() or any((root / directory / UNIT).exists() for directory in UNITS):
        return BY_UNIT
    return shlex.join([str(CLONE), *(["--config", str(file)] if file else [])])
