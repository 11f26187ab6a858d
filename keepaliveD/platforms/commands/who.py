"""who(1): when the system was started, where the kernel has no name for the boot."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.model.errors import Unsupported
from keepaliveD.platforms.commands.run import run, shortened


def boot(root: Path) -> str:
    """Return the record of the last boot (who -b, POSIX), to the minute. A clock that is set does not change it.

    Raises Unsupported, NotPermitted, KernelError.
    """
    program = root / "usr/bin/who"
    answer = run(program, "-b")
    line = " ".join(answer.out.split())
    if answer.status or "system boot" not in line:
        said = answer.reason or shortened(answer.out) or "nothing"
        raise Unsupported(f"{program} -b: does not identify this boot, so no record can be kept: {said}")
    return line
