"""Processes are asked by a thread; those that hang are left out, whoever they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from keepaliveD.platforms.linux.owners import processes


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Processes of even number hang until this is set."""
    monkeypatch.setattr(processes, "PATIENCE", 0.02)
    monkeypatch.setattr(processes, "_stuck", {})
    event = threading.Event()
    yield event
    event.set()


def test_all_that_answer_do_so_once() -> None:
    asked: list[int] = []
    assert processes.ask([3, 5, 3], asked.append) == {3: None, 5: None}
    assert asked == [3, 5]


def test_those_that_hang_are_left_out_and_not_asked_again_until_they_go_on(hanging: threading.Event) -> None:
    asked: list[int] = []

    def question(pid: int) -> int:
        asked.append(pid)
        if pid % 2 == 0:
            hanging.wait()
        return -pid

    assert processes.ask([1, 2, 3, 4, 5], question) == {1: -1, 3: -3, 5: -5}
    assert not processes.are_all_asked()
    assert processes.ask([2, 3], question) == {3: -3}
    assert asked == [1, 2, 3, 4, 5, 3]
    waiting = list(processes._stuck.values())
    hanging.set()
    assert all(each.wait(10) for each in waiting)
    assert processes.ask([2, 3], question) == {2: -2, 3: -3}
    assert processes.are_all_asked()


def test_no_more_threads_than_so_many_wait_for_ever(hanging: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes many processes hang must not use up ours."""
    monkeypatch.setattr(processes, "MOST_STUCK", 3)
    assert processes.ask(range(2, 100), lambda _: hanging.wait()) == {}
    assert list(processes._stuck) == [2, 3, 4]
    assert processes.ask([200], lambda _: True) == {}


def test_what_a_question_raises_is_raised() -> None:
    def question(pid: int) -> int:
        raise MemoryError(pid)

    with pytest.raises(MemoryError):
        processes.ask([1], question)
