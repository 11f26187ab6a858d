"""Which process has a socket open, and under which number: found once, in one pass, for all that are asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from keepaliveD.model.errors import NoInput, NotPermitted
from keepaliveD.platforms.linux.owners import holders as module
from keepaliveD.platforms.linux.owners.holders import Holder, Holders
from tests.support.unprivileged import NOBODY, as_nobody, reachable_directory


class Host:
    """Processes as directories of links, and which of them were listed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listed: list[int] = []
        self.read = 0

    def process(self, pid: int, *links: str) -> None:
        directory = self.root / f"proc/{pid}/fd"
        directory.mkdir(parents=True, exist_ok=True)
        for number, link in enumerate(links):
            (directory / str(number)).symlink_to(link)

    def close(self, pid: int, fd: int) -> None:
        (self.root / f"proc/{pid}/fd/{fd}").unlink()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    really, readlink = os.listdir, os.readlink

    def listdir(path: str) -> list[str]:
        host.listed.append(int(path.split("/")[-2]))
        return really(path)

    def counted(path: str) -> str:
        host.read += 1
        return readlink(path)

    def pids() -> list[int]:
        return [int(name) for name in really(tmp_path / "proc")]

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(os, "readlink", counted)
    monkeypatch.setattr(psutil, "pids", pids)
    return host


def test_the_holder_is_a_process_and_its_number_for_the_socket(host: Host) -> None:
    """Which is what pidfd_getfd(2) asks for."""
    host.process(7, "/dev/null", "pipe:[5]", "socket:[5]")
    assert Holders(host.root).find([5]) == {5: Holder(7, 2)}


def test_what_nobody_holds_is_not_found(host: Host) -> None:
    """The kernel's own, another user's, or closed meanwhile; and inode 0 is an orphan's, never looked for."""
    host.process(7, "socket:[5]")
    assert Holders(host.root).find([6, 0]) == {}
    host.listed.clear()
    assert Holders(host.root).find([0]) == {}
    assert host.listed == []


def test_one_pass_serves_all_and_ends_with_the_last(host: Host) -> None:
    """20,000 descriptors are read once, not once for each socket."""
    for pid in range(2, 50):
        host.process(pid, f"socket:[{pid}]", f"socket:[{pid}]")
    assert set(Holders(host.root).find(range(3, 10))) == set(range(3, 10))
    assert host.listed == list(range(2, 10))


def test_of_several_holders_the_lowest_process_counts(host: Host) -> None:
    """A server and its children; 9 comes before 10."""
    for pid in (10, 9, 100):
        host.process(pid, "socket:[5]")
    assert Holders(host.root).find([5])[5].pid == 9


def test_likely_processes_are_looked_at_first_and_others_only_if_need_be(host: Host) -> None:
    """The socket's cgroup names them, mostly."""
    for pid in range(2, 48):
        host.process(pid, "/dev/null")
    host.process(48, "/dev/null", "socket:[5]")
    assert Holders(host.root).find([5], likely={48, 40, 9999}) == {5: Holder(48, 1)}
    assert host.listed == [40, 48]


def test_what_the_likely_do_not_hold_is_sought_among_all(host: Host) -> None:
    """A socket that was passed on by SCM_RIGHTS is in another cgroup than its holder."""
    host.process(2, "socket:[5]")
    host.process(40, "socket:[6]")
    assert Holders(host.root).find([5, 6], likely=[40]) == {5: Holder(2, 0), 6: Holder(40, 0)}


# memory


def test_what_was_found_is_not_sought_again(host: Host) -> None:
    """Only whether it still holds is looked at: one readlink each."""
    for pid in range(2, 50):
        host.process(pid, f"socket:[{pid}]")
    holders = Holders(host.root)
    first = holders.find([10, 20])
    host.listed.clear()
    host.read = 0
    assert holders.find([20, 10]) == first
    assert (host.listed, host.read) == ([], 2)
    assert holders.known(10) == Holder(10, 0)
    assert holders.known(11) is None


@pytest.mark.parametrize("change", ["closed", "reused by another socket", "ended"])
def test_what_no_longer_holds_is_sought_anew(host: Host, change: str) -> None:
    """Descriptors and pids are reused; a child may have it still."""
    host.process(7, "socket:[5]")
    host.process(8, "/dev/null", "socket:[5]")
    holders = Holders(host.root)
    assert holders.find([5])[5].pid == 7
    host.close(7, 0)
    if change == "reused by another socket":
        host.process(7, "socket:[55]")
    if change == "ended":
        (host.root / "proc/7/fd").rmdir()
        (host.root / "proc/7").rmdir()
    assert holders.find([5]) == {5: Holder(8, 1)}
    assert holders.known(5) == Holder(8, 1)


def test_another_number_of_the_same_process_is_found(host: Host) -> None:
    """dup2(2), then close(2): amandad has its connection as 0, 1 and 2."""
    host.process(7, "socket:[5]", "socket:[5]", "socket:[5]")
    holders = Holders(host.root)
    first = holders.find([5])[5]
    host.close(7, first.fd)
    second = holders.find([5])[5]
    assert second.pid == 7
    assert second.fd in {0, 1, 2} - {first.fd}


def test_the_memory_does_not_grow_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month of connections; those of this call are kept."""
    monkeypatch.setattr(module, "MOST", 10)
    host.process(7, *(f"socket:[{inode}]" for inode in range(1, 100)))
    holders = Holders(host.root)
    for inode in range(1, 100):
        assert inode in holders.find([inode])
        assert holders.known(inode)
        assert len(holders._known) <= 10


# one process


def test_all_sockets_of_a_process_are_told_and_remembered(host: Host) -> None:
    """keepalivectl arm PID."""
    host.process(7, "/dev/null", "socket:[5]", "anon_inode:[eventpoll]", "socket:[6]", "socket:[6]")
    holders = Holders(host.root)
    assert holders.held_by(7) == {5, 6}
    host.listed.clear()
    assert holders.find([5]) == {5: Holder(7, 1)}
    assert host.listed == []


def test_a_process_that_is_not_there_is_said(host: Host) -> None:
    (host.root / "proc").mkdir()
    with pytest.raises(NoInput, match=r"^process 4711: does not exist$"):
        Holders(host.root).held_by(4711)


def test_a_process_of_another_user_is_said() -> None:
    """With what would help."""
    with reachable_directory() as directory:
        (directory / "proc/7/fd").mkdir(parents=True)
        (directory / "proc/7/fd").chmod(0)
        with as_nobody():
            if os.geteuid() not in (0, NOBODY):
                pytest.skip("whose own directory this is")
            with pytest.raises(
                NotPermitted,
                match=r"^process 7: not permitted: run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH$",
            ):
                Holders(directory).held_by(7)


# races


@pytest.mark.parametrize("gone", ["process", "descriptor"])
def test_what_goes_between_listing_and_reading_is_passed_over(
    host: Host, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    host.process(7, "socket:[1]", "socket:[5]")
    host.process(8, "socket:[5]")
    listdir: Callable[[str], list[str]] = os.listdir

    def meanwhile(path: str) -> list[str]:
        entries = listdir(path)
        if "/7/" in path:
            for fd in (0, 1):
                host.close(7, fd)
            if gone == "process":
                (host.root / "proc/7/fd").rmdir()
        return entries

    monkeypatch.setattr(os, "listdir", meanwhile)
    assert Holders(host.root).find([5]) == {5: Holder(8, 0)}


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.process(7, "socket:[1]", "socket:[5]")
    listdir: Callable[[str], list[str]] = os.listdir

    def meanwhile(path: str) -> list[str]:
        entries = sorted(listdir(path))
        host.close(7, 0)
        return entries

    monkeypatch.setattr(os, "listdir", meanwhile)
    assert Holders(host.root).find([5]) == {5: Holder(7, 1)}


# this machine


def test_a_real_socket_is_found_in_this_process_and_in_its_child() -> None:
    """Below the real /proc."""
    with socket.socket() as sock:
        inode = os.fstat(sock.fileno()).st_ino
        assert Holders().find([inode], likely=[os.getpid()]) == {inode: Holder(os.getpid(), sock.fileno())}
        assert inode in Holders().held_by(os.getpid())
        holders = Holders()
        holders.find([inode])
    assert holders.find([inode]) == {}
