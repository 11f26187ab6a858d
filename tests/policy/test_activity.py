"""When a packet was last seen that a firewall could have seen."""

import math

import numpy as np
import pytest

from keepaliveD.model import FOREVER
from keepaliveD.policy.activity import find
from keepaliveD.sockets import SocketTable, Timer
from tests.policy.tables import idle, table, watch


def last_packet(*tables: SocketTable) -> float:
    return float(watch(*tables).activity.last_packet[0])


def test_the_youngest_of_the_kernels_ages_counts() -> None:
    for name in ("since_sent", "since_received", "since_acked"):
        socket = idle(50.0) | {name: 7.0}
        assert last_packet(table(1000.0, socket)) == pytest.approx(993.0)  # type: ignore[arg-type]


def test_a_packet_that_the_ages_do_not_show_counts_from_the_scan_before() -> None:
    """A peer's probe moves the segment counters alone; it came after the scan before, so at least then."""
    first = table(1000.0, idle(100.0))
    second = table(1015.0, idle(115.0, segments_in=11, segments_out=11))
    assert last_packet(first, second) == 1000.0


def test_without_a_packet_the_memory_stays_as_it_is() -> None:
    """The ages are rounded anew at each scan; a quiet socket must not seem to move."""
    assert last_packet(table(1000.0, idle(100.0)), table(1015.0, idle(114.98))) == 900.0


def test_counters_that_wrap_around_have_moved() -> None:
    first = table(1000.0, idle(100.0, segments_in=2**32 - 1))
    assert last_packet(first, table(1015.0, idle(115.0, segments_in=0))) == 1000.0


def test_a_packet_of_ours_after_the_cut_proves_nothing() -> None:
    """The firewall has forgotten the connection; what we send now is lost or refused."""
    first = table(1000.0, idle(290.0))
    sent = table(1020.0, idle(310.0, segments_out=11) | {"since_sent": 5.0})
    assert last_packet(first, sent) == 710.0


def test_a_packet_of_the_peer_after_the_cut_proves_that_it_lives() -> None:
    first = table(1000.0, idle(290.0))
    heard = table(1020.0, idle(310.0, segments_in=11) | {"since_received": 5.0})
    assert last_packet(first, heard) == 1015.0


def test_ages_that_are_not_told_are_unknown_until_something_moves() -> None:
    """Some systems count bytes and tell no ages: what moved since the scan before did so then at the earliest."""
    untold = idle(math.nan)
    assert math.isnan(last_packet(table(1000.0, untold), table(1015.0, untold)))
    moved = untold | {"segments_out": 11}
    assert last_packet(table(1000.0, untold), table(1015.0, untold), table(1030.0, moved)) == 1015.0
    assert last_packet(table(1000.0, untold), table(1015.0, moved), table(1030.0, moved)) == 1000.0


def test_one_age_that_is_told_is_enough() -> None:
    """FreeBSD tells when a connection was heard last, and nothing else."""
    received = idle(math.nan) | {"since_received": 30.0}
    assert last_packet(table(1000.0, received)) == 970.0


def test_a_scan_that_tells_no_ages_forgets_nothing() -> None:
    """A watcher that was made anew by a reload has not seen when its connections were opened."""
    assert last_packet(table(1000.0, idle(100.0)), table(1015.0, idle(math.nan))) == 900.0


def test_where_probes_are_not_seen_no_silence_is_proved() -> None:
    """Probes may have kept the path patient; what was heard in between tells nothing about its timeout."""
    scans = [
        table(1000.0, idle(0.0, timer=Timer.UNSEEN)),
        table(1350.0, idle(math.nan, timer=Timer.UNSEEN)),
        table(1365.0, idle(math.nan, timer=Timer.UNSEEN, segments_in=11)),
    ]
    activity = watch(*scans).activity
    assert (activity.survived[0], activity.peer_period[0], activity.last_packet[0]) == (0.0, FOREVER, 1350.0)


def test_where_probes_are_not_seen_a_late_packet_of_ours_counts() -> None:
    """The silence before it may have been none."""
    scans = [
        table(1000.0, idle(290.0, timer=Timer.UNSEEN)),
        table(1015.0, idle(math.nan, timer=Timer.UNSEEN)),
        table(1030.0, idle(math.nan, timer=Timer.UNSEEN, segments_out=11)),
    ]
    assert watch(*scans).activity.last_packet[0] == 1015.0


def test_the_silence_that_was_survived_is_remembered() -> None:
    """At least from the last packet to the scan before the next one, as far as it was watched."""
    scans = [table(1000.0, idle(0.0)), table(1350.0, idle(350.0)), table(1365.0, idle(2.0, segments_in=11))]
    assert watch(*scans).activity.survived[0] == 350.0


def test_a_silence_from_before_the_watch_proves_nothing() -> None:
    """The ages may hide the peer's probes."""
    scans = [table(1000.0, idle(5000.0)), table(1015.0, idle(2.0, segments_in=11))]
    assert watch(*scans).activity.survived[0] == 0.0


def test_the_peers_rhythm_is_learnt_from_a_probe() -> None:
    scans = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_in=11))]
    assert watch(*scans).activity.peer_period[0] == 30.0


def test_data_from_the_peer_is_no_rhythm() -> None:
    scans = [table(1000.0, idle(0.0)), table(1030.0, idle(5.0, segments_in=11))]
    assert watch(*scans).activity.peer_period[0] == FOREVER


def test_the_idle_time_that_the_timer_shows_only_grows_while_it_runs() -> None:
    """Data moves the last packet, not the armed timer: what was left at the arming is the truth."""
    armed = table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=180.0))
    busy = table(1015.0, idle(1.0, timer=Timer.KEEPALIVE, expires=165.0, segments_in=11))
    assert watch(armed, busy).activity.keepidle[0] == pytest.approx(180.0)


def test_a_timer_that_was_set_anew_shows_its_own_idle_time() -> None:
    armed = table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=7200.0))
    anew = table(1015.0, idle(15.0, timer=Timer.KEEPALIVE, expires=45.0))
    assert watch(armed, anew).activity.keepidle[0] == pytest.approx(60.0)


def test_a_long_uptime_costs_no_precision() -> None:
    """Ten years of CLOCK_MONOTONIC: single precision would be off by 16 s."""
    year = 365.25 * 86400
    judgement = watch(table(10 * year, idle(50.25, timer=Timer.KEEPALIVE, expires=129.75)))
    assert 10 * year - judgement.activity.last_packet[0] == 50.25
    assert judgement.activity.keepidle[0] == 180.0


def test_sockets_are_known_again_by_their_cookie_in_any_order() -> None:
    first = table(1000.0, idle(100.0, cookie=7), idle(200.0, cookie=8))
    second = table(1015.0, idle(1.0, cookie=9), idle(215.1, cookie=8), idle(115.1, cookie=7))
    assert watch(first, second).activity.last_packet.tolist() == [1014.0, 800.0, 900.0]


def test_another_socket_with_the_same_endpoints_starts_anew() -> None:
    first = table(1000.0, idle(100.0, cookie=7))
    assert watch(first, table(1015.0, idle(1.0, cookie=8))).activity.watched_since[0] == 1015.0


@pytest.mark.parametrize("haystack", [[], [5], [3, 9, 1], [1, 2, 3]])
def test_find_agrees_with_a_plain_search(haystack: list[int]) -> None:
    needles = np.array([1, 2, 3], np.uint64)
    row, known = find(np.array(haystack, np.uint64), needles)
    assert known.tolist() == [needle in haystack for needle in needles]
    if known.any():
        assert (np.array(haystack, np.uint64)[row][known] == needles[known]).all()
