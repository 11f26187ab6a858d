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
    """What is connected. `fault`: hang, killed, garbage, language, empty, silent (complains and succeeds), refused."""

    now: float = 100_000.0
    fault: str = ""
    connections: list[Connection] = field(default_factory=list)


def read(root: Path) -> Wire:
    """That of a host; without its file nothing is connected."""
    if not (root / FILE).exists():
        return Wire()
    fields: dict[str, Any] = json.loads((root / FILE).read_text(encoding="ascii"))
    fields["connections"] = [Connection(**each) for each in fields["connections"]]
    return Wire(**fields)


def change(root: Path, **fields: Any) -> None:
    """Make it another one, at once."""
    wire = read(root)
    vars(wire).update(fields)
    new = root / f"{FILE}.new"
    new.write_text(json.dumps(asdict(wire)), encoding="ascii")
    new.replace(root / FILE)


def listen(kernel: str) -> Wire:
    """What a program finds on the host of that kernel, which first lets go wrong what is to."""
    wire = read(Path(kernel).parent)
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
