"""Which network namespaces there are, in a tree of files that stands for /proc and /run/netns."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from keepaliveD.platforms import processes, touching
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.touching import Kind
from tests.platforms.test_processes import Clock


class Host:
    """A namespace is a file here: it, too, is what it is by its inode."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/self/ns").mkdir(parents=True)
        self.own = self.inode(root / "proc/self/ns/net")

    def inode(self, path: Path) -> int:
        path.touch()
        return path.stat().st_ino

    def process(self, pid: int, namespace: int | None = None) -> int:
        """A process in a new namespace, or in that of another one."""
        path = self.root / f"proc/{pid}/ns/net"
        path.parent.mkdir(parents=True)
        if namespace is not None:
            path.hardlink_to(self.root / f"proc/{namespace}/ns/net")
        return self.inode(path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_here_is_one_namespace(host: Host) -> None:
    """namespaces = "own" looks at nobody else's."""
    host.process(1)
    assert namespaces.only_here(host.root) == {host.own: str(host.root / "proc/self/ns/net")}


def test_every_namespace_is_found_once_however_many_processes_it_has(host: Host) -> None:
    """Each is dumped once, or its sockets would be counted twice."""
    container = host.process(100)
    host.process(101, 100)
    host.process(102, 100)
    other = host.process(200)
    found = namespaces.everywhere(host.root)
    assert found.keys() == {host.own, container, other}
    assert all(Path(path).stat().st_ino == inode for inode, path in found.items())


def test_a_named_namespace_needs_no_process(host: Host) -> None:
    """`ip netns add` makes one, with a router's sockets in it or none."""
    (host.root / "run/netns").mkdir(parents=True)
    blue = host.inode(host.root / "run/netns/blue")
    assert namespaces.everywhere(host.root).keys() == {host.own, blue}


def test_a_name_without_a_namespace_is_none(host: Host) -> None:
    """A file left behind in /run/netns is on another file system than namespaces are."""
    (host.root / "run/netns").mkdir(parents=True)
    (host.root / "run/netns/stale").symlink_to("/proc/version")
    (host.root / "run/netns/dangling").symlink_to("nowhere")
    assert namespaces.everywhere(host.root).keys() == {host.own}


def test_what_ends_or_is_somebody_elses_is_left_out(host: Host) -> None:
    """A process without a namespace is one that has just ended."""
    (host.root / "proc/300").mkdir()
    (host.root / "proc/sys").mkdir()
    (host.root / "proc/version").touch()
    assert namespaces.everywhere(host.root).keys() == {host.own}


def test_our_own_namespace_is_reached_by_our_own_path(host: Host) -> None:
    """That path does not end when somebody else's process does."""
    host.process(100)
    (host.root / "proc/1/ns").mkdir(parents=True)
    (host.root / "proc/1/ns/net").hardlink_to(host.root / "proc/self/ns/net")
    assert namespaces.everywhere(host.root)[host.own] == str(host.root / "proc/self/ns/net")


def test_a_namespace_that_is_gone_cannot_be_entered(host: Host) -> None:
    """Nothing is done then, in particular not in the namespace we are in."""
    with pytest.raises(FileNotFoundError):
        namespaces.inside(str(host.root / "proc/400/ns/net"), 400, lambda: pytest.fail("done in the wrong place"))


def test_a_process_that_has_left_its_namespace_leads_nowhere(host: Host) -> None:
    """The netlink engine read the host's sockets for a new namespace's: `ip netns add` had gone back meanwhile."""
    new = host.process(100)
    path = namespaces.everywhere(host.root)[new]
    Path(path).unlink()
    Path(path).hardlink_to(host.root / "proc/self/ns/net")
    with pytest.raises(FileNotFoundError):
        namespaces.inside(path, new, lambda: pytest.fail("done in the wrong place"))


def test_what_is_no_namespace_cannot_be_entered(host: Host) -> None:
    """The kernel says so, and nothing is done either."""
    with pytest.raises(OSError, match=r"Invalid argument|not permitted") as refused:
        namespaces.inside(str(host.root / "proc/self/ns/net"), host.own, lambda: pytest.fail("done in the wrong place"))
    assert refused.value.errno in (errno.EINVAL, errno.EPERM)


# processes that hang while their namespace is opened

OURS = 100


class Users:
    """Processes of our own user, who is root here, and of others; each hangs while its namespace is opened, but one."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.tried: list[str] = []  # users
        self._users = {OURS: "0"}
        opened = namespaces._open

        def tried(path: str) -> object:
            self.tried.append(self._users[int(Path(path).parts[-3])])
            return opened(path)

        host.process(OURS)
        monkeypatch.setattr(namespaces, "_open", tried)
        monkeypatch.setattr(processes, "user_of", self._users.__getitem__)

    def hang(self, pid: int, user: str) -> None:
        """Whoever opens a pipe for reading waits for somebody who writes."""
        path = self.host.root / f"proc/{pid}/ns/net"
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        self._users[pid] = user

    def enter(self, pid: int) -> int:
        """Return why its namespace is not entered: a file is none."""
        path = self.host.root / f"proc/{pid}/ns/net"
        try:
            namespaces.inside(str(path), path.stat().st_ino, lambda: pytest.fail("done in the wrong place"))
        except OSError as error:
            return error.errno or 0
        return 0

    def let_go(self) -> None:
        for pid in self._users.keys() - {OURS}:
            os.close(os.open(self.host.root / f"proc/{pid}/ns/net", os.O_RDWR))


@pytest.fixture
def users(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Users]:
    stuck = dict[int, processes._Stuck]()
    monkeypatch.setattr(processes, "_stuck", stuck)
    monkeypatch.setattr(processes, "_executes", lambda _: False)
    clock = SimpleNamespace(monotonic=Clock(), sleep=time.sleep)
    monkeypatch.setattr(processes, "time", clock)
    monkeypatch.setattr(namespaces, "time", clock)
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    monkeypatch.setattr(processes, "BESIDE", 0.005)
    monkeypatch.setattr(namespaces, "LOST", 0.3)
    monkeypatch.setattr(namespaces, "LOST_IN_ALL", 0.8)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    namespaces.begin_scan()
    users = Users(host, monkeypatch)
    yield users
    users.let_go()
    assert all(each.task.wait(60) for each in stuck.values())
    namespaces.begin_scan()


def test_who_keeps_namespaces_from_being_opened_costs_a_scan_little_time(users: Users) -> None:
    """Each such process cost the scan a worker and a second, and there was no end of them."""
    for pid in range(200, 220):
        users.hang(pid, "1234")
        assert users.enter(pid) == errno.ETIMEDOUT
    assert 1 <= len(users.tried) <= 2
    assert users.enter(OURS) in (errno.EINVAL, errno.EPERM)
    namespaces.begin_scan()
    users.hang(300, "1234")
    users.enter(300)
    assert users.tried[-2:] == ["0", "1234"], "the next scan tries again"


def test_many_users_who_do_so_cost_a_scan_little_time_and_our_own_namespaces_are_entered(users: Users) -> None:
    for pid in range(200, 220):
        users.hang(pid, str(pid))
        users.enter(pid)
    assert 1 <= len(users.tried) <= 4
    assert users.enter(OURS) in (errno.EINVAL, errno.EPERM)


def test_what_was_touched_before_a_namespace_is_opened_is_touched_after_that(users: Users) -> None:
    """The worker would hang at the work there, and the process would be blamed."""
    with touching.share() as memory:
        try:
            touching.write_to(memory)
            touching.now(Kind.LOCKS, 7)
            users.enter(OURS)
            assert touching.read(memory)[1:] == (Kind.LOCKS, 7)
        finally:
            touching.write_to(None)
