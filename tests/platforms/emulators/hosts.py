"""One emulated host for each system, with its defaults and its programs where they belong."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.platforms.emulators.kernel import Kernel

REPOSITORY = Path(__file__).parents[3]
TCP = "net.inet.tcp."


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, as Kernel explains it."""

    what: str
    verb: str = "set"
    key: str = ""
    only: str = ""
    after: int = 0


class Host:
    """A root directory with emulated programs in it. `programs` are paths below it, and what stands there."""

    def __init__(self, root: Path, kernel: Kernel, programs: dict[str, str]) -> None:
        self.root = root
        self.programs = tuple(programs)
        self._file = str(root / "kernel")
        kernel.save(self._file)
        for path, emulator in programs.items():
            self.install(path, emulator)

    def install(self, path: str, emulator: str) -> None:
        """Put a program there."""
        program = self.root / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f"#!{sys.executable} -IS\n"
            f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
            f"from tests.platforms.emulators.{emulator} import main\n"
            f"main({self._file!r}, sys.argv[1:])\n",
            encoding="utf-8",
        )
        program.chmod(0o755)

    def look(self) -> Kernel:
        """The kernel as it stands."""
        return Kernel.load(self._file)

    def change(self, **fields: Any) -> None:
        """Make the kernel another one."""
        kernel = self.look()
        vars(kernel).update(fields)
        kernel.save(self._file)

    def fail(self, *faults: Fault) -> None:
        """Have these things go wrong from now on."""
        self.change(faults=[asdict(fault) for fault in faults])


def freebsd(root: Path, *flags: str, hz: int = 1000, system: str = "freebsd") -> Host:
    """FreeBSD 14, or what the flags make of it."""
    values = {f"{TCP}keepidle": 7200 * hz, f"{TCP}keepintvl": 75 * hz, f"{TCP}keepcnt": 8}
    values |= {f"{TCP}always_keepalive": 1, "kern.hz": hz}
    programs = {"sbin/sysctl": "sysctl", "usr/bin/netstat": "netstat"}
    return Host(root, Kernel(system, values, *flags, hz=hz), programs)


def dragonfly(root: Path) -> Host:
    """DragonFly, whose hz is 100."""
    return freebsd(root, hz=100, system="dragonfly")


def macos(root: Path) -> Host:
    """macOS."""
    values = {f"{TCP}keepidle": 7_200_000, f"{TCP}keepintvl": 75_000, f"{TCP}keepcnt": 8, f"{TCP}always_keepalive": 0}
    return Host(root, Kernel("macos", values), {"usr/sbin/sysctl": "sysctl", "usr/sbin/netstat": "netstat"})


def openbsd(root: Path, *flags: str) -> Host:
    """OpenBSD that counts seconds, or half-seconds with the flag "slowhz"."""
    units = 2 if "slowhz" in flags else 1
    values = {f"{TCP}keepidle": 7200 * units, f"{TCP}keepintvl": 75 * units}
    return Host(root, Kernel("openbsd", values, *flags), {"sbin/sysctl": "sysctl"})


def netbsd(root: Path) -> Host:
    """NetBSD."""
    values = {f"{TCP}keepidle": 14_400, f"{TCP}keepintvl": 150, f"{TCP}keepcnt": 8}
    return Host(root, Kernel("netbsd", values), {"sbin/sysctl": "sysctl"})


def sunos(root: Path, system: str, *flags: str, ipadm: bool) -> Host:
    """Solaris 10, Solaris 11 or illumos.

    Flags: "one-second", the lowest idle time of illumos since 2015; "no-connstat", illumos before 2019.
    """
    values = {"_keepalive_interval": 7_200_000, "_keepalive_abort_interval": 480_000}
    programs = {"usr/sbin/ndd": "ndd", "usr/bin/who": "who", "usr/bin/netstat": "netstat"}
    if system == "illumos" and "no-connstat" not in flags:
        programs["usr/bin/connstat"] = "connstat"
    if ipadm:
        programs["usr/sbin/ipadm"] = "ipadm"
    return Host(root, Kernel(system, values, *flags), programs)


def hpux(root: Path) -> Host:
    """HP-UX 11i."""
    values = {"_keepalive_interval": 7_200_000, "_ip_abort_interval": 600_000}
    return Host(root, Kernel("hpux", values), {"usr/bin/ndd": "ndd", "usr/bin/who": "who"})


def aix(root: Path) -> Host:
    """AIX."""
    values = {"tcp_keepidle": 14_400, "tcp_keepintvl": 150, "tcp_keepcnt": 8}
    return Host(root, Kernel("aix", values), {"usr/sbin/no": "no", "usr/bin/who": "who"})
