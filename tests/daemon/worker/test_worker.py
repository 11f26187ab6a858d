"""A worker is given up once it hangs, and not while it waits for a processor."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest

from keepaliveD.daemon.worker import worker as module
from keepaliveD.daemon.worker.worker import A_LITTLE, TICK, Worker
from keepaliveD.daemon.worker.workers import HURRY, PATIENCE
from keepaliveD.model.rules import Watching
from keepaliveD.platforms.requests import Open


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
