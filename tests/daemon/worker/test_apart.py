"""Work that is done in a process of its own."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from keepaliveD.daemon.worker.apart import MOST_LEFT, Apart
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import ConfigError, Defect, KernelError
from tests.support.descriptors import open_descriptors
from tests.support.patience import SOON

FAILURE = "the configuration cannot be read"


def apart(patience: float = SOON) -> Apart:
    return Apart(FAILURE, time.monotonic, patience)


def result(apart: Apart, work: Callable[[], object]) -> Any:
    """Return what comes of this work, or raise it."""
    apart.begin(work)
    while not (reply := apart.reply()):
        waiting = [apart] if apart.fileno() >= 0 else []
        select.select(waiting, [], [], max(0.0, min(SOON, apart.due() - time.monotonic())))
    assert (apart.fileno(), apart.due(), apart.reply()) == (-1, FOREVER, None)
    if reply.error:
        raise reply.error
    return reply.value


def test_what_it_returns_is_returned_and_nothing_is_left_behind() -> None:
    before, children = open_descriptors(), psutil.Process().children()
    assert result(apart(), lambda: (os.getppid(), os.getpid() == os.getppid())) == (os.getpid(), False)
    assert open_descriptors() <= before
    assert_all_end_but(children)


def test_its_refusal_is_raised() -> None:
    def refuse() -> None:
        raise ConfigError("config.toml:3: idle: not a number")

    with pytest.raises(ConfigError, match=r"^config\.toml:3: idle: not a number$"):
        result(apart(), refuse)


def test_a_mistake_of_ours_is_one_line() -> None:
    with pytest.raises(Defect, match="ZeroDivisionError"):
        result(apart(), lambda: 1 // 0)


def test_a_process_that_is_killed_is_reported() -> None:
    with pytest.raises(KernelError, match=f"^{FAILURE}: its process was ended"):
        result(apart(), lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_process_that_hangs_is_given_up() -> None:
    """A file of /etc may lie on a server that does not answer."""
    children = psutil.Process().children()
    with pytest.raises(KernelError, match=r"does not answer within 0\.05 s"):
        result(apart(0.05), lambda: time.sleep(1000))
    assert_all_end_but(children)


def test_a_process_that_works_is_waited_for_as_long_as_it_does() -> None:
    """On a busy machine it works a little now and then; what hangs does not."""
    instant, is_to_hang, before = [1000.0], mmap.mmap(-1, 1), psutil.Process().children()

    def work() -> None:
        while not is_to_hang[0]:
            pass
        time.sleep(1000)

    begun = Apart(FAILURE, lambda: instant[0], 10.0)
    begun.begin(work)
    (process,) = (each for each in psutil.Process().children() if each not in before)
    for _ in range(3):
        wait_for(begun.prolong)
        instant[0] += 10.0
        wait_for(begun.prolong)
        assert begun.reply() is None
    is_to_hang[0] = 1
    wait_for(lambda: process.status() == psutil.STATUS_SLEEPING)
    begun.prolong()
    instant[0] += 10.0
    assert not begun.prolong()
    assert (reply := begun.reply())
    assert str(reply.error) == f"{FAILURE}: its process was ended, or does not answer within 10 s"


def test_a_process_that_works_has_a_minute() -> None:
    """A machine was so busy that a reload was refused, as nothing had been read within 10 s."""
    instant, before = [1000.0], psutil.Process().children()

    def work() -> None:
        while True:
            pass

    begun = Apart(FAILURE, lambda: instant[0], 10.0)
    begun.begin(work)
    (process,) = (each for each in psutil.Process().children() if each not in before)
    used = [0.0]
    for seconds in range(10, 60, 10):
        instant[0] = 1000.0 + seconds
        wait_for(lambda: sum(process.cpu_times()[:2]) > used[0])
        used[0] = sum(process.cpu_times()[:2]) + 0.01
        assert begun.reply() is None, seconds
    instant[0] = 1060.0
    assert (reply := begun.reply())
    assert str(reply.error) == f"{FAILURE}: its process was ended, or does not answer within 10 s"


def test_a_reply_that_came_in_time_counts_however_late_it_is_read() -> None:
    """The daemon may have been suspended meanwhile."""
    late = apart(0.0)
    late.begin(lambda: 7)
    select.select([late], [], [], SOON)
    assert (reply := late.reply())
    assert reply.value == 7


def test_whoever_is_in_a_hurry_waits_no_longer() -> None:
    """Told to end, say, while a file of /etc hangs."""
    begun, children = apart(), psutil.Process().children()
    begun.begin(lambda: time.sleep(1000))
    assert begun.reply() is None
    begun.hasten(0.0)
    assert (reply := begun.reply())
    assert isinstance(reply.error, KernelError)
    assert_all_end_but(children)


def test_what_is_abandoned_has_no_reply_and_no_process() -> None:
    before, children = open_descriptors(), psutil.Process().children()
    begun = apart()
    begun.begin(lambda: time.sleep(1000))
    begun.abandon()
    assert (begun.fileno(), begun.due(), begun.reply()) == (-1, FOREVER, None)
    assert open_descriptors() <= before
    assert_all_end_but(children)
    assert result(begun, lambda: 7) == 7


def test_processes_that_cannot_be_ended_are_few_and_are_reaped_once_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a file system that does not answer, in which no signal ends them."""
    hanging, before = apart(0.0), psutil.Process().children()
    with monkeypatch.context() as immortal:
        immortal.setattr(os, "kill", lambda *_: None)
        for _ in range(MOST_LEFT):
            with pytest.raises(KernelError, match="does not answer"):
                result(hanging, lambda: time.sleep(1000))
        with pytest.raises(KernelError, match=f"^{FAILURE}: {MOST_LEFT} earlier processes hang there"):
            result(hanging, lambda: None)
    children = [each for each in psutil.Process().children() if each not in before]
    assert len(children) == MOST_LEFT
    for child in children:
        child.kill()
    wait_for(lambda: all(child.status() == psutil.STATUS_ZOMBIE for child in children))
    hanging.begin(lambda: None)
    hanging.abandon()
    assert not set(children) & set(psutil.Process().children())


def assert_all_end_but(children: list[psutil.Process]) -> None:
    """Await the end of all other children of ours: on a busy machine one that was killed does not end at once."""
    psutil.wait_procs(others := [each for each in psutil.Process().children() if each not in children], SOON)
    assert not [each for each in others if each.is_running()]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_descriptors_it_says_so() -> None:
    """Else the daemon, which reads its configuration so, would end."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest := os.dup(0))
    begun = apart()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        begun.begin(lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (reply := begun.reply())
    assert str(reply.error) == f"{FAILURE}: no process can be started: Too many open files"
    assert result(begun, lambda: 7) == 7


def test_what_could_not_be_begun_and_is_abandoned_is_nobodys_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal to stop comes first: the reply would be taken for that to what is asked next."""
    begun = apart()
    with monkeypatch.context() as crowded:
        crowded.setattr(os, "fork", _no_process)
        begun.begin(lambda: None)
    begun.abandon()
    assert (begun.fileno(), begun.due(), begun.reply()) == (-1, FOREVER, None)


def _no_process() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_process_that_the_kernel_reaps_has_ended() -> None:
    """As it does for a program whose starter ignores SIGCHLD."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert result(apart(), lambda: 7) == 7
        with pytest.raises(KernelError, match="its process was ended"):
            result(apart(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_it_has_nothing_open_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w"):
        links = result(apart(), _open_files)
    assert [link.partition(":")[0] for link in links] == ["socket"]


def _open_files() -> list[str]:
    """Return what is open besides the three standard ones."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the list itself, closed by now
            links.append(os.readlink(f"/proc/self/fd/{number}") if int(number) > 2 else "")
    return [link for link in links if link]
