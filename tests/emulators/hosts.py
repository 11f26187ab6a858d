"""One emulated host for each system, with its defaults and its programs where they belong."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.emulators.kernel import Kernel

REPOSITORY = Path(__file__).parents[2]
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
            f"from tests.emulators.{emulator} import main\n"
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
    return Host(root, Kernel(system, values, *flags, hz=hz), {"sbin/sysctl": "sysctl"})


def dragonfly(root: Path) -> Host:
    """DragonFly, whose hz is 100."""
    return freebsd(root, hz=100, system="dragonfly")
