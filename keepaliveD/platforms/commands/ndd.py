"""ndd(1M) of Solaris and HP-UX, for the parameters of /dev/tcp.

The old one fails on standard output (do_getset, usr/src/cmd/cmd-inet/usr.sbin/ndd.c of illumos),
that of illumos, which goes through libipadm, on standard error.
"""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.commands.run import Output, number, run

DEVICE = "/dev/tcp"
ABSENT = ("name is non-existent", "Unknown property")


class Ndd:
    """Reads and writes by name; `program` is its absolute path."""

    cure = "run as root, on Solaris with the privilege sys_ip_config"

    def __init__(self, program: Path) -> None:
        self._program = program

    def read(self, key: str) -> int:
        """Return what stands there. Raises Absent, Unsupported, NotPermitted, KernelError."""
        return number(key, run(self._program, "-get", DEVICE, key), ABSENT)

    def put(self, key: str, value: int) -> Output:
        """Ask for a value, which may not stand afterwards. Raises Unsupported, NotPermitted, KernelError."""
        return run(self._program, "-set", DEVICE, key, str(value))
