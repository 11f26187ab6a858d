"""Which process has a socket open, and under which number: found once, in one pass, for all that are asked for."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from keepaliveD.model.errors import KernelError, NoAnswer, NoInput, NotPermitted, Refusal
from keepaliveD.platforms import processes
from keepaliveD.platforms.linux.owners import descriptors
from keepaliveD.platforms.linux.owners import holders as module
from keepaliveD.platforms.linux.owners.holders import Holder, Holders, Likely
from tests.support.patience import SOON
from tests.support.unprivileged import NOBODY, as_nobody, reachable_directory

HANG = 40  # processes, and one more that does not


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


def search_patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no search end, and no process be given up, because a busy machine read nobody for a while."""
    for patience in ("FIRST", "LATER", "MOMENT"):
        monkeypatch.setattr(module, patience, SOON)
    monkeypatch.setattr(processes, "PATIENCE", SOON)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    parts, readlink = descriptors.parts, os.readlink

    def listed(directory: str, start: int = 0) -> Iterator[descriptors.Part]:
        host.listed.append(int(directory.split("/")[-2]))
        return parts(directory, start)

    def counted(path: str, *, dir_fd: int | None = None) -> str:
        host.read += 1
        return readlink(path, dir_fd=dir_fd)

    def pids() -> list[int]:
        return [int(name) for name in os.listdir(tmp_path / "proc")]

    search_patiently(monkeypatch)
    monkeypatch.setattr(descriptors, "parts", listed)
    monkeypatch.setattr(os, "readlink", counted)
    monkeypatch.setattr(psutil, "pids", pids)
    return host


def held_by(root: Path, pid: int) -> frozenset[int]:
    """The sockets of one process, or why they are not known."""
    held = Holders(root).held_by([pid])[pid]
    if isinstance(held, Refusal):
        raise held
    return held


def test_the_owner_is_a_process_and_its_number_for_the_socket(host: Host) -> None:
    """Which is what pidfd_getfd(2) asks for."""
    host.process(7, "/dev/null", "pipe:[5]", "socket:[5]")
    assert Holders(host.root).find([5]) == {5: Holder(7, 2)}


def test_another_descriptor_counts_where_the_one_last_found_may_be_another_socket_by_now(host: Host) -> None:
    """As of a program that moves its connections to one descriptor in turn; each of them stays open at another."""
    host.process(7, "socket:[5]", "/dev/null", "socket:[5]")
    holders = Holders(host.root)
    first = holders.find([5])[5]
    holders.find_another([5])
    second = holders.known(5)
    assert second
    assert {first.fd, second.fd} == {0, 2}


def test_where_no_other_descriptor_is_found_the_last_one_stays_known(host: Host) -> None:
    host.process(7, "socket:[5]")
    host.process(8, "socket:[6]")
    holders = Holders(host.root)
    holders.find([5])
    holders.find_another([5])
    assert holders.known(5) == Holder(7, 0)


def test_another_process_counts_where_the_one_last_found_has_no_other_descriptor(host: Host) -> None:
    host.process(7, "socket:[5]")
    host.process(8, "socket:[5]")
    holders = Holders(host.root)
    first = holders.find([5])[5]
    holders.find_another([5])
    second = holders.known(5)
    assert second
    assert {first.pid, second.pid} == {7, 8}


def test_where_the_kernel_finds_holders_no_other_process_is_read(host: Host) -> None:
    """But those that are likely to hold them, which is cheaper where they do."""
    for pid in range(2, 50):
        host.process(pid, f"socket:[{pid}]")
    asked: list[set[int]] = []

    def in_kernel(inodes: Collection[int]) -> dict[int, tuple[int, int]]:
        asked.append(set(inodes))
        return {7: (7, 0)}

    holders = Holders(host.root, in_kernel)
    assert holders.find([5, 7], [Likely("a.service", {5, 7}, {5})]) == {5: Holder(5, 0), 7: Holder(7, 0)}
    assert (asked, host.listed, holders.barred) == ([{7}], [5], False)


@pytest.mark.parametrize(("rest", "asked"), [(0, 2), (10**9, 1)])
def test_the_kernel_rests_after_it_went_over_all_files(
    host: Host, monkeypatch: pytest.MonkeyPatch, rest: int, asked: int
) -> None:
    """Anybody may open very many; meanwhile processes are read, for as long as they may be."""
    monkeypatch.setattr(module, "REST", rest)
    host.process(7, "socket:[5]")
    times = []

    def in_kernel(inodes: Collection[int]) -> dict[int, tuple[int, int]]:
        times.append(inodes)
        return {}

    holders = Holders(host.root, in_kernel)
    assert [holders.find([5]), holders.find([5])] == [{}, {} if asked > 1 else {5: Holder(7, 0)}]
    assert len(times) == asked


def test_the_kernel_rests_for_the_work_that_it_did_and_not_for_the_time_that_others_took(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a pass of a tenth of a millisecond may last as long as others have their turn."""
    host.process(7)
    asked_at, instant, worked = [], [1000.0], [0.0]
    clocks = SimpleNamespace(monotonic=lambda: instant[0], thread_time=lambda: worked[0])
    monkeypatch.setattr(module, "time", clocks)

    def in_kernel(_: Collection[int]) -> dict[int, tuple[int, int]]:
        instant[0] += 0.1
        worked[0] += 0.0001
        asked_at.append(instant[0])
        return {}

    holders = Holders(host.root, in_kernel)
    for wait in (0.0, 0.9 * module.REST * 0.0001, 0.1 * module.REST * 0.0001 + 1e-6):
        instant[0] += wait
        holders.find([5])
    assert len(asked_at) == 2


@pytest.mark.parametrize(("refusal", "again"), [(KernelError("no memory"), True), (NotPermitted("no"), False)])
def test_where_the_kernel_refuses_processes_are_read(host: Host, refusal: Refusal, again: bool) -> None:
    """For good where that will not change."""
    host.process(7, "socket:[5]")
    asked = []

    def in_kernel(inodes: Collection[int]) -> dict[int, tuple[int, int]]:
        asked.append(inodes)
        raise refusal

    holders = Holders(host.root, in_kernel)
    for _ in range(2):
        assert holders.find([5, 6]) == {5: Holder(7, 0)}
    assert len(asked) == 1 + again


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


def test_of_several_owners_the_lowest_process_counts(host: Host) -> None:
    """A server and its children; 9 comes before 10."""
    for pid in (10, 9, 100):
        host.process(pid, "socket:[5]")
    assert Holders(host.root).find([5])[5].pid == 9


def test_likely_processes_are_looked_at_first_and_others_only_if_need_be(host: Host) -> None:
    """The socket's cgroup names them, mostly."""
    for pid in range(2, 48):
        host.process(pid, "/dev/null")
    host.process(48, "/dev/null", "socket:[5]")
    assert Holders(host.root).find([5], [Likely("a.service", {5}, {48, 40, 9999})]) == {5: Holder(48, 1)}
    assert host.listed == [40, 48]


def test_what_the_likely_do_not_hold_is_sought_among_all(host: Host) -> None:
    """A socket that was passed on by SCM_RIGHTS is in another cgroup than its holder."""
    host.process(2, "socket:[5]")
    host.process(40, "socket:[6]")
    assert Holders(host.root).find([5, 6], [Likely("a.service", {5, 6}, {40})]) == {5: Holder(2, 0), 6: Holder(40, 0)}


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


def test_all_sockets_of_a_process_are_reported_and_remembered(host: Host) -> None:
    """keepalivectl arm PID."""
    host.process(7, "/dev/null", "socket:[5]", "anon_inode:[eventpoll]", "socket:[6]", "socket:[6]")
    holders = Holders(host.root)
    assert holders.held_by([7]) == {7: frozenset({5, 6})}
    host.listed.clear()
    assert holders.find([5]) == {5: Holder(7, 1)}
    assert host.listed == []


def test_a_process_that_is_not_there_is_said(host: Host) -> None:
    (host.root / "proc").mkdir()
    with pytest.raises(NoInput, match=r"^process 4711: does not exist$"):
        held_by(host.root, 4711)


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
                held_by(directory, 7)


# races


@pytest.mark.parametrize("gone", ["process", "descriptor"])
def test_what_goes_between_listing_and_reading_is_passed_over(
    host: Host, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    host.process(7, "socket:[1]", "socket:[5]")
    host.process(8, "socket:[5]")
    if gone == "process":
        host.process(9)
    scandir = os.scandir

    def meanwhile(directory: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        entries = list(scandir(directory))
        if len(entries) == 2:
            for fd in (0, 1):
                host.close(7, fd)
            if gone == "process":
                (host.root / "proc/7/fd").rmdir()
        return nullcontext(iter(entries))

    monkeypatch.setattr(os, "scandir", meanwhile)
    assert Holders(host.root).find([5]) == {5: Holder(8, 0)}


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.process(7, "socket:[1]", "socket:[5]")
    scandir = os.scandir

    def meanwhile(directory: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        entries = sorted(scandir(directory), key=lambda entry: entry.name)
        host.close(7, 0)
        return nullcontext(iter(entries))

    monkeypatch.setattr(os, "scandir", meanwhile)
    assert Holders(host.root).find([5]) == {5: Holder(7, 1)}


# time


def test_a_pass_that_runs_out_of_time_is_gone_on_with_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long some processes take, all are read in the end."""
    monkeypatch.setattr(module, "FIRST", 0.0)
    monkeypatch.setattr(module, "LATER", 0.0)
    for pid in range(2, 7):
        host.process(pid, "/dev/null")
    host.process(7, "socket:[5]")
    holders = Holders(host.root)
    assert [holders.find([5]) for _ in range(6)] == [{}] * 5 + [{5: Holder(7, 0)}]
    assert host.listed == [2, 3, 4, 5, 6, 7]
    assert holders.find([6]) == {}
    assert host.listed[-1] == 2, "and the next one begins anew"


def test_others_are_read_also_where_likely_owners_take_all_the_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes them in his own cgroup."""
    monkeypatch.setattr(module, "FIRST", 0.0)
    monkeypatch.setattr(module, "LATER", 0.0)
    for pid in (2, 3, 4):
        host.process(pid, "/dev/null")
    host.process(5, "socket:[5]")
    holders = Holders(host.root)
    assert [holders.find([5, 6], [Likely("a.service", {5, 6}, {2, 3})]) for _ in range(4)][-1] == {5: Holder(5, 0)}


def test_a_unit_with_sockets_that_nobody_holds_takes_no_time_of_the_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets that are passed by SCM_RIGHTS, and received by nobody: each search for them goes on to its end."""
    monkeypatch.setattr(module, "FIRST", 0.0)
    monkeypatch.setattr(module, "LATER", 0.0)
    for pid in range(2, 40):
        host.process(pid, "/dev/null")
    host.process(40, "socket:[5]")
    likely = [Likely("crowd.service", {6}, set(range(2, 40))), Likely("victim.service", {5}, {40})]
    assert Holders(host.root).find([6, 5], likely) == {5: Holder(40, 0)}


def test_who_has_few_descriptors_is_read_before_the_rest_of_those_who_have_many(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever has the most would keep everybody from being found for many passes."""
    monkeypatch.setattr(descriptors, "STEP", 2)
    monkeypatch.setattr(module, "SLICE", 1)
    for pid in (2, 3):
        host.process(pid, *(["/dev/null"] * 20))
    host.process(4, "socket:[5]")
    assert Holders(host.root).find([5]) == {5: Holder(4, 0)}
    assert host.listed == [2, 3, 4]
    assert host.read == 5


def test_a_process_that_takes_longer_than_a_pass_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part of its descriptors in each pass, below the real /proc."""
    monkeypatch.setattr(module, "FIRST", 0.0)
    monkeypatch.setattr(module, "LATER", 0.0)
    monkeypatch.setattr(descriptors, "STEP", 2)
    monkeypatch.setattr(psutil, "pids", lambda: [os.getpid()])
    pipes = [os.pipe() for _ in range(5)]
    try:
        with socket.socket() as sock:
            inode, holders = os.fstat(sock.fileno()).st_ino, Holders()
            count = next(count for count in range(1, 1000) if holders.find([inode]))
            assert count > 5
            assert holders.known(inode) == Holder(os.getpid(), sock.fileno())
    finally:
        for fd in (fd for pipe in pipes for fd in pipe):
            os.close(fd)


def test_a_table_that_several_processes_share_is_read_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 processes that share 19,800 descriptors cost 3.2 s at each scan."""
    monkeypatch.setattr(descriptors, "STEP", 4)
    monkeypatch.setattr(descriptors, "are_shared", lambda one, other: {one, other} <= {2, 3, 4})
    monkeypatch.setattr(processes, "user_of", lambda _: "0")
    for pid in (2, 3, 4):
        host.process(pid, *(["/dev/null"] * 7), "socket:[5]")
    host.process(5, *(["/dev/null"] * 7), "socket:[6]")
    assert Holders(host.root).find([5, 6, 7]) == {5: Holder(2, 7), 6: Holder(5, 7)}
    assert host.read == 8 + 4 + 4 + 8


def test_who_hangs_is_compared_with_processes_of_the_same_user_alone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To compare two takes a lock of both: because of a stranger's in execve, root's counted as hanging."""
    compared = list[set[int]]()
    monkeypatch.setattr(descriptors, "STEP", 4)
    monkeypatch.setattr(descriptors, "are_shared", lambda one, other: compared.append({one, other}))
    monkeypatch.setattr(processes, "user_of", lambda pid: "1234" if pid % 2 else "0")
    for pid in (2, 3, 4, 5):
        host.process(pid, *(["/dev/null"] * 8))
    Holders(host.root).find([7])
    assert compared == [{2, 4}, {3, 5}]


def test_the_kernel_tells_who_shares_descriptors() -> None:
    """Threads do, and other processes do not."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    try:
        with subprocess.Popen(["sleep", "60"]) as other:
            try:
                assert descriptors.are_shared(os.getpid(), thread.native_id or 0) == (descriptors.SYS_KCMP is not None)
                assert not descriptors.are_shared(os.getpid(), other.pid)
            finally:
                other.kill()
    finally:
        gate.set()
        thread.join()


def test_no_path_is_kept_of_what_is_no_socket(host: Host) -> None:
    """Half a million of 4 KB each would be 2 GB."""
    host.process(7, "/" + "x" * 200, "socket:[5]", "socket:[6]")
    (part,) = descriptors.parts(str(host.root / "proc/7/fd"))
    assert (sorted(part.sockets), part.after) == ([(1, 5), (2, 6)], 0)


def test_a_process_that_was_not_asked_is_not_said_to_hang(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ask", lambda *_: {})
    host.process(7, "socket:[5]")
    with pytest.raises(NoInput, match=r"^process 7: not asked: too many other processes hang; end these with SIGKILL$"):
        held_by(host.root, 7)
    with pytest.raises(NoInput, match=r"^process 8: does not exist$"):
        held_by(host.root, 8)


def test_processes_that_hang_are_waited_for_together(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them cost a second, and a look at all that were known to hang."""
    monkeypatch.setattr(processes, "_executing", {})
    looked: Counter[int] = Counter()
    monkeypatch.setattr(processes, "PATIENCE", 0.1)

    def executes(pid: int) -> bool:
        looked[pid] += 1
        return pid < HANG

    monkeypatch.setattr(processes, "_executes", executes)
    for pid in range(1, HANG + 1):
        host.process(pid, "socket:[5]")
    holders = Holders(host.root)
    held = holders.held_by(range(1, HANG + 1))
    assert held[HANG] == frozenset({5})
    assert {str(held[pid]).partition(": ")[2] for pid in range(1, HANG)} == {"hangs in execve(2); end it with SIGKILL"}
    looked.clear()
    assert holders.held_by(range(1, HANG + 1))[HANG] == frozenset({5})
    assert set(looked.values()) <= {1, 2}


def test_whoever_is_not_read_in_time_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_OF_THEM", -1.0)
    host.process(7, "socket:[5]")
    with pytest.raises(NoAnswer, match=r"^process 7: not asked in time: to ask all takes longer than -1s$"):
        held_by(host.root, 7)


# this machine


def test_a_real_socket_is_found_in_this_process_and_in_its_child() -> None:
    """Below the real /proc."""
    with socket.socket() as sock:
        inode = os.fstat(sock.fileno()).st_ino
        assert Holders().find([inode], [Likely("a.service", {inode}, {os.getpid()})]) == {
            inode: Holder(os.getpid(), sock.fileno())
        }
        assert inode in held_by(Path("/"), os.getpid())
        holders = Holders()
        holders.find([inode])
    assert holders.find([inode]) == {}
