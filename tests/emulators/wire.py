"""The connections of an emulated host, and what goes wrong when they are listed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[2]
FILE = "wire.json"
GARBAGE = b"\x1b[2J\xff~~~ 12 34\n"
FOREIGN = "Aktive Internetverbindungen\nProto Empf-Q Send-Q Lokale Adresse Fremde Adresse (Zustand)\n"


@dataclass
class Connection:
    """One socket as the kernel has it. Instants are those of Wire.now; 0 is a timer that does not run."""

    local: str = "192.0.2.1"
    local_port: int = 40000
    remote: str = "198.51.100.1"
    remote_port: int = 22
    state: str = "ESTABLISHED"
    zone: str = ""
    block: int = 0xFFFFF80003A1C000  # address of its control block
    generation: int = 0xBF559BA
    heard_at: float = 0.0
    retransmit_at: float = 0.0
    persist_at: float = 0.0
    keepalive_at: float = 0.0
    received: int = 1000  # bytes, or a sequence number
    sent: int = 2000
    keepalive: bool = False  # SO_KEEPALIVE
    process: str = "sshd:812"
    lives: str = "on"  # "to be asked for states" or "to be asked for timers" alone

    @property
    def established(self) -> bool:
        """Whether a handshake was completed, as TCPS_ESTABLISHED and above say."""
        return self.state not in ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD")


@dataclass
class Wire:
    """One host. `fault`: hang, killed, garbage, language, empty, silent (complains and succeeds), refused."""

    system: str
    now: float = 100_000.0
    hz: int = 1000
    always_keepalive: int = 1
    fault: str = ""
    connections: list[Connection] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)


def read(file: Path) -> Wire:
    """The host in that file."""
    fields: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
    fields["connections"] = [Connection(**each) for each in fields["connections"]]
    return Wire(**fields)


def write(file: Path, wire: Wire) -> None:
    """Make it so, at once."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(asdict(wire)), encoding="ascii")
    new.replace(file)


def listen(file: Path, call: list[str]) -> Wire:
    """The host as a program finds it, which first lets go wrong what is to."""
    wire = read(file)
    wire.calls.append(call)
    write(file, wire)
    match wire.fault:
        case "hang":
            time.sleep(60)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "garbage":
            leave(GARBAGE)
        case "language":
            leave(FOREIGN.encode())
        case "empty":
            leave(b"")
        case "silent":
            print("netstat: sysctl: net.inet.tcp.pcblist: Operation not permitted", file=sys.stderr)
            leave(b"")
        case "refused":
            print("netstat: could not get connections: Permission denied", file=sys.stderr)
            leave(b"", 1)
    return wire


def leave(octets: bytes, status: int = 0) -> NoReturn:
    """Print that and end."""
    sys.stdout.buffer.write(octets)
    sys.stdout.flush()
    sys.exit(status)


class Host:
    """A root directory with emulated programs in it, for a test."""

    def __init__(self, root: Path, system: str, programs: dict[str, str]) -> None:
        """`programs` are paths below the root and the emulators that stand there."""
        self.root = root
        self.programs = tuple(programs)
        self._file = root / FILE
        self.change(system=system)
        for path, emulator in programs.items():
            program = root / path
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(
                f"#!{sys.executable} -IS\n"
                f"import sys\nfrom pathlib import Path\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
                f"from tests.emulators.{emulator} import main\n"
                f"main(Path({str(self._file)!r}), sys.argv[1:])\n",
                encoding="utf-8",
            )
            program.chmod(0o755)

    def look(self) -> Wire:
        """The host as it stands."""
        return read(self._file)

    def change(self, **fields: Any) -> None:
        """Make it another one."""
        wire = self.look() if self._file.exists() else Wire("")
        for name, value in fields.items():
            setattr(wire, name, value)
        write(self._file, wire)
