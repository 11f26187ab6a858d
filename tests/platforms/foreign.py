"""Emulated hosts for tests of watchers, and what is odd about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keepaliveD.model import SocketTable
from keepaliveD.platforms.watching import listing, watching
from tests.emulators.wire import Connection, Host


@dataclass(frozen=True)
class System:
    """One system: its programs, and whether they tell idle times at the first look, and zones."""

    name: str
    programs: dict[str, str]
    tells_idle: bool = False
    tells_zone: bool = True
    always_keepalive: int = 0  # what the system comes with


FREEBSD = System("freebsd", {"usr/bin/netstat": "netstat", "sbin/sysctl": "mib"}, tells_idle=True, always_keepalive=1)
MACOS = System("macos", {"usr/sbin/netstat": "netstat", "usr/sbin/sysctl": "mib"})
SOLARIS = System("solaris", {"usr/bin/netstat": "netstat"})
ILLUMOS = System("illumos", {"usr/bin/connstat": "connstat"}, tells_zone=False)
SYSTEMS = (FREEBSD, MACOS, SOLARIS, ILLUMOS)


class Watched:
    """A host with its watcher; the clock is a test's."""

    def __init__(self, system: System, root: Path) -> None:
        self.system = system
        self.host = Host(root, system.name, system.programs)
        self.host.change(always_keepalive=system.always_keepalive)
        self.listing = listing(system.name, root)
        self.watcher = watching(self.listing)(all_namespaces=True, with_interfaces=False)

    def look(self, now: float, *connections: Connection) -> SocketTable:
        """The snapshot of a host that has these connections now."""
        self.host.change(now=now, connections=[*connections])
        return self.watcher.snapshot(now)
