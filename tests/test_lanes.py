"""Workers for tests that wait, and workers for all others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from xdist.remote import Producer

from tests.conftest import ARM_EVERYWHERE, LOCK_SOCKETS, TESTS, WAITING
from tests.support.lanes import Lanes

WAIT = [f"test_wait.py::test_{number}@waits: {number}" for number in range(5)]
WORK = [f"test_work.py::test_{number}" for number in range(12)]


class Worker:
    """One that runs what it is sent, once it is told to."""

    def __init__(self, name: str, tests: list[str]) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.ran: list[str] = []
        self._tests, self._sent = tests, list[int]()

    def send_runtest_some(self, indices: list[int]) -> None:
        self._sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def run(self, lanes: Lanes) -> bool:
        """Run one test, if there is one, and the one after it is known or there is none."""
        if len(self._sent) < 2 - self.shutting_down:
            return False
        index = self._sent.pop(0)
        self.ran.append(self._tests[index])
        lanes.mark_test_complete(cast(Any, self), index)
        return True


def scheduled(tests: list[str], count: int) -> tuple[Lanes, list[Worker]]:
    """So many workers that have collected these tests."""
    options = SimpleNamespace(loadscopereorder=True)
    config = SimpleNamespace(option=options, getvalue=lambda _: ["popen"] * count)
    lanes = Lanes(cast(pytest.Config, config), Producer("test"))
    workers = [Worker(str(number), tests) for number in range(count)]
    for worker in workers:
        lanes.add_node(cast(Any, worker))
        lanes.add_node_collection(cast(Any, worker), tests)
    lanes.schedule()
    return lanes, workers


def run(lanes: Lanes, *workers: Worker) -> None:
    """Have these run what they get, until there is nothing more for them; xdist ends them once all is handed out."""
    while sum(worker.run(lanes) for worker in workers):
        if lanes.tests_finished:
            for worker in workers:
                worker.shutdown()


def test_the_files_whose_tests_have_workers_of_their_own_are_there() -> None:
    assert [file for file in (*ARM_EVERYWHERE, *LOCK_SOCKETS, *WAITING) if not (TESTS / file).is_file()] == []


def test_half_of_the_workers_run_what_waits_first_and_help_the_others_then() -> None:
    lanes, workers = scheduled(WORK + WAIT, 4)
    run(lanes, *workers[:2])
    ran = [workers[0].ran, workers[1].ran]
    assert sorted(test for each in ran for test in each if test in WAIT) == WAIT
    assert all([test in WAIT for test in each] == sorted([test in WAIT for test in each], reverse=True) for each in ran)
    run(lanes, *workers)
    assert sorted(test for worker in workers for test in worker.ran) == sorted(WORK + WAIT)
    assert lanes.tests_finished


def test_what_waits_begins_in_the_order_in_which_it_is_collected_however_many_tests_it_has() -> None:
    """What waits longest is collected first; begun last, it would be what all wait for at the end."""
    many = [f"test_many.py::test_{number}@waits: many" for number in range(3)]
    lanes, workers = scheduled([*WAIT, *many, *WORK], 4)
    run(lanes, *workers[:2])
    begun = [[test for test in worker.ran if test in (*WAIT, *many)] for worker in workers[:2]]
    assert [each[0] for each in begun] == WAIT[:2]
    assert [test for each in begun for test in each[-3:] if test in many] == many


def test_the_others_help_with_what_waits_at_last() -> None:
    lanes, workers = scheduled(WORK + WAIT, 4)
    run(lanes, *workers[2:])
    assert set(WORK) < {*workers[2].ran, *workers[3].ran}
    run(lanes, *workers)
    assert sorted(test for worker in workers for test in worker.ran) == sorted(WORK + WAIT)
    assert lanes.tests_finished


def test_where_nothing_waits_all_workers_run_all_tests() -> None:
    lanes, workers = scheduled(WORK, 3)
    run(lanes, *workers)
    assert all(worker.ran for worker in workers)
    assert sorted(test for worker in workers for test in worker.ran) == sorted(WORK)


def test_a_worker_that_takes_the_place_of_one_that_crashed_runs_the_rest() -> None:
    lanes, workers = scheduled(WORK + WAIT, 2)
    crashed = lanes.remove_node(cast(Any, workers[0]))
    assert crashed in WAIT
    new = Worker("new", WORK + WAIT)
    lanes.add_node(cast(Any, new))
    lanes.add_node_collection(cast(Any, new), WORK + WAIT)
    lanes.schedule()
    run(lanes, workers[1], new)
    assert sorted(workers[1].ran + new.ran) == sorted(WORK + WAIT)
