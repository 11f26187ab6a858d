"""no(1) of AIX: network options of the running kernel; without -p or -r nothing outlives the boot.

It checks no ranges (no(1) of AIX 4.3 and 5.1).
Unverified: the words of its failures, that for an unknown name too. They are passed on; what reads back decides.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from keepaliveD.platforms.commands.run import Output, number, run


class No:
    """Reads and writes by name; `program` is its absolute path."""

    cure = "run as root"

    def __init__(self, program: Path) -> None:
        self._program = program

    def read(self, key: str) -> int:
        """What stands there. Raises Absent, Unsupported, NotPermitted, KernelError."""
        answer = run(self._program, "-o", key)
        name, _, value = answer.out.partition("=")
        bare = dataclasses.replace(answer, out=value.strip()) if name.strip() == key else answer
        return number(key, bare, absent=())

    def put(self, key: str, value: int) -> Output:
        """Ask for a value; whether it stands is another question. Raises Unsupported, NotPermitted, KernelError."""
        return run(self._program, "-o", f"{key}={value}")
