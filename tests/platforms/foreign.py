"""Emulated hosts with their watchers, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import SocketTable
from keepaliveD.platforms import detect
from tests.platforms.emulators import hosts, wire
from tests.platforms.emulators.hosts import Host
from tests.platforms.emulators.wire import Connection


@dataclass(frozen=True)
class System:
    """One system: its host, the program that lists, whether that tells idle times at the first look, and zones."""

    name: str
    boot: Callable[[Path], Host]
    program: str
    tells_idle: bool = False
    tells_zone: bool = True


FREEBSD = System("freebsd", hosts.freebsd, "usr/bin/netstat", tells_idle=True)
MACOS = System("macos", hosts.macos, "usr/sbin/netstat")
SOLARIS = System("solaris11", lambda root: hosts.sunos(root, "solaris11", ipadm=True), "usr/bin/netstat")
ILLUMOS = System("illumos", lambda root: hosts.sunos(root, "illumos", ipadm=True), "usr/bin/connstat", tells_zone=False)
SYSTEMS = (FREEBSD, MACOS, SOLARIS, ILLUMOS)


class Watched:
    """A host with its watcher; the clock is a test's."""

    def __init__(self, system: System, root: Path) -> None:
        self.system = system
        self.root = root
        self.host = system.boot(root)
        self.program = root / system.program
        self.platform = detect(system.name, root)
        self.watcher = self.platform.open(Watching()).watcher

    def fail(self, fault: str) -> None:
        """Have this go wrong whenever connections are listed."""
        wire.change(self.root, fault=fault)

    def set(self, key: str, value: int) -> None:
        """Set something in the kernel."""
        self.host.change(values=self.host.look().values | {key: value})

    def look(self, now: float, *connections: Connection, late: float = 0.0) -> SocketTable:
        """The scan of a host that has these connections now; the program runs `late` seconds later."""
        wire.change(self.root, now=now + late, connections=[*connections])
        return self.watcher.scan(now)
