"""Who holds a socket, in a tree of files that stands for /proc and /sys/fs/cgroup."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from keepaliveD.model.connections import Connection, Owner
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux.owners import descriptors
from keepaliveD.platforms.linux.owners.cgroups import Cgroups
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.platforms.linux.owners.proc import ProcOwners
from tests.platforms.linux.owners.test_holders import search_patiently
from tests.support.samples import BARE


def held(inode: int, cgroup: int = 0) -> Connection:
    return dataclasses.replace(BARE, inode=inode, cgroup=cgroup, owner=Owner())


def with_owners(owners: ProcOwners, connections: Sequence[Connection]) -> list[Connection]:
    """The same connections with their owners."""
    found = owners.find([one.inode for one in connections], [one.cgroup for one in connections])
    return [dataclasses.replace(one, owner=owner) for one, owner in zip(connections, found, strict=True)]


class Host:
    """Processes and cgroups as files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc").mkdir()
        self.process(1)

    def process(self, pid: int, *links: str, name: bytes = b"program") -> None:
        descriptors = self.root / f"proc/{pid}/fd"
        descriptors.mkdir(parents=True)
        for number, link in enumerate(links):
            (descriptors / str(number)).symlink_to(link)
        (self.root / f"proc/{pid}/comm").write_bytes(name + b"\n")
        (self.root / f"proc/{pid}/cmdline").write_bytes(b"not to be read")

    def cgroup(self, path: str, top: str = "sys/fs/cgroup") -> int:
        """The id of a cgroup."""
        directory = self.root / top
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.controllers").touch()
        (directory / path).mkdir(parents=True)
        return (directory / path).stat().st_ino

    def owner(self, connection: Connection) -> Owner:
        (named,) = with_owners(ProcOwners(self.root, Holders(self.root)), [connection])
        return named.owner


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    search_patiently(monkeypatch)
    return Host(tmp_path)


def test_a_process_that_hangs_has_a_name(host: Host) -> None:
    """The kernel's own pass over all open files finds it, and asks it nothing."""
    host.process(7, "socket:[31]", name=b"locker")
    touching.avoid({(touching.Kind.PROCESS, 7)})
    try:
        owners = ProcOwners(host.root, Holders(host.root, lambda _: {31: (7, 0)}))
        assert [one.owner for one in with_owners(owners, [held(31)])] == [Owner(7, "locker")]
    finally:
        touching.avoid(frozenset())


def test_a_socket_belongs_to_the_process_that_has_it_open(host: Host) -> None:
    """A file, a pipe or another socket beside it is none of it."""
    host.process(5, "/dev/null", "pipe:[123]", "socket:[1234]", name=b"other")
    host.process(7, "/dev/null", "socket:[123]", name=b"sshd")
    assert host.owner(held(123)) == Owner(7, "sshd")


def test_of_several_processes_the_one_with_the_lowest_number_is_named(host: Host) -> None:
    """A server and its forked children share a socket; 10 comes after 9, not before."""
    for pid in (10, 9, 100):
        host.process(pid, "socket:[123]", "socket:[123]")
    assert host.owner(held(123)).pid == 9


def test_a_socket_without_a_visible_process_has_no_owner(host: Host) -> None:
    """Another user's, a container's, or one that was closed meanwhile."""
    host.process(7, "socket:[5]")
    assert host.owner(held(123)) == Owner()


def test_an_orphan_is_not_looked_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that its program has closed has inode 0; looking for that would read all of /proc, in vain."""
    monkeypatch.setattr(psutil, "pids", lambda: [1])
    monkeypatch.setattr(descriptors, "parts", lambda *_: pytest.fail("looked for it"))
    assert host.owner(held(0)) == Owner()


def test_processes_that_end_meanwhile_are_passed_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between listing and reading, anything can end."""
    host.process(7, "socket:[123]")
    monkeypatch.setattr(psutil, "pids", lambda: [3, 7, 99])
    assert host.owner(held(123)).pid == 7


def test_an_owner_that_ends_before_its_name_is_read_stays_without_one(host: Host) -> None:
    """Its number is still worth telling."""
    host.process(7, "socket:[123]")
    (host.root / "proc/7/comm").unlink()
    assert host.owner(held(123)) == Owner(7, "")


def test_reading_stops_once_every_owner_is_found(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk over all descriptors is the dearest thing this program does."""
    looked: list[str] = []
    really = descriptors.parts

    def parts(directory: str, start: int = 0) -> Iterator[descriptors.Part]:
        looked.append(directory)
        return really(directory, start)

    for pid in range(2, 50):
        host.process(pid, f"socket:[{pid}]")
    monkeypatch.setattr(psutil, "pids", lambda: list(range(2, 50)))
    monkeypatch.setattr(descriptors, "parts", parts)
    with_owners(ProcOwners(host.root, Holders(host.root)), [held(3), held(5)])
    assert len(looked) == 4


def test_one_pass_serves_all_connections_in_their_order(host: Host) -> None:
    """And the rest of each stays as it was."""
    host.process(7, "socket:[1]", "socket:[3]", name=b"seven")
    host.process(8, "socket:[2]", name=b"eight")
    given = [held(3), held(2), held(9), held(1)]
    named = with_owners(ProcOwners(host.root, Holders(host.root)), given)
    assert [connection.owner.process for connection in named] == ["seven", "eight", "", "seven"]
    assert [dataclasses.replace(connection, owner=Owner()) for connection in named] == given


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\nb", r"a\nb"),
        (b"\x1b[2Jx", r"\x1b[2Jx"),
        (b"x) S (y", "x) S (y"),
        (b"\xff\xfe", r"\udcff\udcfe"),
        (b"\xe2\x80\xaegpj", r"\u202egpj"),
    ],
)
def test_a_process_cannot_write_into_the_log_by_its_name(host: Host, name: bytes, shown: str) -> None:
    """Any program may call itself anything (prctl(2), PR_SET_NAME)."""
    host.process(7, "socket:[123]", name=name)
    assert host.owner(held(123)).process == shown


def test_a_command_line_is_not_read(host: Host) -> None:
    """It may be as long as memory (prctl(2), PR_SET_MM_MAP): psutil reads all of it for a name of 15 characters."""
    host.process(7, "socket:[123]", name=b"a" * 15)
    (host.root / "proc/7/cmdline").write_bytes(b"a" * 20 + b"\0")
    assert host.owner(held(123)).process == "a" * 15


# units


@pytest.mark.parametrize("top", ["sys/fs/cgroup", "sys/fs/cgroup/unified"])
def test_a_socket_belongs_to_the_unit_of_its_cgroup(host: Host, top: str) -> None:
    """Its id is the inode of a directory; beside version 1, version 2 is mounted one deeper."""
    host.cgroup("system.slice/cron.service", top)
    ours = host.cgroup("system.slice/ssh.service", top)
    assert host.owner(held(1, ours)).unit == "ssh.service"


def test_a_cgroup_that_is_new_is_found(host: Host) -> None:
    """Services start while the daemon runs."""
    owners = ProcOwners(host.root, Holders(host.root))
    first = host.cgroup("a.service")
    assert with_owners(owners, [held(1, first)])[0].owner.unit == "a.service"
    second = host.cgroup("b.service")
    both = with_owners(owners, [held(1, first), held(2, second)])
    assert [one.owner.unit for one in both] == [
        "a.service",
        "b.service",
    ]


def test_known_cgroups_are_not_looked_for_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host can have thousands, also of those that have gone and will not be found."""
    owners = ProcOwners(host.root, Holders(host.root))
    connections = [held(1, host.cgroup("a.service")), held(2, 987654321)]
    first = with_owners(owners, connections)
    monkeypatch.setattr(Cgroups, "outline", lambda _: pytest.fail("walked again"))
    assert with_owners(owners, connections) == first
    assert [one.owner.unit for one in first] == ["a.service", ""]


def test_a_cgroup_that_ends_while_the_tree_is_read_is_passed_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transient scopes come and go all the time; the daemon must not go with one."""
    ours = host.cgroup("system.slice/ssh.service")
    ended = Path(host.root / "sys/fs/cgroup/system.slice/run-r123.scope")
    ended.mkdir()
    really = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("/run-r123.scope"):
            monkeypatch.setattr(os, "stat", really)
            ended.rmdir()
        return really(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert host.owner(held(1, ours)).unit == "ssh.service"


def test_a_host_without_cgroups_has_no_units(host: Host) -> None:
    """Nor does one with version 1 alone."""
    (host.root / "sys/fs/cgroup/memory/ssh.service").mkdir(parents=True)
    inode = (host.root / "sys/fs/cgroup/memory/ssh.service").stat().st_ino
    assert host.owner(held(1, inode)) == Owner()


def test_the_processes_of_a_cgroup_are_looked_at_before_all_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every process of the host would be read, for the last one."""
    ours = host.cgroup("system.slice/ssh.service")
    for pid in range(2, 50):
        host.process(pid, "socket:[5]" if pid == 48 else "/dev/null", name=b"sshd")
    (host.root / "sys/fs/cgroup/system.slice/ssh.service/cgroup.procs").write_text("48\n4711\n")
    monkeypatch.setattr(psutil, "pids", lambda: pytest.fail("looked at all"))
    assert host.owner(held(5, ours)) == Owner(48, "sshd", "ssh.service")


@pytest.mark.parametrize("content", ["", "garbage\n", None])
def test_a_cgroup_that_does_not_tell_its_processes_is_no_obstacle(host: Host, content: str | None) -> None:
    """A threaded one answers with an error, and processes may have left."""
    ours = host.cgroup("ssh.service")
    host.process(7, "socket:[5]", name=b"sshd")
    if content is not None:
        (host.root / "sys/fs/cgroup/ssh.service/cgroup.procs").write_text(content)
    assert host.owner(held(5, ours)) == Owner(7, "sshd", "ssh.service")


def test_what_was_found_for_owners_is_known_to_who_shares_the_memory(host: Host) -> None:
    """The armer needs the same process and its descriptor."""
    host.process(7, "/dev/null", "socket:[5]")
    holders = Holders(host.root)
    with_owners(ProcOwners(host.root, holders), [held(5)])
    assert holders.known(5) == (7, 1)
    assert ProcOwners(host.root, holders).held_by([7]) == {7: frozenset({5})}


ID = "4f5f4ff6b2d8d34bd4e1eb9c27a6c2a8fe91ecdd6a1f8a3f0b0f2d8b7d5d9c11"


def test_a_socket_belongs_to_the_container_of_its_cgroup(host: Host) -> None:
    ours = host.cgroup(f"system.slice/docker-{ID}.scope")
    assert host.owner(held(1, ours)).container == ID
