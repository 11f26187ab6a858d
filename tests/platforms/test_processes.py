"""Processes are asked by threads; those that hang are left out, whoever they are, and nobody else is."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from keepaliveD.platforms import processes, touching

LONG = 60.0  # seconds; no test waits for them


@pytest.fixture(autouse=True)
def _nobody_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_stuck", {})
    monkeypatch.setattr(processes, "_executing", {})
    monkeypatch.setattr(processes, "_avoided", set())
    monkeypatch.setattr(processes, "_executes", lambda _: False)
    monkeypatch.setattr(processes, "user_of", lambda _: "")
    monkeypatch.setattr(processes, "_exists", lambda _: True)


class Clock:
    """Seconds that go by while somebody looks often: where the machine stands still, nobody looks."""

    def __init__(self) -> None:
        self._now = self._looked = time.monotonic()

    def __call__(self) -> float:
        looked, self._looked = self._looked, time.monotonic()
        self._now += min(self._looked - looked, 2 * processes.BESIDE)
        return self._now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which a process hangs soon."""
    clock = Clock()
    monkeypatch.setattr(processes, "PATIENCE", 0.3)
    monkeypatch.setattr(processes, "BESIDE", 0.005)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    return clock


@pytest.fixture
def hanging(clock: Clock) -> Iterator[threading.Event]:
    """Processes of even number hang until this is set."""
    del clock
    event = threading.Event()
    yield event
    event.set()


def asking(hanging: threading.Event, asked: list[int]) -> Callable[[int], int]:
    def question(pid: int) -> int:
        asked.append(pid)
        if pid % 2 == 0:
            hanging.wait()
        return -pid

    return question


def let_go(hanging: threading.Event) -> None:
    waiting = [stuck.task for stuck in processes._stuck.values()]
    hanging.set()
    assert all(each.wait(LONG) for each in waiting)


def test_all_that_answer_do_so_once() -> None:
    asked: list[int] = []
    assert processes.ask([3, 5, 3], asked.append) == {3: None, 5: None}
    assert asked == [3, 5]


def test_nobody_is_asked_where_there_is_nobody() -> None:
    assert processes.ask([], lambda _: True) == {}


def test_those_that_hang_are_left_out_and_not_asked_again_until_they_go_on(hanging: threading.Event) -> None:
    asked: list[int] = []
    question = asking(hanging, asked)
    assert processes.ask([1, 2, 3, 4, 5], question) == {1: -1, 3: -3, 5: -5}
    assert not processes.are_all_asked()
    assert (processes.hangs(2), processes.hangs(3)) == (True, False)
    assert processes.ask([2, 3], question) == {3: -3}
    assert sorted(asked) == [1, 2, 3, 3, 4, 5]
    let_go(hanging)
    assert processes.ask([2, 3], question) == {2: -2, 3: -3}
    assert processes.are_all_asked()


def test_a_thread_that_was_given_up_asks_nobody_else(hanging: threading.Event) -> None:
    """Beside its successor, which did so already."""
    asked: list[int] = []
    assert processes.ask(range(1, 10, 1), asking(hanging, asked)) == {pid: -pid for pid in range(1, 10, 2)}
    let_go(hanging)
    assert sorted(asked) == list(range(1, 10))


def test_many_that_hang_are_waited_for_once(hanging: threading.Event, clock: Clock) -> None:
    """Each of them in turn would keep a host from being watched for a minute."""
    started = clock()
    pids = range(1, 40)
    assert processes.ask(pids, asking(hanging, [])) == {pid: -pid for pid in pids if pid % 2}
    assert set(pids[1::2]) <= processes._stuck.keys()
    assert clock() - started < 19 * processes.PATIENCE


def test_who_is_slow_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have half a million descriptors; each step counts, not each process."""
    instant = [0.0]
    monkeypatch.setattr(processes, "BESIDE", 0.005)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: instant[0]))

    def question(pid: int) -> int:
        for _ in range(300):
            instant[0] += processes.PATIENCE / 100
            processes.go_on()
            time.sleep(0.001)
        return -pid

    assert processes.ask([4711], question) == {4711: -4711}
    assert processes.are_all_asked()


def test_who_was_given_up_in_the_middle_ends_at_the_next_step(hanging: threading.Event) -> None:
    steps: list[int] = []

    def question(_: int) -> None:
        hanging.wait()
        for step in range(3):
            processes.go_on()
            steps.append(step)

    assert processes.ask([2], question) == {}
    let_go(hanging)
    assert steps == []


def test_no_more_threads_than_so_many_wait_for_ever(hanging: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes many processes hang must not use up ours."""
    monkeypatch.setattr(processes, "MOST_STUCK", 3)
    assert processes.ask(range(2, 100), lambda _: hanging.wait()) == {}
    assert sorted(processes._stuck) == [2, 3, 4]
    assert processes.ask([200], lambda _: True) == {}


def test_a_user_who_costs_many_threads_is_not_asked_any_more_and_everybody_else_is(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many processes he may have."""
    monkeypatch.setattr(processes, "user_of", lambda pid: "1000" if pid % 2 else "1234")
    asked: list[int] = []
    pids = range(1, 2000)
    assert processes.ask(pids, asking(hanging, asked)) == {pid: -pid for pid in pids if pid % 2}
    assert processes.MOST_OF_USER <= len(processes._stuck) < processes.MOST_STUCK
    asked.clear()
    assert processes.ask(pids, asking(hanging, asked)) == {pid: -pid for pid in pids if pid % 2}
    assert asked == list(pids[::2])


def test_who_executes_a_program_is_asked_once_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mostly that takes a millisecond."""
    looks = iter([True, True, True])
    monkeypatch.setattr(processes, "_executes", lambda pid: pid == 2 and next(looks, False))
    asked: list[int] = []
    assert processes.ask([1, 2, 3], asked.append, LONG) == {1: None, 3: None, 2: None}
    assert asked == [1, 3, 2]
    assert processes.are_all_asked()


@pytest.mark.usefixtures("clock")
def test_who_goes_on_executing_is_never_asked_and_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked would hang. However many do so, that costs no thread."""
    monkeypatch.setattr(processes, "_executes", lambda pid: pid % 2 == 0)
    pids, asked = range(1, 2000), list[int]()
    processes.ask(pids, asked.append, processes.PATIENCE)
    assert (processes.hangs(2), processes.hangs(3), processes.are_all_asked()) == (True, False, False)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pytest.fail))
    processes.ask(pids, asked.append, LONG)
    assert Counter(asked) == dict.fromkeys(pids[::2], 2)
    monkeypatch.setattr(processes, "_executes", lambda _: False)
    processes.ask([2], asked.append)
    assert asked[-1] == 2
    assert processes.are_all_asked()


def test_what_a_worker_hung_at_is_not_asked_until_it_may_be() -> None:
    touching.avoid(frozenset({(touching.Kind.PROCESS, 2)}))
    try:
        assert processes.ask([1, 2, 3], lambda pid: pid) == {1: 1, 3: 3}
        assert (processes.hangs(2), processes.are_all_asked()) == (True, False)
    finally:
        touching.avoid(frozenset())
    assert processes.ask([2], lambda pid: pid) == {2: 2}
    assert processes.are_all_asked()


def test_what_a_worker_hung_at_is_forgotten_once_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """All other processes are asked then, and nobody asks this one again."""
    touching.avoid(frozenset({(touching.Kind.PROCESS, 2)}))
    try:
        processes.ask([1, 2], lambda pid: pid)
    finally:
        touching.avoid(frozenset())
    monkeypatch.setattr(processes, "_exists", lambda pid: pid != 2)
    processes.ask([1], lambda pid: pid)
    assert processes.are_all_asked()


def test_a_process_that_runs_is_not_taken_for_one_that_executes_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not processes._executes(os.getpid())
    assert not processes._executes(2**22 + 1), "nor one that is not there"
    assert processes.user_of(os.getpid()) == str(os.getuid())
    assert (processes._exists(os.getpid()), processes._exists(2**22 + 1)) == (True, False)


def test_what_a_question_raises_is_raised() -> None:
    def question(pid: int) -> int:
        raise MemoryError(pid)

    with pytest.raises(MemoryError):
        processes.ask([1], question)
