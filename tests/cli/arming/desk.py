"""Where a person sits who arms and disarms: files, a platform, and what comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from keepaliveD.cli.ctl import main
from keepaliveD.log.entries import Entry
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import NoInput, Refusal
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import TcpState
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.records.arming import ArmingRecord
from tests.support.fakes import IDENTITY, FakeArmer, FakeAtConnect, FakeTuner, FakeWatcher
from tests.support.tables import Socket, idle

ON = SocketKeepalive(True, Keepalive(180, 20, 31))
SINGLE = SocketKeepalive(False, Keepalive(7200, 75, 1))  # a single probe: whatever is asked for is stricter
UNITS = {1: "amanda@backup.service", 2: "ssh.service", 3: "", 4: "amanda.service"}


class Owners:
    """Units by cgroup, processes by inode, which is the cookie here as well; process 77 holds the first two."""

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        return [
            Owner(70 + inode if inode else 0, "program" if inode else "", UNITS.get(cgroup, ""))
            for inode, cgroup in zip(inodes, cgroups, strict=True)
        ]

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        held = {77: frozenset({1, 2}), 78: frozenset[int]()}
        return {pid: held.get(pid, NoInput(f"process {pid}: does not exist")) for pid in pids}


SOCKETS: list[Socket] = [
    idle(10.0, cookie=1, inode=1, cgroup=1, local="10.0.0.1", local_port=40001, remote="10.20.0.9", remote_port=22),
    idle(10.0, cookie=2, inode=2, cgroup=2, local="10.0.0.1", local_port=22, remote="10.20.0.9", remote_port=40002),
    idle(10.0, cookie=3, inode=3, cgroup=3, local="fd00::1", local_port=40003, remote="fd00::9", remote_port=22),
    idle(10.0, cookie=4, inode=4, cgroup=4, local="127.0.0.1", local_port=40004, remote="127.0.0.1", remote_port=22),
    idle(
        10.0,
        cookie=5,
        inode=1,
        cgroup=1,
        local="10.0.0.1",
        local_port=40005,
        remote="10.20.0.9",
        remote_port=22,
        state=TcpState.CLOSE_WAIT,
    ),
]


@dataclasses.dataclass
class Desk:
    """Where a person sits: files, a platform, and what comes back."""

    directory: Path
    capsys: pytest.CaptureFixture[str]
    armer: FakeArmer = dataclasses.field(default_factory=FakeArmer)
    at_connect: FakeAtConnect = dataclasses.field(default_factory=FakeAtConnect)
    watcher: FakeWatcher = dataclasses.field(default_factory=lambda: FakeWatcher(lambda _: SOCKETS))
    journal: list[Entry] = dataclasses.field(default_factory=list)

    @property
    def record(self) -> ArmingRecord:
        return ArmingRecord(self.directory / "state", IDENTITY["boot"])

    def platform(self, **_: object) -> Platform:
        def open_session(watching: Watching) -> Session:
            assert watching.all_namespaces, "by hand, a container's connection may be meant"
            assert not watching.with_interfaces
            return Session(self.watcher, Owners(), self.armer)

        return Platform("fake", FakeTuner(), self.at_connect, open_session)

    def types(self, *words: str) -> tuple[int, list[str], list[str]]:
        """Status, lines on standard output, lines on standard error."""
        if words == ("disarm",) and not (self.directory / "state").exists():
            (self.directory / "state").mkdir()
        status = main([*words, "--state-dir", str(self.directory / "state")])
        assert self.watcher.closed in (0, 1)
        out, err = self.capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    def armed(self, *words: str) -> list[int]:
        """Cookies of those that this arms."""
        self.armer.looked.clear()
        self.watcher.closed = 0
        status, _, err = self.types("arm", *words)
        assert (status, err) == (0, [])
        return sorted(self.armer.looked)
