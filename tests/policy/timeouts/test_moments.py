"""Which deaths show, each by itself, that a path forgets, and which are one event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from keepaliveD.model.causes import Cause
from keepaliveD.policy.timeouts.advice import Advisor
from keepaliveD.policy.timeouts.moments import GIVES_UP, MOMENT, MOST_OPEN, MOST_TOGETHER, Moments
from tests.policy.timeouts.test_advice import GUESS, PRODUCTS, survive
from tests.support.ends import Facts, ends, reset, timed_out
from tests.support.tables import idle, table

LATER = 1e6  # everything is over
FIRST = 0  # of the paths


def by_device(at: float, silence: float, peer: int = 1) -> Facts:
    """A device has reset it."""
    return reset(ended_at=at, silence=silence, remote_low=peer)


def silent(at: float, silence: float, peer: int = 1, waited: float = 20.0) -> Facts:
    """It was given up at that instant after retransmissions, the last of which had waited for half of the time."""
    ages = {"since_received": silence + waited, "since_acked": silence + waited, "since_sent": waited / 2}
    return timed_out(ended_at=at, silence=silence, remote_low=peer, unacked=5, retransmits=5, **ages)


def busy(at: float, waited: float = 20.0) -> Facts:
    return silent(at, 0.1, 9, waited)


def died(moments: Moments | Advisor, facts: Iterable[Facts]) -> None:
    ended = ends(facts)
    causes = np.where(ended["reset"] != 0, Cause.MIDDLEBOX_IDLE.value, Cause.SILENT_AFTER_IDLE.value)
    causes[ended["silence"] < 2] = Cause.PATH_DIED.value
    causes[ended["user_timeout"] != 0] = Cause.USER_TIMEOUT.value
    path, every = np.zeros(len(ended), np.uint32), np.arange(len(ended))
    if isinstance(moments, Moments):
        moments.died(ended, path, causes, every)
    else:
        moments.died(ended, path, causes, np.ones(len(ended), np.bool_))


def heard(moments: Moments, *instants: float) -> None:
    """At each of these instants a scan saw a connection of the path that had just been heard."""
    for now in instants:
        moments.scanned(now, np.zeros(1, np.intp), np.ones(1, np.bool_), table(now, idle(0.0)).sockets)


def counted(*facts: Facts, was_heard: Sequence[float] = ()) -> list[float]:
    """The silences that count as deaths of these, one after the other."""
    moments = Moments(1)
    for each in facts:
        died(moments, [each])
    heard(moments, *was_heard)
    return [deaths[0].silence for _, deaths in moments.closed(LATER)]


def test_resets_of_connections_that_were_heard_in_between_count_each() -> None:
    assert counted(by_device(500, 100), by_device(700, 120), by_device(900, 110)) == [100, 120, 110]


def test_what_one_restart_of_a_firewall_explains_counts_once_however_long_it_takes_to_show() -> None:
    """All were heard for the last time before it, and reset when they spoke again: in hours."""
    restarted = 1000.0
    lost = [by_device(restarted + later, later + before) for later, before in ((2, 5), (600, 50), (7200, 3600))]
    assert counted(*lost) == [7]


def test_of_several_that_one_event_explains_the_shortest_silence_counts() -> None:
    """If the path forgets, it forgets sooner than that."""
    assert counted(by_device(1000, 400), by_device(1001, 500), by_device(1002, 360)) == [360]


def test_less_than_a_minute_apart_is_one_event() -> None:
    """A link flaps, and a firewall that fails over may restart twice."""
    assert counted(by_device(1000, 10), by_device(1000 + MOMENT - 1, 12)) == [10]
    assert counted(by_device(1000, 10), by_device(1000 + MOMENT, 12)) == [10, 12]


def test_a_silent_death_counts_if_others_were_heard_between_two_packets_that_were_lost() -> None:
    """It sent from 980 on, for the last time at 990, and was given up at 1000."""
    assert counted(silent(1000, 100), was_heard=[985]) == [100]


@pytest.mark.parametrize("instants", [[], [970], [979, 980], [991], [999, 1010]])
def test_a_silent_death_in_which_nobody_was_heard_may_be_an_outage(instants: Sequence[float]) -> None:
    assert counted(silent(1000, 100), was_heard=instants) == []


def test_keepalive_probes_in_vain_count_likewise() -> None:
    """Three of them: at 980, 987 and 993."""
    facts = timed_out(ended_at=1000, silence=100, since_received=120, since_acked=120, since_sent=120, probes=3)
    assert counted(facts, was_heard=[990]) == [100]
    assert counted(facts, was_heard=[994]) == []


IMPATIENT: Facts = {**busy(1020), "user_timeout": 5000}


@pytest.mark.parametrize("other", [busy(1020), busy(1000 + MOMENT + 19), busy(1000 - MOMENT), IMPATIENT])
def test_an_outage_in_which_busy_connections_died_is_no_evidence(other: Facts) -> None:
    """Whether they are given up before or after."""
    assert counted(by_device(1000, 100), other) == []
    assert counted(other, by_device(1000, 100)) == []
    assert counted(silent(1000, 100), other, was_heard=[985]) == []


@pytest.mark.parametrize("other", [busy(1000 + MOMENT + 30), busy(900), {**silent(1000, 50), "user_timeout": 5000}])
def test_an_outage_at_another_time_does_not_matter_nor_does_what_a_silence_may_have_ended(other: Facts) -> None:
    assert counted(by_device(1000, 100), other) == [100]


def test_a_moment_waits_for_what_an_outage_ends_later() -> None:
    for one, waits in ((by_device(1000, 100), MOMENT), (silent(1000, 100), GIVES_UP)):
        moments = Moments(1)
        died(moments, [one])
        heard(moments, 985)
        assert list(moments.closed(1000 + waits - 1)) == []
        assert len(list(moments.closed(1000 + waits))) == 1
        assert list(moments.closed(LATER)) == []


def test_each_path_has_moments_of_its_own() -> None:
    moments, ended = Moments(2), ends([by_device(1000, 100), by_device(1000, 50), by_device(1001, 70)])
    causes = np.full(3, Cause.MIDDLEBOX_IDLE.value)
    moments.died(ended, np.array([0, 1, 7], np.uint32), causes, np.arange(3))
    assert [(path, deaths[0].silence) for path, deaths in moments.closed(LATER)] == [(0, 100), (1, 50)]


def test_memory_is_bounded_however_many_connections_die_and_however_long_scans_go_on() -> None:
    moments = Moments(1)
    died(moments, [by_device(1000, 100 + number) for number in range(3 * MOST_TOGETHER)])
    died(moments, [by_device(1000, 100 + number) for number in range(3 * MOST_TOGETHER)])
    assert len(moments._open[FIRST][0].deaths) == MOST_TOGETHER
    for number in range(2 * MOST_OPEN):
        died(moments, [by_device(2000 + 200 * number, 100)])
        died(moments, [busy(2000 + 200 * number)])
    assert len(moments._open[FIRST]) == MOST_OPEN
    heard(moments, *np.arange(0, 3 * GIVES_UP, 1.0).tolist())
    assert len(moments._heard) <= 2 * GIVES_UP / 5 + 1
    assert len(moments._outages[FIRST]) < 3 * MOST_OPEN


def test_one_outage_shortens_no_guess() -> None:
    """Silences of up to 26 s are survived; then nothing passes for 25 s, and eight that were quiet for 50 s speak."""
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 26.0, connections=20)
    died(advisor, [silent(2000 + number / 3, 50, number % 2, waited=6.0) for number in range(8)])
    assert advisor.due(LATER) == ()
    assert advisor.with_evidence([GUESS]) == [GUESS]


def test_three_outages_shorten_no_guess_either() -> None:
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 26.0, connections=20)
    for at in (10_000, 20_000, 30_000):
        died(advisor, [silent(at + number / 3, 50, number % 2, waited=6.0) for number in range(8)])
        assert advisor.due(at + 2 * GIVES_UP) == ()


def test_a_firewall_that_forgets_shortens_a_guess_at_the_third_moment() -> None:
    """Many die at each, at two peers, and the same one has the shortest silence each time."""
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    for at, advice in ((10_000, 0), (20_000, 0), (30_000, 1)):
        died(advisor, [by_device(at + 10 * number, 400 + 100 * number, number % 2) for number in range(8)])
        assert len(advisor.due(at + 2 * GIVES_UP)) == advice
    (shorter,) = advisor.with_evidence([GUESS])
    assert 200 < shorter.timeout <= 350


def test_deaths_at_one_peer_shorten_no_guess_at_however_many_moments() -> None:
    advisor = Advisor([GUESS], PRODUCTS)
    survive(advisor, GUESS, 300.0, connections=30)
    for at in range(10_000, 100_000, 10_000):
        died(advisor, [by_device(at + 10 * number, 400 + 100 * number) for number in range(8)])
        assert advisor.due(at + 2 * GIVES_UP) == ()
