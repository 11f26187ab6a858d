"""What is reported where sockets of a network namespace are missing from scans."""

from __future__ import annotations

from collections.abc import Sequence

from keepaliveD.model.sockets import OWN
from keepaliveD.policy.gaps import PAUSE, Reported, to_report

SCAN = 30.0  # seconds


def reported(*scans: Sequence[int], every: float = SCAN) -> list[tuple[int, ...]]:
    """What is reported at each of these scans, of which these namespaces are not complete."""
    known, said = Reported(), []
    for number, incomplete in enumerate(scans):
        news, known = to_report(incomplete, known, number * every)
        said.append(news)
    return said


def test_a_namespace_is_reported_once_for_as_long_as_its_scans_are_incomplete() -> None:
    assert reported(*[[OWN]] * 1000) == [(OWN,), *[()] * 999]


def test_one_that_is_incomplete_now_and_then_is_not_reported_each_time() -> None:
    assert reported(*[[OWN], []] * 500) == [(OWN,), *[()] * 999]


def test_one_that_was_complete_for_long_is_reported_again() -> None:
    assert reported([OWN], [], [OWN], every=PAUSE / 2) == [(OWN,), (), (OWN,)]


def test_new_namespaces_do_not_fill_the_log_nor_hide_our_own() -> None:
    """Anybody can make one after the other; what waits is reported later."""
    assert reported(*([7 + number] for number in range(100))) == [(7,), *[()] * 99]
    assert reported([7, 8], [9], [OWN, 9]) == [(7, 8), (), (OWN,)]
    assert reported([7], [9], [9], every=PAUSE / 2) == [(7,), (), (9,)]


def test_what_is_known_is_bounded_by_what_was_reported_in_the_last_hour() -> None:
    known = Reported()
    for number in range(1000):
        _, known = to_report([7 + number], known, number * SCAN)
    assert len(known.last) <= 1 + 1
