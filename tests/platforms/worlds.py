"""Every system whose settings can be tuned, as a test may have it: real programs, or a tree of files for Linux."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from keepaliveD.daemon.perform import Performer
from keepaliveD.model.rules import Watching
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform, Tuner
from keepaliveD.platforms.linux.sysctl import INTERVAL, PROBES, TIME, ProcSys
from keepaliveD.platforms.unsupported import NoAtConnect, open_blind
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.both import Records
from keepaliveD.records.settings import SettingsRecord
from tests.platforms.emulators import hosts
from tests.platforms.emulators.hosts import Fault, Host
from tests.platforms.linux.test_sysctl import Proc
from tests.support.fakes import Direct

TCP = "net.inet.tcp."


class World(Protocol):
    """One system."""

    name: str
    ours: Mapping[str, int]  # what 180 s, then 20 s, 31 times are there

    @property
    def tuner(self) -> Tuner:
        """A new one."""

    def fail(self, what: str, key: str = "") -> None:
        """Have every further attempt to set `key` to the value of `ours` go wrong."""

    def boot(self) -> None:
        """Start it anew."""


class Linux:
    """Linux's three files."""

    name = "linux"
    ours: Mapping[str, int] = {INTERVAL: 20, PROBES: 31, TIME: 180}

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._proc = Proc(root, monkeypatch)

    @property
    def tuner(self) -> Tuner:
        return ProcSys(self._proc.root)

    def fail(self, what: str, key: str = "") -> None:
        def kernel(written: str, text: str) -> str:
            if written != key or int(text) != self.ours[key]:
                return text
            if what == "forbidden":
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return stood[key]

        stood = {key: self._proc.path(key).read_text() for key in self.ours}
        self._proc.kernel = kernel

    def boot(self) -> None:
        (self._proc.root / "proc/sys/kernel/random/boot_id").write_text("another\n")


@dataclass
class Emulated:
    """A system that is set by commands."""

    name: str
    host: Host
    ours: Mapping[str, int]

    @property
    def tuner(self) -> Tuner:
        return detect(self.name, self.host.root).tuner

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of this system."""
        return detect(self.name, self.host.root).notes

    def fail(self, what: str, key: str = "") -> None:
        self.host.fail(Fault(what, "set", key, only=str(self.ours[key])))

    def boot(self) -> None:
        self.host.change(boot="0" * 32, boot_time=1795309200)


MILLISECONDS = {f"{TCP}keepintvl": 20_000, f"{TCP}keepcnt": 31, f"{TCP}keepidle": 180_000}
IPADM = {"_keepalive_abort_interval": 620_000, "_keepalive_interval": 180_000}
NDD = {f"tcp{key}": value for key, value in IPADM.items()}

HOSTS: dict[str, tuple[str, Callable[[Path], Host], Mapping[str, int]]] = {
    "FreeBSD": ("freebsd", hosts.freebsd, MILLISECONDS),
    "FreeBSD 7": ("freebsd", lambda root: hosts.freebsd(root, "2008", "no-boot-id", hz=100), MILLISECONDS),
    "DragonFly": ("dragonfly", hosts.dragonfly, MILLISECONDS),
    "macOS": ("macos", hosts.macos, MILLISECONDS),
    "OpenBSD": ("openbsd", hosts.openbsd, {f"{TCP}keepintvl": 20, f"{TCP}keepidle": 180}),
    "OpenBSD of 2022": (
        "openbsd",
        lambda root: hosts.openbsd(root, "slowhz"),
        {f"{TCP}keepintvl": 40, f"{TCP}keepidle": 360},
    ),
    "NetBSD": ("netbsd", hosts.netbsd, {f"{TCP}keepintvl": 40, f"{TCP}keepcnt": 31, f"{TCP}keepidle": 360}),
    "Solaris 10": ("solaris10", lambda root: hosts.sunos(root, "solaris10", ipadm=False), NDD),
    "Solaris 11": ("solaris11", lambda root: hosts.sunos(root, "solaris11", ipadm=True), IPADM),
    "illumos": ("illumos", lambda root: hosts.sunos(root, "illumos", "one-second", ipadm=True), IPADM),
    "illumos without ipadm": ("illumos", lambda root: hosts.sunos(root, "illumos", ipadm=False), NDD),
    "HP-UX": ("hpux", hosts.hpux, {"tcp_keepalive_interval": 180_000}),
    "AIX": ("aix", hosts.aix, {"tcp_keepintvl": 40, "tcp_keepcnt": 31, "tcp_keepidle": 360}),
}


def emulated(title: str, root: Path) -> Emulated:
    """The system with that title."""
    name, make, ours = HOSTS[title]
    return Emulated(name, make(root), ours)


def write(tuner: Tuner, values: Mapping[str, int]) -> None:
    """Set them over whatever stands there."""
    for key, value in values.items():
        stands = tuner.read()[key]
        assert tuner.exchange(key, stands, value) == stands


def record_in(directory: Path, tuner: Tuner) -> SettingsRecord:
    """That of this system, of a process that has just started."""
    return SettingsRecord(directory, tuner.identity, tuner.ranges)


def performer(world: World, record: SettingsRecord) -> Direct:
    """Whoever writes these settings, and nothing else."""
    platform = Platform("test", world.tuner, NoAtConnect(), open_blind)
    return Direct(Performer(platform, Records(record, ArmingRecord(Path("unused"), ""))), open_blind(Watching()))
