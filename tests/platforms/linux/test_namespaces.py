"""Which network namespaces there are, in a tree of files that stands for /proc and /run/netns."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from keepaliveD.platforms.linux import namespaces


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
