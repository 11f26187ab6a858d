"""What hung is left out for a while, and tried again with growing pauses."""

from __future__ import annotations

from keepaliveD.daemon.worker.avoided import LONGEST_PAUSE, PAUSE, Avoided
from keepaliveD.platforms.touching import Kind, Touchable

ONE: Touchable = (Kind.NAMESPACE, 1)
OTHER: Touchable = (Kind.NAMESPACE, 2)
LOCKS: Touchable = (Kind.LOCKS, 1)
PROCESS: Touchable = (Kind.PROCESS, 3)


def test_what_hung_is_left_out_until_its_pause_is_over() -> None:
    avoided = Avoided()
    assert avoided.add(ONE, 100.0) == PAUSE
    assert avoided.at(100.0 + PAUSE - 1) == {ONE}
    assert avoided.at(100.0 + PAUSE) == frozenset()


def test_each_pause_is_twice_as_long_up_to_an_hour() -> None:
    avoided, now, pauses = Avoided(), 0.0, []
    for _ in range(12):
        pauses.append(avoided.add(ONE, now))
        now += pauses[-1]
    assert pauses[:4] == [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_one_namespace_is_tried_again_at_a_time() -> None:
    """Each that still hangs costs a worker, and a second in which nothing else is read."""
    avoided = Avoided()
    avoided.add(ONE, 0.0)
    avoided.add(OTHER, 1.0)
    assert avoided.at(1.0 + PAUSE) == {OTHER}


def test_a_namespace_that_has_ended_is_forgotten() -> None:
    """Its number is given anew."""
    avoided = Avoided()
    avoided.add(ONE, 0.0)
    avoided.add(OTHER, 1.0)
    avoided.keep_namespaces({2}, 2.0)
    assert avoided.at(2.0) == {OTHER}
    assert avoided.add(ONE, 50.0) == PAUSE


def test_a_namespace_that_answered_and_hangs_again_is_left_out_for_longer() -> None:
    avoided = Avoided()
    avoided.add(ONE, 0.0)
    avoided.keep_namespaces((), PAUSE)
    assert avoided.at(PAUSE) == frozenset()
    assert avoided.add(ONE, PAUSE + 1) == 2 * PAUSE
    avoided.keep_namespaces((), 3 * PAUSE + 1)
    avoided.keep_namespaces((), 3 * PAUSE + 1 + LONGEST_PAUSE)
    assert avoided.add(ONE, 1e6) == PAUSE


def test_locks_are_avoided_for_longer_each_time_although_the_namespace_is_read() -> None:
    """BPF reads it while a socket in it is locked; who arms there hung again after each scan, as if it were gone."""
    avoided, now, pauses = Avoided(), 0.0, []
    for _ in range(3):
        pauses.append(avoided.add(LOCKS, now))
        avoided.keep_namespaces((), now + 1)
        assert avoided.at(now + 1) == {LOCKS}
        now += pauses[-1]
        assert avoided.at(now) == frozenset()
    assert pauses == [PAUSE, 2 * PAUSE, 4 * PAUSE]
    assert avoided.add(LOCKS, now + LONGEST_PAUSE + 1) == PAUSE


def test_a_namespace_that_was_tried_again_leaves_the_turn_to_another() -> None:
    avoided = Avoided()
    avoided.add(ONE, 0.0)
    avoided.add(OTHER, 1.0)
    avoided.keep_namespaces({2}, 1.0 + PAUSE)
    assert avoided.at(1.0 + PAUSE) == frozenset()


def test_processes_and_sockets_are_all_tried_again() -> None:
    avoided = Avoided()
    avoided.add(PROCESS, 0.0)
    avoided.add((Kind.SOCKET, 9), 0.0)
    assert avoided.at(PAUSE) == frozenset()


def test_nothing_that_hung_is_tried_again_where_too_many_workers_cannot_die() -> None:
    avoided = Avoided()
    avoided.add(ONE, 0.0)
    assert avoided.at(1e9, again=False) == {ONE}


def test_what_has_no_name_is_not_left_out() -> None:
    avoided = Avoided()
    assert avoided.add((Kind.NOTHING, 0), 0.0) == 0.0
    assert avoided.at(0.0) == frozenset()
