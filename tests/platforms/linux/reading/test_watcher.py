"""One scan of all namespaces, from dumps that tests make up."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from keepaliveD.model.errors import KernelError, NotPermitted
from keepaliveD.model.sockets import OWN, Sockets, SocketTable, Unwatched
from keepaliveD.platforms.linux.reading.engine import OneByOne
from keepaliveD.platforms.linux.reading.interfaces import Interfaces
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher

Result = TypeVar("Result")
ETH0 = Interfaces({1: "lo", 2: "eth0"}, {int(ipaddress.IPv6Address("::ffff:192.0.2.1")): 2})


class Host(OneByOne):
    """Namespaces as files, and what each answers; `inside` says which one a thread is in."""

    name = "fake"

    def __init__(self, root: Path) -> None:
        super().__init__(scratch=1)
        self.root = root
        self.inside = 0
        self.shut: dict[int, OSError] = {}
        self.cookies: dict[int, list[int]] = {}
        self.failing: set[int] = set()
        self.racing: set[int] = set()
        self.open: list[int] = []
        self.bound_to = 99
        self.dumped: Callable[[int], None] = lambda _: None
        self.own = self.namespace("proc/self/ns/net", 1)
        self.inside = self.own

    def namespace(self, path: str, *cookies: int) -> int:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).touch()
        inode = (self.root / path).stat().st_ino
        self.cookies[inode] = list(cookies)
        return inode

    def visit(self, path: str, netns: int, work: Callable[[], Result]) -> Result:
        """What namespaces.inside does."""
        inode = Path(path).stat().st_ino
        assert inode == netns
        if inode in self.shut:
            raise self.shut[inode]
        before, self.inside = self.inside, inode
        try:
            return work()
        finally:
            self.inside = before

    def reader(self) -> FakeReader:
        return FakeReader(self)


class FakeReader:
    """A reader of the namespace that it was opened in."""

    def __init__(self, host: Host) -> None:
        self.host, self.netns = host, host.inside
        host.open.append(self.netns)

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        assert netns == self.netns
        assert scratch
        if netns in self.host.failing:
            raise KernelError("sock_diag: no")
        new = sockets.extend(len(self.host.cookies[netns]))
        for name in new:
            new[name][:] = 0
        new["cookie"][:] = self.host.cookies[netns]
        new["netns"][:] = netns
        new["local_low"][:] = 0xFFFF_C000_0201  # 192.0.2.1
        new["interface"][:] = self.host.bound_to
        self.host.dumped(netns)
        return netns not in self.host.racing

    def close(self) -> None:
        self.host.open.remove(self.netns)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr("keepaliveD.platforms.linux.namespaces.inside", host.visit)
    monkeypatch.setattr("keepaliveD.platforms.linux.reading.interfaces.read", lambda: ETH0)
    return host


def seen(table: SocketTable) -> dict[int, int]:
    """The namespace of each cookie."""
    return dict(zip(table.sockets["cookie"].tolist(), table.sockets["netns"].tolist(), strict=True))


def interfaces(table: SocketTable) -> list[str]:
    """The interface of each socket."""
    return [table.interfaces[number] for number in table.sockets["interface"]]


def test_a_snapshot_has_the_sockets_of_every_namespace(host: Host) -> None:
    """Tuning the host leaves every container at 7200 s, so they are watched as well."""
    container = host.namespace("proc/100/ns/net", 2, 3)
    table = SocketWatcher(host.root, host).scan(5.0)
    assert seen(table) == {1: host.own, 2: container, 3: container}
    assert (table.taken_at, table.complete, table.namespaces, table.unwatched) == (5.0, True, 2, Unwatched())


def test_only_our_own_namespace_is_seen_if_that_is_wanted(host: Host) -> None:
    """namespaces = "own" needs no privilege."""
    host.namespace("proc/100/ns/net", 2)
    table = SocketWatcher(host.root, host, all_namespaces=False).scan(5.0)
    assert seen(table) == {1: host.own}
    assert (table.namespaces, table.read, table.unread) == (1, (host.own,), None)


@pytest.mark.parametrize("what", ["racing", "failing", "shut"])
def test_namespaces_of_which_sockets_may_be_missing_are_told_from_those_that_have_ended(host: Host, what: str) -> None:
    """At the first scan already, and for as long as they are there."""
    container = host.namespace("proc/100/ns/net", 2)
    if what == "shut":
        host.shut[container] = PermissionError(1, "no")
    else:
        setattr(host, what, {container})
    watcher = SocketWatcher(host.root, host)
    table = watcher.scan(0.0)
    assert (table.read, table.unread) == ((host.own,), (container,))
    (host.root / "proc/100/ns/net").unlink()
    setattr(host, what, {})
    table = watcher.scan(1.0)
    assert (table.read, table.unread) == ((host.own,), ())


def test_namespaces_come_and_go_and_none_is_kept_alive_by_us(host: Host) -> None:
    """An open netlink socket would hold a stopped container's namespace, and its addresses, for ever."""
    watcher = SocketWatcher(host.root, host)
    watcher.scan(0.0)
    container = host.namespace("proc/100/ns/net", 2)
    assert 2 in seen(watcher.scan(1.0))
    assert sorted(host.open) == sorted([host.own, container])
    (host.root / "proc/100/ns/net").unlink()
    table = watcher.scan(2.0)
    assert seen(table) == {1: host.own}
    assert host.open == [host.own]
    watcher.close()
    assert host.open == []


def test_a_namespace_is_entered_once_not_at_every_scan(host: Host) -> None:
    """A thread a scan and container would be the dearest part of it."""
    host.namespace("proc/100/ns/net", 2)
    watcher = SocketWatcher(host.root, host)
    for now in range(3):
        watcher.scan(float(now))
    assert len(host.open) == 2


@pytest.mark.parametrize("refusal", [PermissionError(1, "no"), OSError(22, "no")])
def test_namespaces_that_may_not_be_entered_are_counted(host: Host, refusal: OSError) -> None:
    """Somebody must be told that not everything is watched."""
    container = host.namespace("proc/100/ns/net", 2)
    host.shut[container] = refusal
    watcher = SocketWatcher(host.root, host)
    assert [watcher.scan(0.0).unwatched, watcher.scan(1.0).unwatched] == [Unwatched(forbidden=1)] * 2
    (host.root / "proc/100/ns/net").unlink()
    assert watcher.scan(2.0).unwatched == Unwatched()


def test_a_namespace_whose_process_does_not_answer_is_said_to_be_silent(host: Host) -> None:
    container = host.namespace("proc/100/ns/net", 2)
    host.shut[container] = TimeoutError(110, "no")
    assert SocketWatcher(host.root, host).scan(0.0).unwatched == Unwatched(silent=(container,))


def test_namespaces_of_our_own_user_are_entered_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others there are, and however long these take."""
    inodes = [host.namespace(f"proc/{pid}/ns/net") for pid in range(100, 106)]
    ours = {inodes[1], inodes[4]}
    monkeypatch.setattr(
        "keepaliveD.platforms.processes.user_of",
        lambda pid: str(os.getuid() + ((host.root / f"proc/{pid}/ns/net").stat().st_ino not in ours)),
    )
    SocketWatcher(host.root, host).scan(0.0)
    assert set(host.open[1:3]) == ours
    assert len(host.open) == 7


def test_a_namespace_of_which_sockets_are_left_out_at_every_scan_is_named(host: Host) -> None:
    """Somebody must be told, for as long as it is so."""
    container = host.namespace("proc/100/ns/net", 2)
    watcher = SocketWatcher(host.root, host)
    host.crowded = {container}
    assert watcher.scan(0.0).unwatched == Unwatched(crowded=(container,))
    host.crowded = set()
    assert watcher.scan(1.0).unwatched == Unwatched()


def test_a_namespace_of_which_the_kernel_tells_only_a_part_is_named(host: Host) -> None:
    """Our own by another number, as everywhere."""
    container = host.namespace("proc/100/ns/net", 2)
    watcher = SocketWatcher(host.root, host)
    host.racing = {host.own, container}
    assert watcher.scan(0.0).unwatched == Unwatched(incomplete=(OWN, container))
    host.racing = set()
    assert watcher.scan(1.0).unwatched == Unwatched()


def test_a_namespace_that_cannot_be_read_twice_is_named(host: Host) -> None:
    """One that could not be read once may just have ended."""
    container = host.namespace("proc/100/ns/net", 2)
    watcher = SocketWatcher(host.root, host)
    host.failing = {container}
    assert [watcher.scan(float(now)).unwatched for now in range(2)] == [Unwatched(), Unwatched(incomplete=(container,))]


def test_namespaces_beyond_the_limit_of_open_files_are_left_out_and_counted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept in reserve serves records, owners and arming; those that were entered stay."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (18, 18))  # half is the reserve, and each takes three
    for number in range(5):
        host.namespace(f"proc/{100 + number}/ns/net", 2 + number)
    watcher = SocketWatcher(host.root, host)
    first = watcher.scan(0.0)
    assert (first.namespaces, first.unwatched) == (3, Unwatched(surplus=3))
    assert seen(watcher.scan(1.0)) == seen(first)


def test_a_process_whose_namespace_cannot_be_seen_is_reported(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_SYS_PTRACE all containers are unwatched, and nobody would know."""
    host.namespace("proc/100/ns/net", 2)
    stat = os.stat

    def without_privilege(path: str) -> os.stat_result:
        if "/proc/100/" in str(path):
            raise PermissionError(13, "Permission denied")
        return stat(path)

    monkeypatch.setattr(os, "stat", without_privilege)
    table = SocketWatcher(host.root, host).scan(0.0)
    assert (table.namespaces, table.unwatched) == (1, Unwatched(hidden=True))
    assert (table.read, table.unread) == ((host.own,), None)


def test_a_namespace_that_ends_before_it_is_entered_is_not_counted(host: Host) -> None:
    """It is no longer there, so nothing is unwatched."""
    container = host.namespace("proc/100/ns/net", 2)
    host.shut[container] = FileNotFoundError(2, "gone")
    assert SocketWatcher(host.root, host).scan(0.0).unwatched == Unwatched()


def test_a_namespace_that_fails_makes_the_snapshot_incomplete_and_is_entered_anew(host: Host) -> None:
    """One broken container must not blind the watch of all others."""
    container = host.namespace("proc/100/ns/net", 2)
    watcher = SocketWatcher(host.root, host)
    host.failing = {container}
    table = watcher.scan(0.0)
    assert seen(table) == {1: host.own}
    assert not table.complete
    host.failing = set()
    table = watcher.scan(1.0)
    assert seen(table) == {1: host.own, 2: container}
    assert table.complete


def test_where_our_own_namespace_fails_there_is_no_snapshot(host: Host) -> None:
    """Nothing at all can be watched then, and an empty table would look like a quiet host."""
    watcher = SocketWatcher(host.root, host)
    host.failing = {host.own}
    with pytest.raises(KernelError):
        watcher.scan(0.0)


def test_a_dump_that_raced_with_changes_is_reported(host: Host) -> None:
    """A socket that is missing from an incomplete table may still be there."""
    container = host.namespace("proc/100/ns/net", 2)
    host.racing = {host.own}
    table = SocketWatcher(host.root, host).scan(0.0)
    assert not table.complete
    assert seen(table) == {1: host.own, 2: container}


def test_a_reader_that_a_sandbox_forbids_in_a_namespace_leaves_it_unseen(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are watched all the same."""
    container = host.namespace("proc/100/ns/net", 2)

    def reader() -> FakeReader:
        if host.inside == container:
            raise NotPermitted("netlink: no")
        return FakeReader(host)

    monkeypatch.setattr(host, "reader", reader)
    assert SocketWatcher(host.root, host).scan(0.0).unwatched == Unwatched(forbidden=1)


def test_interfaces_are_named_by_the_address_that_they_hold(host: Host) -> None:
    """The kernel gives an index only for bound sockets; 99 is that of an interface that has gone."""
    watcher = SocketWatcher(host.root, host, with_interfaces=True)
    assert interfaces(watcher.scan(0.0)) == [""]
    host.bound_to = 0
    assert interfaces(watcher.scan(0.0)) == ["eth0"]
    host.bound_to = 1
    assert interfaces(watcher.scan(0.0)) == ["lo"]


def test_our_own_interfaces_are_seen_without_any_privilege(host: Host) -> None:
    """`keepalivectl sockets` needs no root; to enter even the namespace one is in takes CAP_SYS_ADMIN."""
    host.bound_to = 0
    host.shut[host.own] = PermissionError(1, "Operation not permitted")
    table = SocketWatcher(host.root, host, with_interfaces=True).scan(0.0)
    assert interfaces(table) == ["eth0"]


def test_where_our_own_interfaces_cannot_be_seen_there_is_no_snapshot(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets without their interface would be judged by the wrong path."""

    def fail() -> Interfaces:
        raise KernelError("interfaces: no")

    monkeypatch.setattr("keepaliveD.platforms.linux.reading.interfaces.read", fail)
    with pytest.raises(KernelError):
        SocketWatcher(host.root, host, with_interfaces=True).scan(0.0)


def test_without_interfaces_none_is_named(host: Host) -> None:
    """An index of the kernel's must not be taken for one of ours."""
    table = SocketWatcher(host.root, host).scan(0.0)
    assert table.interfaces == ("",)
    assert table.sockets["interface"].tolist() == [0]


def test_a_namespace_that_ends_while_its_interfaces_are_looked_up_does_not_end_the_watch(host: Host) -> None:
    """A container that stops in the middle of a scan is a matter of course."""
    container = host.namespace("proc/100/ns/net", 2)
    host.dumped = lambda netns: (host.root / "proc/100/ns/net").unlink() if netns == container else None
    table = SocketWatcher(host.root, host, with_interfaces=True).scan(0.0)
    assert seen(table) == {1: host.own}
    assert not table.complete
