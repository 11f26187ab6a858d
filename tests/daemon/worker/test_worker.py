"""A worker is given up once it hangs, and not while it waits for a processor."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest

from keepaliveD.daemon.worker import worker as module
from keepaliveD.daemon.worker.worker import A_LITTLE, TICK, Reply, Worker
from keepaliveD.daemon.worker.workers import HURRY, PATIENCE
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import Session
from keepaliveD.platforms.requests import Open
from tests.support.fakes import FakeArmer, FakeOwners, FakeWatcher
from tests.support.patience import SOON


def _wait_for_ever(_: Watching) -> NoReturn:
    while True:
        signal.pause()


@pytest.fixture
def worker() -> Iterator[Worker]:
    """One that touches nothing."""
    one = Worker(_wait_for_ever, Watching())
    yield one
    one.kill()
    while not one.is_gone():
        time.sleep(0.001)


def ticks(worker: Worker, patience: int, share: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """After how many ticks it is given up, up to 1000, if it has this share of a processor."""
    worked = 0.0

    def has_worked(_: int) -> float:
        return worked

    monkeypatch.setattr(module, "worked", has_worked)
    for tick in range(1, 1000):
        worked += share * TICK
        if not worker.goes_on(patience):
            return tick
    return 1000


@pytest.mark.parametrize("patience", [PATIENCE, HURRY])
@pytest.mark.parametrize("share", [0.0, A_LITTLE / TICK / 2])
def test_one_that_only_waits_is_given_up(
    worker: Worker, patience: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ticks(worker, patience, share, monkeypatch) == patience


def test_what_it_did_before_it_was_asked_is_not_counted(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end every tick counts."""
    monkeypatch.setattr(module, "worked", lambda _: 0.1)
    worker.ask(Open(Watching()), frozenset(), careful=False)
    assert [worker.goes_on(HURRY) for _ in range(HURRY)] == [True] * (HURRY - 1) + [False]


@pytest.mark.parametrize("patience", [PATIENCE, HURRY])
def test_one_that_gets_little_of_a_processor_has_as_much_of_it_in_the_end(
    worker: Worker, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fiftieth, say, where a hundred programs share two of them."""
    assert ticks(worker, patience, 0.02, monkeypatch) >= 50 * patience


def test_one_that_works_for_ever_is_given_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ticks(worker, PATIENCE, 1.0, monkeypatch) <= 2 * PATIENCE


@dataclass(frozen=True, slots=True)
class Count:
    """Answer with an array."""

    repeatable = True

    def carry_out(self, _: Session) -> Column:
        """Return it."""
        return np.arange(10)


def answer(worker: Worker) -> Reply:
    """The next answer, which arrives without a descriptor."""
    while not (reply := worker.answer()):
        assert select.select([worker.socket], [], [], SOON)[0]
        worker.receive()
    return reply


def test_a_daemon_without_a_free_descriptor_has_a_worker_started_and_hears_its_small_answers() -> None:
    """Else it would not know what became of sockets that this worker has set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    near, far = os.dup(0), os.dup(0)  # two are free, as many as a worker is started with
    os.close(near)
    os.close(far)
    resource.setrlimit(resource.RLIMIT_NOFILE, (far + 1, hard))
    try:
        worker = Worker(lambda _: Session(FakeWatcher(), FakeOwners(), FakeArmer()), Watching())
        resource.setrlimit(resource.RLIMIT_NOFILE, (far, hard))
        assert answer(worker).value == FakeWatcher().engine_description
        worker.ask(Count(), frozenset(), careful=False)
        assert answer(worker).value.tolist() == list(range(10))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    worker.kill()
    while not worker.is_gone():
        time.sleep(0.001)
