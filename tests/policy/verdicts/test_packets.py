"""When a packet was last seen that a firewall could have seen."""

import dataclasses
import math

import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import SocketTable, Timer
from tests.support.tables import CONFIGURED, idle, table, watch


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


def test_what_we_sent_since_the_peer_was_heard_proves_nothing_while_it_is_sent_again() -> None:
    """Both since the scan before: the peer answered a probe, and then the network failed."""
    first = table(1000.0, idle(10.0))
    resent = idle(20.0, timer=Timer.RETRANSMIT, expires=3.0, retransmits=4, segments_in=11, segments_out=18)
    assert last_packet(first, table(1010.0, resent | {"since_acked": 9.0, "since_sent": 2.0})) == 1001.0


def test_a_packet_of_the_peer_after_the_cut_proves_that_it_lives() -> None:
    first = table(1000.0, idle(290.0))
    heard = table(1020.0, idle(310.0, segments_in=11) | {"since_received": 5.0})
    assert last_packet(first, heard) == 1015.0


def test_ages_that_are_not_reported_are_unknown_until_something_moves() -> None:
    """Some systems count bytes and tell no ages: what moved since the scan before did so then at the earliest."""
    untold = idle(math.nan)
    assert math.isnan(last_packet(table(1000.0, untold), table(1015.0, untold)))
    moved = untold | {"segments_out": 11}
    assert last_packet(table(1000.0, untold), table(1015.0, untold), table(1030.0, moved)) == 1015.0
    assert last_packet(table(1000.0, untold), table(1015.0, moved), table(1030.0, moved)) == 1000.0


def test_one_age_that_is_reported_is_enough() -> None:
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
    """Of two in one silence: the first comes after its idle time, the next after its interval if that is longer."""
    scans = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_in=11))]
    assert watch(*scans).activity.peer_period[0] == FOREVER
    scans += [table(1075.0, idle(75.0, segments_in=11)), table(1090.0, idle(90.0, segments_in=12))]
    assert watch(*scans).activity.peer_period[0] == 75.0


def test_the_peers_rhythm_is_learnt_from_a_probe_in_each_silence_between_our_own() -> None:
    """Our probe, and the answer to it, do not change when the peer probes next: no data passed since its last probe."""
    first = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_in=11))]
    ours = table(1060.0, idle(60.0, segments_in=12) | {"since_acked": 10.0})
    second = table(1075.0, idle(75.0, segments_in=13) | {"since_acked": 25.0})
    assert watch(*first, ours).activity.peer_period[0] == FOREVER
    activity = watch(*first, ours, second).activity
    assert activity.peer_period[0] == 1075.0 - 1015.0
    assert (activity.beat[0], activity.beat_by[0]) == (1060.0, 1075.0)


def test_a_rhythm_does_not_date_a_probe_while_the_machine_slept() -> None:
    """The peer, which got no answers, may have given up."""
    scans = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_in=12))]
    after = table(1330.0, idle(330.0, segments_in=32))
    assert last_packet(*scans, after) > 1300.0
    slept = table(1330.0, idle(40.0, segments_in=13))
    assert last_packet(*scans, dataclasses.replace(slept, asleep=290.0)) == 1030.0


def test_data_between_two_probes_of_the_peer_is_no_rhythm() -> None:
    """The peer counts from it."""
    first = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_in=11))]
    said = table(1060.0, idle(60.0, segments_in=12, segments_out=11) | {"since_acked": 10.0, "since_sent": 10.1})
    second = table(1090.0, idle(90.0, segments_in=13, segments_out=11) | {"since_acked": 40.0, "since_sent": 40.1})
    assert watch(*first, said, second).activity.peer_period[0] == FOREVER


def test_a_probe_of_the_peer_that_the_answer_to_ours_hides_may_have_passed() -> None:
    """Two packets came, and one of them was the answer."""
    first = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_in=11))]
    both = table(1060.0, idle(60.0, segments_in=13) | {"since_acked": 10.0})
    activity = watch(*first, both).activity
    assert (activity.beat[0], activity.beat_by[0]) == (1015.0, 1060.0)


def test_data_from_the_peer_is_no_rhythm() -> None:
    scans = [table(1000.0, idle(0.0)), table(1030.0, idle(5.0, segments_in=11))]
    assert watch(*scans).activity.peer_period[0] == FOREVER


def read_slowly(scan: SocketTable) -> SocketTable:
    """The same, where each of its rows may have been read up to a second later."""
    return dataclasses.replace(scan, reading=1.0)


def test_data_may_be_younger_than_its_age_by_as_long_as_a_scan_reads() -> None:
    """Its row was read late: it came after the scan before, as the counters show, and three packets are no probes."""
    scans = [table(1000.0, idle(1.0)), table(1060.0, idle(61.0, segments_in=14))]
    said = read_slowly(table(1065.0, idle(5.5, segments_in=17)))
    activity = watch(*scans, said).activity
    assert (activity.peer_period[0], activity.probed[0]) == (20.0, False)
    assert (activity.beat[0], activity.beat_by[0]) == (1059.5, 1066.0)
    assert activity.last_packet[0] == 1060.0


def test_an_answer_may_be_younger_than_its_age_by_as_long_as_a_scan_reads() -> None:
    """To a probe of ours; else a peer that never probes would have the rhythm of our probes."""
    scans = [table(1000.0, idle(1.0))]
    for count, now in enumerate((1060.0, 1120.0, 1180.0), start=1):
        scans.append(table(now, idle(now - 999.0, segments_in=9 + count) | {"since_acked": 59.0}))
        answered = idle(now - 994.0, segments_in=10 + count) | {"since_acked": 5.5}
        scans.append(read_slowly(table(now + 5.0, answered)))
    assert watch(*scans).activity.peer_period[0] == FOREVER


def test_data_in_the_tick_of_the_scan_before_is_no_probe() -> None:
    """The kernel counts ages in ticks, of up to 10 ms."""
    scans = [table(1000.0, idle(1.0)), table(1060.0, idle(61.0, segments_in=14))]
    activity = watch(*scans, table(1065.0, idle(5.004, segments_in=17))).activity
    assert (activity.peer_period[0], activity.probed[0]) == (20.0, False)


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
    assert watch(first, table(1015.0, idle(1.0, cookie=8))).activity.last_packet[0] == 1014.0


def test_a_packet_that_was_not_seen_lies_between_two_instants() -> None:
    """A peer's probe moves the counters alone; it passed after the scan before, and before this one ended."""
    first = table(1000.0, idle(100.0))
    second = table(1015.0, idle(115.0, segments_in=11, segments_out=11))
    activity = watch(first, second).activity
    assert (activity.last_packet[0], activity.last_packet_by[0]) == (1000.0, 1015.0)


def test_the_kernels_clock_of_packets_shows_the_peers_probe() -> None:
    """BPF reads tcp_mstamp, which every packet of either direction sets."""
    activity = watch(table(1000.0, idle(5000.0, since_packet=20.0))).activity
    assert (activity.last_packet[0], activity.last_packet_by[0]) == (-4000.0, pytest.approx(980.0))


def test_the_ages_of_packets_do_not_count_the_time_in_which_the_machine_slept() -> None:
    """A packet may have passed just before it fell asleep."""
    first = table(1000.0, idle(100.0))
    second = dataclasses.replace(table(1200.0, idle(6.0, segments_in=11)), asleep=150.0)
    activity = watch(first, second).activity
    assert (activity.last_packet[0], activity.last_packet_by[0]) == (1044.0, 1200.0)


def test_at_a_first_scan_a_peers_probe_may_have_passed_at_any_time_until_now() -> None:
    activity = watch(table(1000.0, idle(100.0))).activity
    assert (activity.last_packet[0], activity.last_packet_by[0]) == (900.0, 1000.0)


def test_a_packet_of_ours_that_may_have_left_before_or_after_the_cut_may_have_been_lost() -> None:
    """Our probe, unanswered yet, between two scans that lie before and after the cut."""
    first = table(1000.0, idle(0.0))
    second = table(1298.0, idle(298.0))
    third = table(1313.0, idle(313.0, segments_out=11, probes=1))
    activity = watch(first, second, third).activity
    assert (activity.last_packet[0], activity.last_packet_by[0]) == (1000.0, 1313.0)


def test_what_a_peer_that_answers_nothing_was_sent_proves_nothing_at_a_first_scan() -> None:
    """Every retransmission looks like fresh data."""
    dead = idle(900.0, timer=Timer.RETRANSMIT, expires=30.0, retransmits=6, since_packet=20.0) | {"since_sent": 20.0}
    assert watch(table(1000.0, dead)).activity.last_packet[0] == 100.0


def test_a_peer_that_probes_more_often_than_we_scan_has_the_rhythm_of_its_probes() -> None:
    """Six in 15 s lie 3 s apart at most."""
    first = table(1000.0, idle(100.0))
    second = table(1015.0, idle(115.0, segments_in=16, segments_out=16))
    activity = watch(first, second).activity
    assert activity.peer_period[0] == 3.0
    assert activity.last_packet[0] == pytest.approx(1015.0 - 3.0 * (1 + TIMER_SLACK))


def test_a_peer_that_changed_its_rhythm_has_the_new_one() -> None:
    scans = [table(1000.0, idle(1.0)), table(1015.0, idle(16.0, segments_in=13))]
    assert watch(*scans).activity.peer_period[0] == 7.5
    scans += [table(1100.0, idle(101.0, segments_in=13)), table(1115.0, idle(116.0, segments_in=14))]
    assert watch(*scans).activity.peer_period[0] == 1115.0 - (1015.0 - 7.5 * (1 + TIMER_SLACK))


def test_a_rhythm_ends_where_fewer_probes_came_than_it_promises() -> None:
    """One in a minute, where one was to come every 20 s: the newest may have passed just after the scan before."""
    scans = [table(1000.0, idle(1.0)), table(1060.0, idle(61.0, segments_in=14))]
    assert watch(*scans).activity.peer_period[0] == 20.0
    judgement = watch(*scans, table(1120.0, idle(121.0, segments_in=15)), path=Path("path", 90.0, CONFIGURED))
    assert judgement.activity.last_packet[0] == 1060.0
    assert judgement.activity.peer_period[0] == pytest.approx(1120.0 - (1060.0 - 20.0 * (1 + TIMER_SLACK)))
    assert not judgement.forecast.confirmed[0]


def test_a_rhythm_that_has_ended_promises_nothing_in_the_next_silence() -> None:
    """The peer, which had probed every 20 s, was silent for a minute, and then spoke."""
    scans = [table(1000.0, idle(1.0)), table(1060.0, idle(61.0, segments_in=14))]
    scans += [table(1120.0, idle(121.0, segments_in=14))]
    spoken = watch(*scans, table(1130.0, idle(2.0, segments_in=15)))
    assert spoken.activity.peer_period[0] == FOREVER
    assert Verdict(spoken.forecast.verdict[0]) is Verdict.BARE


def test_a_rhythm_outlasts_data_that_comes_before_the_next_probe_is_overdue() -> None:
    scans = [
        table(1000.0, idle(1.0)),
        table(1060.0, idle(61.0, segments_in=14)),
        table(1065.0, idle(2.0, segments_in=15)),
    ]
    assert watch(*scans).activity.peer_period[0] == 20.0


def test_an_idle_time_is_known_once_a_check_has_found_nothing_new() -> None:
    """Then the timer was set to what was left of it."""
    running = table(1000.0, idle(40.0, timer=Timer.KEEPALIVE, expires=20.0))
    judgement = watch(running)
    assert not judgement.activity.knows_keepidle[0]
    checked = table(1025.0, idle(65.0, timer=Timer.KEEPALIVE, expires=115.0))
    judgement = watch(running, checked)
    assert (judgement.activity.keepidle[0], judgement.activity.knows_keepidle[0]) == (pytest.approx(180.0), True)


def test_an_idle_time_is_not_known_any_more_once_that_of_its_network_namespace_has_changed() -> None:
    """Which of them follow it, sock_diag does not tell."""
    first = table(1000.0, idle(40.0, timer=Timer.KEEPALIVE, expires=20.0, netns=7))
    checked = table(1025.0, idle(65.0, timer=Timer.KEEPALIVE, expires=115.0, netns=7))
    for changed, known in (((8,), True), ((7, 8), False)):
        later = table(1030.0, idle(70.0, timer=Timer.KEEPALIVE, expires=110.0, netns=7))
        activity = watch(first, checked, dataclasses.replace(later, changed_idle_time=changed)).activity
        assert bool(activity.knows_keepidle[0]) is known


def test_a_timer_that_is_overdue_says_nothing_about_its_length() -> None:
    first = table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=7.0))
    overdue = table(1007.12, idle(7.12, timer=Timer.KEEPALIVE, expires=0.0))
    assert watch(first, overdue).activity.keepidle[0] == pytest.approx(7.0)


def test_a_timer_that_is_overdue_is_not_the_one_that_must_have_fired_since() -> None:
    """The one of the scan before was due at 1107 s, and an eighth of its 107 s later it had fired."""
    first = table(900.0, idle(0.0, timer=Timer.KEEPALIVE, expires=100.0))
    checked = table(1007.0, idle(107.0, timer=Timer.KEEPALIVE, expires=100.0, segments_in=11))
    overdue = table(1125.0, idle(15.0, timer=Timer.KEEPALIVE, expires=0.0, segments_in=12))
    assert watch(first, checked, overdue).activity.expires_at[0] == pytest.approx(1125.0)
    probing = table(1340.0, idle(240.0, timer=Timer.KEEPALIVE, expires=0.0, segments_in=12))
    assert watch(first, checked, probing).activity.expires_at[0] == pytest.approx(1100.0 + 207.0), "its idle time"
    soon = table(1110.0, idle(15.0, timer=Timer.KEEPALIVE, expires=0.0, segments_in=12))
    assert watch(first, checked, soon).activity.expires_at[0] == pytest.approx(1107.0)


def test_a_timer_that_another_hides_is_not_forgotten() -> None:
    first = table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=180.0))
    hidden = table(1015.0, idle(0.1, timer=Timer.RETRANSMIT, expires=0.2, segments_out=11))
    activity = watch(first, hidden).activity
    assert (activity.keepidle[0], activity.expires_at[0]) == (pytest.approx(180.0), 1180.0)
