"""ipadm(8) of Solaris 11 and illumos, for the properties of tcp.

Everything is set with -t, for the running kernel alone: what would outlive the boot could outlive us.
Unverified: the form of `possible`, LOWEST-HIGHEST; any other is told of as it stands, and nothing is set.
"""

from __future__ import annotations

import re
from pathlib import Path

from keepaliveD.platforms.commands.run import Output, number, refusal, run

PROTOCOL = "tcp"
ABSENT = ("Unknown property",)
RANGE = re.compile(r"([0-9]+)-([0-9]+)\n?")


class Ipadm:
    """Reads and writes by name; `program` is its absolute path."""

    cure = "run as root, or with the authorization solaris.network.interface.config and the privilege sys_ip_config"

    def __init__(self, program: Path) -> None:
        self._program = program

    def read(self, key: str) -> int:
        """What stands there. Raises Absent, Unsupported, NotPermitted, KernelError."""
        return number(key, self._show("current", key), ABSENT)

    def limits(self, key: str) -> tuple[int, int]:
        """The lowest and the highest value that this kernel takes. Raises Unsupported, NotPermitted, KernelError."""
        answer = self._show("possible", key)
        found = RANGE.fullmatch(answer.out)
        if found is None:
            raise refusal(f"{key}: its range cannot be read: {answer.reason or repr(answer.out)}")
        return int(found[1]), int(found[2])

    def put(self, key: str, value: int) -> Output:
        """Ask for a value; whether it stands is another question. Raises Unsupported, NotPermitted, KernelError."""
        return run(self._program, "set-prop", "-t", "-p", f"{key}={value}", PROTOCOL)

    def _show(self, field: str, key: str) -> Output:
        return run(self._program, "show-prop", "-c", "-o", field, "-p", key, PROTOCOL)
