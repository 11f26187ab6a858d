"""Work that is done in a process of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from keepaliveD.daemon.apart import MOST_LEFT, Interruption, apart
from keepaliveD.model.errors import ConfigError, Defect, KernelError
from tests.support.descriptors import open_descriptors
from tests.support.patience import SOON

FAILURE = "the configuration cannot be read"


def test_what_it_returns_is_returned_and_nothing_is_left_behind() -> None:
    before = open_descriptors()
    assert apart(lambda: (os.getppid(), os.getpid() == os.getppid()), FAILURE) == (os.getpid(), False)
    assert open_descriptors() <= before
    assert psutil.Process().children() == []


def test_its_refusal_is_raised() -> None:
    def refuse() -> None:
        raise ConfigError("config.toml:3: idle: not a number")

    with pytest.raises(ConfigError, match=r"^config\.toml:3: idle: not a number$"):
        apart(refuse, FAILURE)


def test_a_mistake_of_ours_is_one_line() -> None:
    with pytest.raises(Defect, match="ZeroDivisionError"):
        apart(lambda: 1 // 0, FAILURE)


def test_a_process_that_is_killed_is_reported() -> None:
    with pytest.raises(KernelError, match=f"^{FAILURE}: its process was ended"):
        apart(lambda: os.kill(os.getpid(), signal.SIGKILL), FAILURE)


def test_a_process_that_hangs_is_given_up() -> None:
    """A file of /etc may lie on a server that does not answer."""
    with pytest.raises(KernelError, match=r"does not answer within 0\.05 s"):
        apart(lambda: time.sleep(1000), FAILURE, patience=0.05)
    assert psutil.Process().children() == []


def test_whoever_is_interrupted_waits_no_longer() -> None:
    """Told to end, say, while a file of /etc hangs."""
    told, telling = os.pipe()
    with open(told, "rb") as descriptor, open(telling, "wb", buffering=0) as sink:
        sink.write(b".")
        looks = iter([False, True])
        with pytest.raises(KernelError, match=FAILURE):
            apart(lambda: time.sleep(1000), FAILURE, unless=Interruption(descriptor, lambda: next(looks)))
    assert psutil.Process().children() == []


def test_processes_that_cannot_be_ended_are_few_and_are_reaped_once_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a file system that does not answer, in which no signal ends them."""
    with monkeypatch.context() as immortal:
        immortal.setattr(os, "kill", lambda *_: None)
        for _ in range(MOST_LEFT):
            with pytest.raises(KernelError, match="does not answer"):
                apart(lambda: time.sleep(1000), FAILURE, patience=0.0)
        with pytest.raises(KernelError, match=f"^{FAILURE}: {MOST_LEFT} earlier processes hang there"):
            apart(lambda: None, FAILURE)
    children = psutil.Process().children()
    assert len(children) == MOST_LEFT
    for child in children:
        child.kill()
    wait_for(lambda: all(child.status() == psutil.STATUS_ZOMBIE for child in children))
    assert apart(lambda: 7, FAILURE) == 7
    assert psutil.Process().children() == []


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_has_nothing_open_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w"):
        links = apart(lambda: [os.readlink(f"/proc/self/fd/{n}") for n in range(3, 20) if _is_open(n)], FAILURE)
    assert [link.partition(":")[0] for link in links] == ["socket"]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
