"""sysctl(8) of the BSDs and macOS.

OpenBSD's exits with 0 whatever happened (sbin/sysctl/sysctl.c: parse() warns and returns), so did
FreeBSD's until 2008; FreeBSD's prints the value that stands before it fails. What counts is what reads back.
"""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.commands.run import Absent, Output, number, refusal, run

ABSENT = (
    "unknown oid",  # FreeBSD, DragonFly, macOS
    "level name",  # OpenBSD and NetBSD: third level name 'x' in 'net.inet.tcp.x' is invalid
    "value is not available",  # OpenBSD, where the program knows a name that the kernel no longer has
)


class Sysctl:
    """Reads and writes by name; `program` is its absolute path."""

    cure = "run as root; the values are the whole system's, and a jail may not set them"

    def __init__(self, program: Path) -> None:
        self._program = program

    def read(self, key: str) -> int:
        """Return what stands there. Raises Absent, Unsupported, NotPermitted, KernelError."""
        return number(key, run(self._program, "-n", key), ABSENT)

    def text(self, key: str, options: str = "-n") -> str:
        """Return the text that stands there, if it is not a number. Raises the same."""
        answer = run(self._program, options, key)
        if not answer.out.strip() or answer.status:
            reason = answer.reason or "it is empty"
            if any(phrase in reason for phrase in ABSENT):
                raise Absent(f"{key}: this kernel does not have it: {reason}")
            raise refusal(f"{key}: cannot be read: {reason}")
        return answer.out.strip()

    def put(self, key: str, value: int) -> Output:
        """Ask for a value, which may not stand afterwards. Raises Unsupported, NotPermitted, KernelError.

        NetBSD and old systems want -w; the others accept it.
        """
        return run(self._program, "-w", f"{key}={value}")
