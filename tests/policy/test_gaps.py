"""What is reported where sockets of a network namespace are missing from scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from keepaliveD.model.reports import ReportUnwatched
from keepaliveD.model.rules import OnDrift, Path, Rules
from keepaliveD.model.sockets import OWN, Unwatched
from keepaliveD.policy.gaps import PAUSE, Reported, to_report
from keepaliveD.policy.scans import ScanDecider
from tests.support.tables import CONFIGURED, table

SCAN = 30.0  # seconds
OURS = 4026531840
RULES = Rules({}, OnDrift.REAPPLY, [Path("firewall", 300.0, CONFIGURED)], [], 60.0)


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


def only(kind: str, what: tuple[int, ...] | int) -> Unwatched:
    """A scan from which something is missing for this reason alone."""
    return Unwatched()._replace(**{kind: what})  # type: ignore[arg-type]


def logged(*scans: Unwatched, every: float = SCAN) -> list[Unwatched]:
    """What is logged at each of these scans, as a daemon in the network namespace OURS decides it."""
    decider, said = ScanDecider(RULES), []
    for number, unwatched in enumerate(scans):
        seen = dataclasses.replace(table(number * every), netns=OURS, unwatched=unwatched)
        reports = [action for action in decider.observe(seen)[1] if isinstance(action, ReportUnwatched)]
        said.append(reports[0].unwatched if reports else Unwatched())
    return said


@pytest.mark.parametrize("kind", ["silent", "crowded", "incomplete"])
def test_who_walks_around_namespaces_causes_one_entry_an_hour(kind: str) -> None:
    """He needs three namespaces, and the entry of each scan would name another one."""
    walk = logged(*(only(kind, (7 + number % 3,)) for number in range(100)))
    assert walk == [only(kind, (7,)), *[Unwatched()] * 99]


@pytest.mark.parametrize("kind", ["forbidden", "surplus"])
def test_who_opens_and_ends_namespaces_causes_one_entry_an_hour(kind: str) -> None:
    walk = logged(*(only(kind, number % 3 + 1) for number in range(100)))
    assert walk == [only(kind, 1), *[Unwatched()] * 99]


def test_whoever_hides_and_shows_his_processes_causes_one_entry_an_hour() -> None:
    assert logged(*[Unwatched(hidden=True), Unwatched()] * 50) == [Unwatched(hidden=True), *[Unwatched()] * 99]


@pytest.mark.parametrize("kind", ["silent", "crowded", "incomplete"])
def test_what_others_do_delays_no_entry_about_our_own_namespace(kind: str) -> None:
    first, second = only(kind, (7,)), only(kind, (7, OURS))
    assert logged(first, second, second) == [first, only(kind, (OURS,)), Unwatched()]


def test_one_reason_delays_no_entry_about_another() -> None:
    assert logged(Unwatched(crowded=(7,)), Unwatched(incomplete=(8,), forbidden=1)) == [
        Unwatched(crowded=(7,)),
        Unwatched(incomplete=(8,), forbidden=1),
    ]


def test_a_number_that_changed_meanwhile_is_reported_after_the_hour() -> None:
    scans = Unwatched(forbidden=1), Unwatched(forbidden=2), Unwatched(forbidden=2), Unwatched(forbidden=2)
    assert logged(*scans, every=PAUSE / 2) == [scans[0], Unwatched(), scans[2], Unwatched()]


def test_a_reason_that_was_gone_for_an_hour_is_reported_again() -> None:
    once = Unwatched(1, 1, hidden=True, silent=(7,), crowded=(8,), incomplete=(9,))
    assert logged(once, Unwatched(), Unwatched(), once, every=PAUSE / 2) == [once, Unwatched(), Unwatched(), once]
