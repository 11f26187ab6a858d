"""Which comes first: the next packet, or the cut."""

import dataclasses
import ipaddress
import math
from typing import Unpack

import numpy as np
import pytest

from keepaliveD.model.connections import Due, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import SocketTable, Switch, TcpState, Timer
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import Judgement, judge, with_bare_presumed
from keepaliveD.policy.verdicts.packets import ON_THE_WAY
from tests.support.tables import CONFIGURED, FIREWALL, PROXY, Socket, idle, table, watch


def verdict(socket: Socket, timeout: float = 300.0) -> Verdict:
    path = Path("firewall", timeout, CONFIGURED)
    return Verdict(watch(table(1000.0, socket), path=path).forecast.verdict[0])


def judged(*scans: SocketTable) -> tuple[Verdict, bool]:
    """The verdict, and whether it is certain."""
    forecast = watch(*scans).forecast
    return Verdict(forecast.verdict[0]), bool(forecast.confirmed[0])


def test_a_socket_without_keepalive_is_bare() -> None:
    assert verdict(idle(0.0)) is Verdict.BARE


def test_a_keepalive_that_is_due_before_the_cut_makes_safe() -> None:
    assert verdict(idle(10.0, timer=Timer.KEEPALIVE, expires=170.0)) is Verdict.SAFE


def test_a_keepalive_that_is_due_with_the_cut_comes_too_late() -> None:
    """A period equal to the timeout loses the race."""
    assert verdict(idle(0.0, timer=Timer.KEEPALIVE, expires=300.0)) is Verdict.LATE


def test_a_timer_that_may_fire_late_is_late() -> None:
    """Timers fire up to 8/63 late: 266.1 s of 300 s are in time, 266.3 s are not (300 = 266.2 x 71/63)."""
    assert verdict(idle(0.0, timer=Timer.KEEPALIVE, expires=266.1)) is Verdict.SAFE
    assert verdict(idle(0.0, timer=Timer.KEEPALIVE, expires=266.3)) is Verdict.LATE


def test_a_timer_armed_under_the_old_setting_is_late() -> None:
    """Lowering the sysctl does not shorten a timer that is already armed."""
    assert verdict(idle(0.0, timer=Timer.KEEPALIVE, expires=7200.0)) is Verdict.LATE


def test_a_check_is_no_probe() -> None:
    """The timer checks at 100 s, but data passed since it was armed: it will only set itself anew."""
    armed = table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=180.0))
    busy = table(1100.0, idle(0.0, timer=Timer.KEEPALIVE, expires=80.0, segments_in=11))
    forecast = watch(armed, busy).forecast
    assert forecast.due_at[0] == pytest.approx(1280.0)


def test_idle_for_the_timeout_is_cut_and_not_a_moment_before() -> None:
    assert verdict(idle(299.9)) is Verdict.BARE
    assert verdict(idle(300.0)) is Verdict.CUT


def test_a_keepalive_does_not_save_what_is_cut() -> None:
    assert verdict(idle(301.0, timer=Timer.KEEPALIVE, expires=1.0)) is Verdict.CUT


@pytest.mark.parametrize(("timer", "due"), [(Timer.RETRANSMIT, Due.RETRANSMIT), (Timer.ZERO_WINDOW, Due.ZERO_WINDOW)])
def test_another_packet_that_leaves_in_time_makes_safe(timer: Timer, due: Due) -> None:
    forecast = watch(table(1000.0, idle(290.0, timer=timer, expires=5.0))).forecast
    assert (forecast.verdict[0], forecast.due[0], forecast.due_at[0]) == (Verdict.SAFE, due, 1005.0)
    assert verdict(idle(290.0, timer=timer, expires=20.0)) is Verdict.LATE


def probed(every: float, **others: Unpack[Socket]) -> list[SocketTable]:
    """Scans around two probes of the peer in one silence; the second came just before 1000 + 2 x `every`."""
    scans = [table(1000.0, idle(0.0, **others))]
    for number in (1, 2):
        now = 1000.0 + number * every
        before: Socket = {"segments_in": 9 + number}
        after: Socket = {"segments_in": 10 + number}
        scans.append(table(now - 15, idle(now - 1015.0) | others | before))
        scans.append(table(now, idle(now - 1000.0) | others | after))
    return scans


def test_a_peer_that_probes_in_time_makes_safe() -> None:
    forecast = watch(*probed(100.0)).forecast
    assert (forecast.verdict[0], forecast.due[0], forecast.due_at[0]) == (Verdict.SAFE, Due.PEER, 1185.0 + 115.0)


def test_a_peer_that_has_stopped_probing_saves_nobody() -> None:
    scans = [*probed(100.0), table(1325.0, idle(325.0, segments_in=12))]
    assert watch(*scans).forecast.verdict[0] == Verdict.SAFE, "the third is at most an eighth late"
    scans.append(table(1335.0, idle(335.0, segments_in=12)))
    assert watch(*scans).forecast.verdict[0] == Verdict.BARE


def test_a_peer_that_probes_too_late_saves_nobody() -> None:
    scans = probed(310.0)
    forecast = watch(*scans).forecast
    assert (forecast.verdict[0], bool(forecast.confirmed[0])) == (Verdict.LATE, False)
    scans.append(table(1919.0, idle(919.0, segments_in=12)))
    assert watch(*scans).forecast.verdict[0] == Verdict.CUT


def test_a_peer_whose_interval_is_longer_than_its_idle_time_probes_once_soon_and_then_late() -> None:
    """Idle time 1 s, interval 75 s: a single probe is no rhythm."""
    scans = [table(1000.0, idle(0.0)), table(1000.5, idle(0.5)), table(1001.5, idle(1.5, segments_in=11))]
    assert judged(*scans) == (Verdict.BARE, False)


def test_a_peer_that_has_probed_may_probe_before_our_own_keepalive_comes_too_late() -> None:
    own = Socket(timer=Timer.KEEPALIVE, keepalive=Switch.ON, keepidle=7200, expires=7200.0)
    assert judged(table(1000.0, idle(0.0) | own)) == (Verdict.LATE, True)
    probed = table(1015.0, idle(16.0, segments_in=11) | own)
    assert judged(table(1000.0, idle(1.0) | own), probed) == (Verdict.LATE, False)


def test_a_rhythm_that_grows_longer_promises_nothing_certain() -> None:
    """Such are a peer's probes of our closed window: each wait is twice the one before."""
    instants, scans = (1010.0, 1030.0, 1070.0), [table(1000.0, idle(0.0))]
    for count, instant in enumerate(instants, start=1):
        for now, segments in ((instant - 0.5, 9 + count), (instant, 10 + count)):
            scans.append(table(now, idle(now - 1000.0, segments_in=segments)))
    assert judged(*scans[:5]) == (Verdict.SAFE, True)
    assert judged(*scans) == (Verdict.SAFE, False)
    again = [table(now, idle(now - 1000.0, segments_in=count)) for now, count in ((1109.5, 13), (1110.0, 14))]
    assert judged(*scans, *again) == (Verdict.SAFE, True)


def test_the_peers_probe_saves_what_our_own_keepalive_would_not() -> None:
    scans = probed(100.0, timer=Timer.KEEPALIVE, expires=7200.0)
    assert watch(*scans).forecast.verdict[0] == Verdict.SAFE


def test_a_path_that_never_forgets_makes_everything_safe() -> None:
    assert verdict(idle(1e6), timeout=FOREVER) is Verdict.SAFE


@pytest.mark.parametrize("state", [TcpState.CLOSE_WAIT, TcpState.FIN_WAIT1, TcpState.FIN_WAIT2])
def test_half_closed_connections_have_timeouts_that_nobody_knows(state: TcpState) -> None:
    assert verdict(idle(1000.0, state=state)) is Verdict.UNKNOWN


def test_a_cut_is_confirmed_only_once_a_whole_timeout_was_watched() -> None:
    """At the first look the ages may hide the probes of the peer."""
    first = table(1000.0, idle(5000.0))
    almost = table(1300.0, idle(5300.0))
    enough = table(1300.2, idle(5300.2))
    assert not watch(first).forecast.confirmed[0]
    assert not watch(first, almost).forecast.confirmed[0]
    assert watch(first, almost, enough).forecast.confirmed[0]


def test_a_packet_that_passed_at_a_time_that_nobody_saw_confirms_no_cut() -> None:
    """After a pause a peer's probe may be as old as the pause, or a moment: the watch begins anew."""
    scans = [table(1000.0, idle(0.0)), table(1400.0, idle(400.0, segments_in=11))]
    assert watch(*scans).forecast.verdict[0] == Verdict.CUT
    assert not watch(*scans).forecast.confirmed[0]
    scans.append(table(1699.0, idle(699.0, segments_in=11)))
    assert not watch(*scans).forecast.confirmed[0]
    scans.append(table(1700.2, idle(700.2, segments_in=11)))
    assert watch(*scans).forecast.confirmed[0]


def test_a_cut_that_was_watched_from_the_last_packet_on_is_confirmed() -> None:
    scans = [table(1000.0, idle(0.0)), table(1300.2, idle(300.2))]
    forecast = watch(*scans).forecast
    assert (forecast.verdict[0], bool(forecast.confirmed[0])) == (Verdict.CUT, True)


def test_a_silence_once_survived_counts_as_the_timeout() -> None:
    """The configured timeout was too short for this connection: that is known now."""
    scans = [table(1000.0, idle(0.0)), table(1350.0, idle(350.0)), table(1365.0, idle(0.0, segments_in=11))]
    forecast = watch(*scans).forecast
    assert (forecast.timeout[0], forecast.cut_at[0] + ON_THE_WAY) == (350.0, 1715.0)


def test_a_verdict_that_does_not_hold_for_all_that_is_possible_is_not_certain() -> None:
    """The peer's packet came between two scans: the path forgets it between 300 s after the one and the other."""
    scans = [table(1000.0, idle(0.0)), table(1015.0, idle(15.0)), table(1030.0, idle(30.0, segments_out=11))]
    scans += [table(1320.0, idle(320.0, segments_out=11))]
    forecast = watch(*scans).forecast
    assert (forecast.verdict[0], bool(forecast.confirmed[0])) == (Verdict.CUT, False)
    scans += [table(1330.2, idle(330.2, segments_out=11))]
    assert watch(*scans).forecast.confirmed[0]


def test_with_the_kernels_clock_of_packets_a_first_scan_is_certain() -> None:
    """It knows what the peer's probes were, and that there were none."""
    quiet = watch(table(1000.0, idle(400.0, since_packet=400.0, keepalive=Switch.OFF))).forecast
    assert (quiet.verdict[0], bool(quiet.confirmed[0])) == (Verdict.CUT, True)
    probed = watch(table(1000.0, idle(5000.0, since_packet=20.0, keepalive=Switch.OFF))).forecast
    assert probed.verdict[0] == Verdict.BARE


def test_what_may_have_been_forgotten_already_is_not_certainly_at_risk() -> None:
    """The program reads old data, which moves the kernel's clock of packets as a peer's probe does."""
    scan = table(1000.0, idle(400.0, since_packet=1.0, keepalive=Switch.OFF))
    assert judged(scan) == (Verdict.BARE, False)
    assert watch(scan).forecast.cut_at[0] == pytest.approx(1299.0, abs=0.5), "by what makes it likely"


def just_probed(age: float, heard: float = 260.0) -> tuple[Verdict, bool]:
    """A socket that has sent its first probe so many seconds ago, with the interval of 75 s."""
    keepalive: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 260, "keepintvl": 75}
    socket = idle(heard + age, probes=1, expires=75.0 - age, slack=0.0, since_packet=age) | keepalive
    forecast = watch(table(1000.0, socket)).forecast
    return Verdict(forecast.verdict[0]), bool(forecast.confirmed[0])


def test_a_timer_may_end_later_than_it_shows_by_as_long_as_a_scan_reads() -> None:
    """Its row was read late: the path of 60 s forgets in between, as other scans have dated the newest packet."""
    own: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 60, "slack": 0.0}
    first = table(1000.0, idle(0.0, expires=60.0, since_packet=0.0) | own)
    late = idle(58.4, expires=1.6, since_packet=58.4) | own
    path = Path("path", 60.0, CONFIGURED)
    verdicts = []
    for reading in (0.0, 1.0):
        outlook = watch(first, dataclasses.replace(table(1058.1, late), reading=reading), path=path).forecast
        verdicts.append((Verdict(outlook.verdict[0]), bool(outlook.confirmed[0])))
    assert verdicts == [(Verdict.SAFE, True), (Verdict.LATE, False)]


def test_a_probe_that_has_just_left_is_presumed_to_be_answered() -> None:
    """The next one would be too late, but the answer to this one is on its way."""
    assert just_probed(0.01) == (Verdict.SAFE, False)
    assert just_probed(5.0) == (Verdict.LATE, False)


def test_a_probe_whose_timer_was_due_just_now_is_presumed_to_be_answered() -> None:
    """Where the interval is not known: the timer was due at 1200 s."""
    waiting = table(1199.0, idle(259.0, timer=Timer.KEEPALIVE, expires=1.0))
    for now, likely in ((1200.5, Verdict.SAFE), (1203.0, Verdict.LATE)):
        left = idle(now - 940.0, timer=Timer.KEEPALIVE, expires=75.0, probes=1, segments_out=11)
        assert Verdict(watch(waiting, table(now, left)).forecast.verdict[0]) is likely


def test_a_probe_of_an_idle_time_that_was_over_just_now_is_presumed_to_be_answered() -> None:
    """Where neither the interval is known nor when the timer was set: it cannot have left before."""
    waiting = table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=20.0))
    checked = table(1030.0, idle(30.0, timer=Timer.KEEPALIVE, expires=230.0))  # a packet passes at 1050 s
    for now, likely in ((1310.9, Verdict.SAFE), (1313.0, Verdict.LATE)):
        left = idle(now - 1050.0, timer=Timer.KEEPALIVE, expires=75.0, probes=1, segments_in=11, segments_out=12)
        assert Verdict(watch(waiting, checked, table(now, left)).forecast.verdict[0]) is likely


def test_a_probe_that_left_too_late_saves_nobody() -> None:
    assert just_probed(0.01, heard=301.0)[0] == Verdict.CUT


def test_a_clock_that_stood_still_while_the_machine_slept_shows_no_packet() -> None:
    """The newest packet passed just before; the peer may have sent another one meanwhile, or none."""
    on: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 200, "keepintvl": 75, "slack": 0.0}
    before = table(1000.0, idle(0.1, since_packet=0.1, expires=74.9) | on)
    woken = dataclasses.replace(table(1400.0, idle(0.2, since_packet=0.2, expires=74.8) | on), asleep=399.9)
    later = table(1402.0, idle(2.2, since_packet=2.2, expires=72.8) | on)
    assert Verdict(watch(before, woken).forecast.verdict[0]) is Verdict.CUT
    assert Verdict(watch(before, woken, later).forecast.verdict[0]) is Verdict.CUT


def test_one_scan_of_a_connection_whose_peer_answers_nothing_does_not_call_it_safe() -> None:
    dead = idle(900.0, timer=Timer.RETRANSMIT, expires=30.0, retransmits=6, since_packet=20.0) | {"since_sent": 20.0}
    forecast = watch(table(1000.0, dead)).forecast
    assert (forecast.verdict[0], bool(forecast.confirmed[0])) == (Verdict.CUT, False)


def test_a_peers_probe_does_not_put_off_our_own() -> None:
    """The kernel counts from the newest data or acknowledgement (keepalive_time_elapsed)."""
    ours: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 7}
    scan = table(1000.0, idle(6.2, since_packet=3.0, slack=0.1, expires=0.8) | ours)
    forecast = watch(scan).forecast
    assert (forecast.due[0], forecast.due_at[0]) == (Due.KEEPALIVE, pytest.approx(1000.8))


def test_a_timer_of_unknown_length_makes_nothing_certainly_safe() -> None:
    """It may be the check of a longer one, which then is set to the rest."""
    forecast = watch(table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=60.0))).forecast
    assert (forecast.verdict[0], bool(forecast.confirmed[0])) == (Verdict.SAFE, False)


def test_a_timer_that_was_armed_long_ago_may_fire_as_late_as_its_length_allows() -> None:
    """An eighth of the two hours that it was set to, not of the minute that is left."""
    ours: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 60, "expires": 250.0}
    assert watch(table(1000.0, idle(0.0, slack=131.0) | ours)).forecast.verdict[0] == Verdict.LATE
    assert watch(table(1000.0, idle(0.0, slack=16.0) | ours)).forecast.verdict[0] == Verdict.SAFE


def test_a_check_that_is_overdue_sets_the_timer_to_no_more_than_is_left_from_now_on() -> None:
    """The timer of the scan before fired since, as late as it may: what is overdue now was set then, and checks yet."""
    ours: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 265, "slack": 33.0}
    before = table(1000.0, idle(0.0, expires=50.0) | ours)
    overdue = table(1250.0, idle(150.0, expires=0.0, segments_in=11, segments_out=11) | ours)
    assert said(before, overdue) == (Verdict.SAFE, Due.KEEPALIVE, 115.0, True)


def test_an_empty_table_is_no_trouble() -> None:
    assert len(watch(table(1000.0)).forecast.verdict) == 0
    assert np.array_equal(watch(table(1000.0, idle(1.0)), table(1015.0)).activity.cookie, [])


def untold(seconds: float, keepalive: Switch = Switch.UNKNOWN) -> Socket:
    """A socket of a system that shows neither timers nor probes."""
    return idle(seconds, timer=Timer.UNSEEN, keepalive=keepalive)


def test_an_idle_time_that_is_not_known_leaves_the_verdict_open() -> None:
    """Neither a warning nor an all-clear may rest on a guess."""
    for switch in Switch:
        assert verdict(untold(math.nan, switch)) is Verdict.UNKNOWN
    assert verdict(idle(math.nan, timer=Timer.KEEPALIVE, expires=100.0)) is Verdict.UNKNOWN


def test_a_keepalive_that_is_not_known_is_not_bare_and_not_cut() -> None:
    """It may be on, and its probes unseen."""
    for switch in (Switch.UNKNOWN, Switch.ON):
        assert verdict(untold(10.0, switch)) is Verdict.UNKNOWN
        assert verdict(untold(301.0, switch)) is Verdict.UNKNOWN


def test_a_keepalive_that_is_known_to_be_off_is_bare() -> None:
    assert verdict(untold(10.0, Switch.OFF)) is Verdict.BARE


def test_a_cut_is_never_certain_where_probes_are_not_seen() -> None:
    """The peer may have probed all the time."""
    scans = [table(now, untold(now - 1000.0, Switch.OFF)) for now in (1000.0, 1300.0, 1600.0)]
    forecast = watch(*scans).forecast
    assert (forecast.verdict[0], bool(forecast.confirmed[0])) == (Verdict.CUT, False)


def test_a_path_that_never_forgets_makes_safe_even_what_is_not_known() -> None:
    assert verdict(untold(math.nan), timeout=FOREVER) is Verdict.SAFE


def test_an_idle_time_that_the_engine_tells_counts_from_the_start() -> None:
    """The timer would show it only in time: it still runs from before 60 s without a packet had passed."""
    told = idle(50.0, timer=Timer.KEEPALIVE, expires=10.0, keepalive=Switch.ON, keepidle=600)
    assert verdict(told) is Verdict.LATE
    assert verdict(told, timeout=1000.0) is Verdict.SAFE


def test_a_timer_that_runs_longer_than_what_the_engine_tells_is_what_counts() -> None:
    """It was armed before the setting was lowered, and is not armed anew."""
    told = idle(0.0, timer=Timer.KEEPALIVE, expires=7200.0, keepalive=Switch.ON, keepidle=180)
    assert verdict(told) is Verdict.LATE


PROBING: Socket = {
    "timer": Timer.KEEPALIVE,
    "keepalive": Switch.ON,
    "keepidle": 5,
    "keepintvl": 5,
    "keepcnt": 9,
    "slack": 0.1,
}


def unanswered(**others: Unpack[Socket]) -> tuple[Verdict, Due, float, bool]:
    """What is said of a socket whose first probe was sent 2 s ago and has no answer yet."""
    socket: Socket = PROBING | {"probes": 1} | others
    return said(table(1000.0, {"since_packet": 2.0, "expires": 3.0} | socket))


def said(*scans: SocketTable) -> tuple[Verdict, Due, float, bool]:
    """Verdict, what comes next and in how many seconds, and whether that is certain."""
    forecast = watch(*scans).forecast
    due_in = round(float(forecast.due_at[0]) - forecast.now, 3)
    return Verdict(forecast.verdict[0]), Due(forecast.due[0]), due_in, bool(forecast.confirmed[0])


def test_a_connection_that_its_user_timeout_ends_is_not_safe_and_it_is_known_when() -> None:
    """With a user timeout the first check after it, with a probe unanswered, ends the connection."""
    assert unanswered(**idle(7.0, user_timeout=8000)) == (Verdict.LATE, Due.END, 3.0, False)
    assert unanswered(**idle(7.0, user_timeout=11_000)) == (Verdict.SAFE, Due.KEEPALIVE, 3.0, True)
    assert unanswered(**idle(7.0)) == (Verdict.SAFE, Due.KEEPALIVE, 3.0, True)


def test_a_user_timeout_that_may_be_over_at_the_next_check_leaves_safe_uncertain() -> None:
    """The timer may fire 0.1 s later than it says."""
    assert unanswered(**idle(7.0, user_timeout=10_050)) == (Verdict.SAFE, Due.KEEPALIVE, 3.0, False)


def test_a_user_timeout_ends_nothing_while_probes_are_answered() -> None:
    assert unanswered(**idle(2.0, probes=0, user_timeout=1000)) == (Verdict.SAFE, Due.KEEPALIVE, 3.0, True)


def test_the_last_of_a_sockets_probes_is_not_followed_by_another() -> None:
    assert unanswered(**idle(17.0, probes=2, keepcnt=3)) == (Verdict.SAFE, Due.KEEPALIVE, 3.0, True)
    assert unanswered(**idle(22.0, probes=3, keepcnt=3)) == (Verdict.LATE, Due.END, 3.0, False)


def test_a_connection_that_its_kernel_gives_up_is_not_safe_because_its_path_never_forgets() -> None:
    socket = idle(7.0, expires=3.0, probes=1, user_timeout=8000) | PROBING
    assert verdict(socket, timeout=FOREVER) is Verdict.LATE


def test_another_packet_is_not_certain_where_no_user_timeout_is_read() -> None:
    """sock_diag has no attribute for it."""
    before, resent = table(990.0, idle(0.0)), idle(10.0, timer=Timer.RETRANSMIT, expires=2.0, retransmits=2)
    assert said(before, table(1000.0, resent | {"segments_out": 12})) == (Verdict.SAFE, Due.RETRANSMIT, 2.0, False)


def resent(**others: Unpack[Socket]) -> tuple[Verdict, Due, float, bool]:
    """What is said of a socket that was last acknowledged 30 s ago and last sent 4 s ago."""
    lost: Socket = {
        "timer": Timer.RETRANSMIT,
        "expires": 4.0,
        "since_sent": 4.0,
        "keepalive": Switch.OFF,
        "keepidle": 60,
    }
    return said(table(990.0, idle(20.0)), table(1000.0, idle(30.0) | lost | others))


def test_data_that_is_not_acknowledged_within_the_user_timeout_ends_the_connection() -> None:
    """It counts from the first retransmission, which nobody saw: of three, 1.2 s before the last one, or earlier."""
    assert resent(retransmits=3, user_timeout=9000) == (Verdict.LATE, Due.END, 4.0, False)
    assert resent(retransmits=3, user_timeout=20_000) == (Verdict.SAFE, Due.RETRANSMIT, 4.0, False)
    assert resent(retransmits=3, user_timeout=40_000) == (Verdict.SAFE, Due.RETRANSMIT, 4.0, False)
    assert resent(retransmits=0, user_timeout=1000) == (Verdict.SAFE, Due.RETRANSMIT, 4.0, True)
    assert resent(retransmits=3) == (Verdict.SAFE, Due.RETRANSMIT, 4.0, True)


def test_a_window_that_stays_closed_for_the_user_timeout_ends_the_connection() -> None:
    """Even if the peer answers (icsk_probes_tstamp): it counts from the first probe, which nobody saw."""
    closed: Socket = {"timer": Timer.ZERO_WINDOW, "keepalive": Switch.OFF, "keepidle": 7200, "expires": 5.0}
    scans = [table(1000.0, idle(20.0, since_packet=1.0, user_timeout=limit) | closed) for limit in (0, 24_000)]
    assert [bool(watch(scan).forecast.confirmed[0]) for scan in scans] == [True, False]


# what is not answered


@pytest.mark.parametrize(
    ("silent", "since_sent", "expires", "retransmits", "ends_in"),
    [
        (30.0, 6.0, 6.8, 6, None),  # the first one left 18.6 s ago
        (30.0, 8.0, 4.8, 6, 904.0),  # 20.6 s ago
        (300.0, 25.0, 26.2, 8, 848.6),  # 51.2 - 0.2 + 25 s ago
        (2000.0, 100.0, 20.0, 15, 704.6),  # the waits before are not known: at least 220 s ago
        (60.0, 0.2, 0.8, 56, 877.4),  # by TCP_RTO_MAX_MS each wait is 1 s at most: at least 47 s ago
    ],
)
def test_data_that_is_not_answered_for_twenty_seconds_makes_no_connection_safe(
    silent: float, since_sent: float, expires: float, retransmits: int, ends_in: float | None
) -> None:
    """However long the path waits. It is sent again for 924.6 s as shipped, with twice the wait each time."""
    hung = idle(silent, since_sent=since_sent, timer=Timer.RETRANSMIT, expires=expires, retransmits=retransmits)
    outlook = watch(table(1000.0, hung), path=Path("patient", 3000.0, CONFIGURED)).forecast
    found = Verdict(outlook.verdict[0]), Due(outlook.due[0]), bool(outlook.confirmed[0])
    if ends_in is None:
        assert found[:2] == (Verdict.SAFE, Due.RETRANSMIT)
        return
    assert found == (Verdict.LATE, Due.END, False)
    assert outlook.due_at[0] - 1000.0 == pytest.approx(ends_in, abs=0.5)
    assert verdict(hung, timeout=FOREVER) is Verdict.LATE


def test_an_answer_before_the_data_was_sent_again_counts_for_nothing() -> None:
    """What is not answered for longer than the peer was silent has been answered in part."""
    busy = idle(9.0, since_sent=8.0, timer=Timer.RETRANSMIT, expires=40.0, retransmits=6)
    assert verdict(busy) is Verdict.SAFE


@pytest.mark.parametrize(("probes", "silent", "then"), [(1, 60.0, Verdict.SAFE), (2, 60.0, Verdict.LATE)])
def test_a_closed_window_whose_probes_are_not_answered_makes_no_connection_safe(
    probes: int, silent: float, then: Verdict
) -> None:
    """The answer to the last one may be on its way."""
    assert verdict(idle(silent, timer=Timer.ZERO_WINDOW, expires=30.0, probes=probes)) is then


@pytest.mark.parametrize(
    ("probes", "expires", "then"),
    [
        (1, 12.0, (Verdict.SAFE, Due.KEEPALIVE, 12.0, True)),  # 19 s ago
        (1, 10.0, (Verdict.LATE, Due.END, 10.0 + 8 * 31, False)),  # 21 s ago
        (4, 10.0, (Verdict.LATE, Due.END, 10.0 + 5 * 31, False)),
    ],
)
def test_keepalive_that_is_not_answered_for_twenty_seconds_makes_no_connection_safe(
    probes: int, expires: float, then: tuple[Verdict, Due, float, bool]
) -> None:
    """It is known when the last of its probes is over."""
    left: Socket = {"keepidle": 60, "keepintvl": 31, "keepcnt": 9, "timer": Timer.KEEPALIVE, "keepalive": Switch.ON}
    silent = 60 + 31.0 * probes - expires
    assert said(table(1000.0, idle(silent, probes=probes, expires=expires, since_packet=31.0 - expires) | left)) == then


def test_where_the_number_of_probes_is_not_read_the_verdict_is_about_the_next_one() -> None:
    """When the connection would end is not known then."""
    left: Socket = {"keepidle": 60, "keepintvl": 31, "keepcnt": 0, "timer": Timer.KEEPALIVE, "keepalive": Switch.ON}
    said_of = said(table(1000.0, idle(174.0, probes=4, expires=10.0, since_packet=21.0) | left))
    assert said_of[:2] == (Verdict.SAFE, Due.KEEPALIVE)


# paths that count only data


def by_proxy(*tables: SocketTable) -> tuple[Verdict, Due, bool]:
    forecast = watch(*tables, path=PROXY).forecast
    return Verdict(forecast.verdict[0]), Due(forecast.due[0]), bool(forecast.confirmed[0])


def test_keepalive_keeps_nothing_where_only_data_counts() -> None:
    """Neither ours nor the peer's; a proxy answers both, and closes all the same."""
    on = table(1000.0, idle(10.0, timer=Timer.KEEPALIVE, expires=20.0, keepalive=Switch.ON, keepidle=30))
    assert by_proxy(on) == (Verdict.BARE, Due.NOTHING, True)
    assert by_proxy(*probed(100.0)) == (Verdict.BARE, Due.NOTHING, True)
    assert by_proxy(table(1000.0, idle(10.0, timer=Timer.ZERO_WINDOW, expires=1.0)))[0] is Verdict.BARE


def test_only_data_refreshes_a_path_that_counts_only_data() -> None:
    """An acknowledgement or a probe that the counters show is none."""
    socket = idle(1.0, timer=Timer.KEEPALIVE, expires=5.0) | {"since_sent": 299.0, "since_received": 299.0}
    judgement = watch(table(1000.0, socket), path=PROXY)
    assert judgement.activity.last_packet[0] == pytest.approx(701.0)
    probe = socket | {"since_sent": 301.0, "since_received": 301.0, "segments_in": 11, "segments_out": 11}
    assert by_proxy(table(1000.0, socket), table(1002.0, probe)) == (Verdict.CUT, Due.NOTHING, True)
    said = socket | {"since_sent": 0.5, "since_received": 301.0, "segments_out": 11}
    assert by_proxy(table(1000.0, socket), table(1002.0, said))[0] is Verdict.BARE


def test_data_to_be_sent_again_may_keep_a_path_that_counts_only_data() -> None:
    """It is never certain: the proxy may have read it, and its acknowledgement be lost."""
    pending = idle(290.0, since_sent=1.0, timer=Timer.RETRANSMIT, expires=5.0, retransmits=2)
    assert by_proxy(table(1000.0, pending)) == (Verdict.SAFE, Due.RETRANSMIT, False)


def test_data_that_left_after_the_cut_and_is_not_acknowledged_proves_nothing() -> None:
    quiet, late = idle(290.0), idle(320.0, timer=Timer.RETRANSMIT, expires=1.0, retransmits=1, segments_out=11)
    late["since_sent"] = 5.0
    assert by_proxy(table(1000.0, quiet), table(1030.0, late)) == (Verdict.CUT, Due.RETRANSMIT, True)


def test_data_heard_after_a_longer_silence_lengthens_the_timeout_of_a_path_that_counts_only_data() -> None:
    heard = idle(2.0, segments_in=11) | {"since_sent": 420.0}
    judgement = watch(table(1000.0, idle(390.0)), table(1030.0, heard), path=PROXY)
    assert judgement.forecast.timeout[0] == pytest.approx(390.0)


def remembered(*tables: SocketTable, path: Path) -> Judgement:
    """The judgement of the last of several scans, each of which remembers what the one before said."""
    memory = nothing_known()
    for each in tables:
        judgement = judge(each, memory, [path], [])
        memory = dataclasses.replace(judgement.activity, judged=judgement.forecast.verdict)
    return judgement


@pytest.mark.parametrize("answered", [False, True])
def test_the_time_that_the_machine_slept_counts_on_a_path_that_counts_only_data(answered: bool) -> None:
    """The ages stand still while it sleeps, and do not catch up: at 1200 s data of 990 s is 110 s old."""
    woken = dataclasses.replace(table(1115.0, idle(25.0)), asleep=100.0)
    probe: Socket = {"segments_in": 11, "segments_out": 11} if answered else {}
    answer: Socket = {"since_acked": 1.0} if answered else {}
    later = table(1130.0, idle(40.0) | probe | answer), table(1295.0, idle(205.0) | probe)
    judgement = remembered(table(1000.0, idle(10.0)), woken, *later, path=PROXY)
    assert judgement.activity.last_packet[0] == pytest.approx(990.0)
    assert judgement.forecast.verdict[0] == Verdict.CUT


def test_what_has_expired_while_the_machine_slept_stays_so_on_a_path_that_counts_only_data() -> None:
    woken = dataclasses.replace(table(1415.0, idle(25.0)), asleep=400.0)
    forecast = remembered(table(1000.0, idle(10.0)), woken, table(1430.0, idle(40.0)), path=PROXY).forecast
    assert forecast.verdict[0] == Verdict.CUT


def test_a_probe_that_the_kernels_clock_shows_keeps_nothing_where_only_data_counts() -> None:
    """The peer's, which came just before the machine fell asleep."""
    quiet = table(1000.0, idle(200.0, since_packet=200.0))
    probed = table(1400.0, idle(220.0, since_packet=0.2, segments_in=11, segments_out=11))
    woken = dataclasses.replace(probed, asleep=380.0)
    assert remembered(quiet, woken, path=PROXY).forecast.verdict[0] == Verdict.CUT


def test_data_of_before_that_the_peer_acknowledges_counts_on_a_path_that_counts_only_data() -> None:
    """It was to be sent again at the scan before, and so had not counted."""
    pending = idle(50.0, timer=Timer.RETRANSMIT, expires=1.0, retransmits=1) | {"since_sent": 20.0}
    arrived = idle(65.0, segments_in=11) | {"since_sent": 35.0, "since_acked": 5.0}
    judgement = remembered(table(1000.0, pending), table(1015.0, arrived), path=PROXY)
    assert judgement.activity.last_packet[0] == pytest.approx(980.0)


def test_other_paths_beside_one_that_counts_only_data_are_judged_as_before() -> None:
    """Each row by its own path."""
    on = idle(10.0, timer=Timer.KEEPALIVE, expires=20.0)
    office = Path("office", 300.0, CONFIGURED, (ipaddress.ip_network("10.0.0.0/8"),))
    scan = table(1000.0, on | {"cookie": 1, "remote": "10.0.0.1"}, on | {"cookie": 2})
    forecast = judge(scan, nothing_known(), [PROXY, office], []).forecast
    assert forecast.verdict.tolist() == [Verdict.SAFE, Verdict.BARE]


@pytest.mark.parametrize(
    ("path", "since", "certain"),
    [(FIREWALL, 1000.0, False), (FIREWALL, 700.1, False), (FIREWALL, 700.0, True), (PROXY, 1000.0, True)],
)
def test_a_peer_that_may_have_probed_unseen_makes_bare_presumed(path: Path, since: float, certain: bool) -> None:
    """It must have probed within one idle timeout, if it keeps the connection; where only data counts, none does."""
    judgement = with_bare_presumed(watch(table(1000.0, idle(10.0), idle(400.0)), path=path), since)
    assert judgement.forecast.verdict.tolist() == [Verdict.BARE, Verdict.CUT]
    assert judgement.forecast.confirmed[0] == certain
    assert judgement.forecast.confirmed[1] == watch(table(1000.0, idle(400.0)), path=path).forecast.confirmed[0]
