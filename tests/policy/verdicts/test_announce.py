"""Transitions are told, states are not."""

import itertools

import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.rules import OnDrift, Path, Rules
from keepaliveD.model.sockets import SocketTable, Switch, Timer
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.verdicts.announce import AGAIN_AFTER
from tests.support.tables import CONFIGURED, Socket, idle, table

KEPT: Socket = {"timer": Timer.KEEPALIVE, "expires": 180.0, "segments_in": 11}
KNOWN: Socket = {"keepalive": Switch.ON, "keepidle": 180, "slack": 2.0}


def decider(timeout: float = 300.0, warn_before: float = 60.0) -> ScanDecider:
    return ScanDecider(Rules({}, OnDrift.REAPPLY, [Path("firewall", timeout, CONFIGURED)], [], warn_before))


def told(decider: ScanDecider, scan: SocketTable) -> list[tuple[str, str]]:
    """What is told of each connection, and what was told before."""
    _, actions = decider.observe(scan)
    return [
        (connection.verdict.label, before.label)
        for action in actions
        if isinstance(action, ReportConnections)
        for connection, before in zip(action.connections, action.before, strict=True)
    ]


def test_a_busy_bare_connection_is_not_worth_a_word() -> None:
    """Most connections are bare; only those that fall silent matter."""
    assert told(decider(), table(1000.0, idle(0.0))) == []


def test_a_bare_connection_is_reported_once_when_the_cut_is_near() -> None:
    judge = decider()
    assert told(judge, table(1000.0, idle(0.0))) == []
    assert told(judge, table(1239.8, idle(239.8))) == []
    assert told(judge, table(1240.0, idle(240.0))) == [("bare", "unknown")]
    assert told(judge, table(1255.0, idle(255.0))) == []


def test_the_warning_never_comes_before_half_the_timeout() -> None:
    """Else a short timeout would make every connection a warning."""
    judge = decider(timeout=20.0)
    assert told(judge, table(1000.0, idle(9.9))) == []
    assert told(judge, table(1000.5, idle(10.4))) == [("bare", "unknown")]


def test_the_cut_is_reported_once() -> None:
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1300.0, idle(300.0))) == [], "its last packet may still be on its way"
    assert told(judge, table(1300.2, idle(300.2))) == [("cut", "bare")]
    assert told(judge, table(1315.0, idle(315.0))) == []


def test_a_cut_that_is_not_certain_is_not_reported() -> None:
    """Connections that were idle before the start may have a peer that probes."""
    judge = decider()
    assert told(judge, table(1000.0, idle(5000.0))) == []
    assert told(judge, table(1299.0, idle(5299.0))) == []
    assert told(judge, table(1300.2, idle(5300.2))) == [("cut", "unknown")]


def test_a_connection_that_carries_a_packet_after_the_cut_is_reported_as_alive() -> None:
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1300.2, idle(300.2)))
    alive = table(1315.0, idle(310.0, segments_in=11) | {"since_received": 5.0})
    assert told(judge, alive) == [("bare", "cut")]


def test_keepalive_that_is_switched_on_in_time_is_reported() -> None:
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1265.0, idle(5.0) | KEPT | KNOWN)) == [("safe", "bare")]
    assert told(judge, table(1280.0, idle(20.0) | KEPT | KNOWN | {"expires": 165.0})) == []


def test_a_warning_is_not_taken_back_while_the_probe_that_is_to_keep_the_connection_is_not_answered() -> None:
    """A program switched keepalive on: its first probe left at once, and the path may have forgotten the connection."""
    judge = decider()
    on: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 5, "keepintvl": 5, "slack": 0.1}
    told(judge, table(1000.0, idle(0.0)))
    assert told(judge, table(1250.0, idle(250.0))) == [("bare", "unknown")]
    probed = idle(251.0, probes=1, expires=4.6, segments_out=11, since_packet=0.4) | on
    assert told(judge, table(1251.0, probed)) == []
    answered = idle(251.0, expires=4.0, segments_in=11, segments_out=11, since_packet=0.3) | on | {"since_acked": 0.3}
    assert told(judge, table(1252.0, answered)) == [("safe", "bare")]


def test_keepalive_of_an_unknown_length_is_no_recovery_yet() -> None:
    """Its timer may be the check of a much longer one."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1265.0, idle(5.0, **KEPT))) == []


def test_a_presumed_cut_is_reported_as_soon_as_what_was_sent_since_is_not_answered() -> None:
    """The peer's probes may have passed unseen before; now nobody answers."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1295.0, idle(295.0)))
    sent = idle(310.0, timer=Timer.RETRANSMIT, expires=1.0, segments_out=12, retransmits=1) | {"since_sent": 0.5}
    assert told(judge, table(1310.0, sent)) == [("cut", "bare")]
    assert told(judge, table(1325.0, sent | {"segments_out": 14, "retransmits": 3})) == []


def test_a_running_timer_that_is_longer_than_the_idle_time_is_no_recovery() -> None:
    """It runs for the interval, 400 s, as all later ones will; netlink does not show that.

    This time a probe of the peer keeps the connection.
    """
    judge = decider()
    scans = [
        table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=150.0)),
        table(1020.0, idle(10.0, timer=Timer.KEEPALIVE, expires=130.0, segments_in=11)),
        table(1151.0, idle(141.0, timer=Timer.KEEPALIVE, expires=9.0, segments_in=11)),
        table(1170.0, idle(160.0, timer=Timer.KEEPALIVE, expires=391.0, segments_in=12) | {"since_acked": 9.0}),
        table(1405.0, idle(395.0, timer=Timer.KEEPALIVE, expires=156.0, segments_in=12) | {"since_acked": 244.0}),
    ]
    assert [told(judge, scan) for scan in scans] == [[], [], [], [], [("late", "unknown")]]
    probed = idle(400.0, timer=Timer.KEEPALIVE, expires=151.0, segments_in=13) | {"since_acked": 249.0}
    judgement, actions = judge.observe(table(1410.0, probed))
    assert (judgement.forecast.verdict[0], actions) == (Verdict.SAFE, [])


@pytest.mark.parametrize(("keepidle", "news"), [(280, []), (260, [("safe", "late")])])
def test_keepalive_that_may_come_too_late_next_time_is_no_recovery(keepidle: int, news: list[tuple[str, str]]) -> None:
    """This time its timer is known to fire early enough; the next one may fire up to 8/63 later."""
    judge = decider()
    on: Socket = {
        "timer": Timer.KEEPALIVE,
        "keepalive": Switch.ON,
        "keepintvl": 75,
        "slack": 0.0,
        "since_packet": 250.0,
    }
    late = idle(250.0, expires=6950.0, keepidle=7200) | on
    assert told(judge, table(1250.0, late)) == [("late", "unknown")]
    assert told(judge, table(1251.0, idle(251.0, expires=keepidle - 251.0, keepidle=keepidle) | on)) == news


def test_a_retransmit_is_no_recovery() -> None:
    """It keeps the connection known for now, but promises nothing."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1265.0, idle(265.0, timer=Timer.RETRANSMIT, expires=0.2))) == []


def test_a_connection_that_falls_silent_again_is_reported_again_only_after_an_hour() -> None:
    """One that speaks every four minutes would else fill the journal."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    assert told(judge, table(1250.0, idle(250.0))) == [("bare", "unknown")]
    told(judge, table(1265.0, idle(1.0, segments_in=11)))
    assert told(judge, table(1510.0, idle(246.0, segments_in=11))) == []
    told(judge, table(4600.0, idle(1.0, segments_in=12)))
    assert told(judge, table(4850.0, idle(251.0, segments_in=12))) == [("bare", "bare")]


def test_a_connection_that_goes_from_late_to_bare_is_reported() -> None:
    judge = decider()
    told(judge, table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=7200.0)))
    late = table(1250.0, idle(250.0, timer=Timer.KEEPALIVE, expires=6950.0))
    assert told(judge, late) == [("late", "unknown")]
    assert told(judge, table(1265.0, idle(265.0))) == [("bare", "late")]


def test_a_program_that_switches_keepalive_on_and_off_near_the_cut_is_warned_of_once_as_either() -> None:
    judge = decider(timeout=600.0)
    told(judge, table(1000.0, idle(0.0)))
    on: Socket = {"timer": Timer.KEEPALIVE, "expires": 6950.0}
    switched = itertools.cycle((on, Socket()))
    scans = [table(1000.0 + quiet, idle(quiet, **next(switched))) for quiet in range(541, 599, 2)]
    assert [news for scan in scans for news in told(judge, scan)] == [("late", "unknown"), ("bare", "late")]


@pytest.mark.long
def test_a_connection_whose_peer_probes_is_never_reported() -> None:
    """Facts 11: only the segment counters move; thirty hours of it."""
    judge = decider()
    for minute in range(30 * 60):
        assert told(judge, table(1000.0 + minute * 60, idle(minute * 60.0, segments_in=10 + minute // 2))) == []


def test_a_peer_whose_probe_is_due_only_after_the_cut_is_no_reason_to_be_quiet() -> None:
    """It probes every 310 s, and was heard because our own probe came in between."""
    judge = decider()
    scans = [
        table(1000.0, idle(1.0)),
        table(1100.0, idle(101.0, segments_in=11)),
        table(1101.0, idle(102.0, segments_in=11)),
        table(1300.0, idle(301.0, segments_in=12) | {"since_acked": 10.0}),
        table(1410.0, idle(411.0, segments_in=12) | {"since_acked": 120.0}),
        table(1411.0, idle(412.0, segments_in=13) | {"since_acked": 121.0}),
    ]
    assert [told(judge, scan) for scan in scans] == [[]] * len(scans)
    quiet = table(1650.0, idle(651.0, segments_in=13) | {"since_acked": 360.0})
    assert told(judge, quiet) == [("late", "unknown")]


def rhythm(judge: ScanDecider, *, own: bool) -> list[tuple[str, str]]:
    """What is told around two probes of a peer, 300 s apart, and 250 s after; our own probe may come in between."""
    acked: Socket = {"since_acked": 10.0} if own else {}
    later: Socket = {"since_acked": 129.0} if own else {}
    seen = 12 if own else 11
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1099.0, idle(99.0)))
    told(judge, table(1100.0, idle(100.0, segments_in=11)))
    told(judge, table(1280.0, idle(280.0, segments_in=seen) | acked))
    told(judge, table(1399.0, idle(399.0, segments_in=seen) | later))
    told(judge, table(1400.0, idle(400.0, segments_in=seen + 1) | later))
    return told(judge, table(1650.0, idle(650.0, segments_in=seen + 1) | {"since_acked": 380.0 if own else 650.0}))


def test_a_peer_whose_probe_may_be_in_time_is_a_reason_to_be_quiet_only_once_it_was() -> None:
    """Its period is as long as the timeout, as far as scans can tell: with our probe between, that was never tried."""
    assert rhythm(decider(), own=True) == [("late", "unknown")]
    assert rhythm(decider(), own=False) == []


def test_a_peer_whose_probe_once_came_after_more_than_the_timeout_is_no_reason_to_be_quiet() -> None:
    """The peer had kept the connection alone before. Its next probe took 305 s: only our own probe was in time."""
    judge = decider()
    rhythm(judge, own=False)
    told(judge, table(1660.0, idle(660.0, segments_in=13) | {"since_acked": 5.0}))
    told(judge, table(1705.0, idle(705.0, segments_in=13) | {"since_acked": 50.0}))
    told(judge, table(1710.0, idle(710.0, segments_in=14) | {"since_acked": 55.0}))
    assert told(judge, table(1960.0, idle(960.0, segments_in=14) | {"since_acked": 305.0})) == [("late", "unknown")]


def test_the_rules_may_change_and_the_memory_stays() -> None:
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    assert told(judge, table(1250.0, idle(250.0))) == [("bare", "unknown")]
    judge.follow(Rules({}, OnDrift.REAPPLY, [Path("firewall", 310.0, CONFIGURED)], [], 60.0))
    assert told(judge, table(1265.0, idle(265.0))) == []


def test_a_silence_survived_says_nothing_of_a_path_whose_timeout_is_written_anew() -> None:
    """Nobody writes a shorter one unless the firewall has changed."""
    judge, kept = decider(), KNOWN | {"timer": Timer.KEEPALIVE, "segments_in": 11}
    for now, scanned in ((1000.0, idle(0.0)), (1400.0, idle(400.0)), (1401.0, idle(0.0) | kept | {"expires": 180.0})):
        told(judge, table(now, scanned))
    for timeout, verdict in ((300.0, Verdict.SAFE), (100.0, Verdict.LATE)):
        judge.follow(Rules({}, OnDrift.REAPPLY, [Path("firewall", timeout, CONFIGURED)], [], 60.0))
        judgement, _ = judge.observe(table(1420.0, idle(19.0) | kept | {"expires": 161.0}))
        assert judgement.forecast.verdict.tolist() == [verdict]


def test_a_connection_that_goes_to_and_fro_is_taken_back_once_an_hour_and_its_changes_are_counted() -> None:
    """Somebody who was woken by each of them would stop reading."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    on: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 200, "expires": 5.0, "slack": 0.1}
    heard: list[tuple[str, str]] = []
    for number in range(20):
        quiet = 245.0 + 2 * number
        heard += told(judge, table(1000.0 + quiet, idle(quiet)))
        heard += told(judge, table(1001.0 + quiet, idle(quiet + 1) | on))
    assert heard == [("bare", "unknown"), ("safe", "bare"), ("bare", "safe")]
    _, actions = judge.observe(table(5000.0, idle(250.0, segments_in=11)))
    (report,) = (action for action in actions if isinstance(action, ReportConnections))
    assert report.unreported == (38,)


def test_a_connection_that_goes_to_and_fro_is_taken_back_again_once_it_has_settled() -> None:
    """That is an hour after it was last at risk, however long ago it was taken back."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    on: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 200, "expires": 5.0, "slack": 0.1}
    for now in (1250.0, 1270.0, 1285.0):
        told(judge, table(now, idle(now - 1000)))
        told(judge, table(now + 1, idle(now - 999) | on))
    kept = idle(1.0, segments_in=11) | on | {"expires": 199.0}
    assert told(judge, table(4884.0, kept)) == [], "an hour after it was taken back"
    assert told(judge, table(4886.0, kept)) == [("safe", "bare")]


def test_an_expiry_that_was_none_is_reported_again_only_after_an_hour() -> None:
    """Its program speaks every 310 to 320 s, and the configured timeout is too short: each silence is the longest."""
    judge = decider()
    now, reported = 1000.0, []
    told(judge, table(now, idle(0.0)))
    for number in range(1, 25):
        silence = 310.0 + number
        for age in (silence - 60.0, silence - 1.0, silence - 0.1):
            reported += [(now + age, *each) for each in told(judge, table(now + age, idle(age, segments_in=number)))]
        now += silence
        reported += [(now, *each) for each in told(judge, table(now, idle(0.0, segments_in=number + 1)))]
    expired = [at for at, verdict, _ in reported if verdict == "cut"]
    assert len(expired) == 2, "in two hours"
    assert all(later - earlier >= AGAIN_AFTER for earlier, later in itertools.pairwise(expired))


def test_a_cut_that_was_not_one_counts_as_taken_back() -> None:
    """Whoever was told that the connection lives is not told an hour later that it is safe, to and fro."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0)))
    on: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "slack": 0.1}
    assert told(judge, table(1300.2, idle(300.2))) == [("cut", "unknown")]
    once = idle(0.1, segments_in=11, expires=279.0, keepidle=280) | on
    assert told(judge, table(1301.0, once)) == [("safe", "cut")], "but the next probe may come too late"
    assert told(judge, table(1550.0, idle(249.0, segments_in=11))) == [("bare", "safe")]
    assert told(judge, table(1551.0, idle(0.1, segments_in=12, expires=199.0, keepidle=200) | on)) == []


def test_of_a_connection_within_this_host_one_end_is_reported() -> None:
    """Both ends are bare, and there is one thing to do about it."""
    one = idle(250.0, cookie=1, local="10.0.0.1", remote="10.0.0.2", local_port=40000, remote_port=5432)
    other = idle(250.0, cookie=2, local="10.0.0.2", remote="10.0.0.1", local_port=5432, remote_port=40000)
    assert told(decider(), table(1250.0, one, other)) == [("bare", "unknown")]
    assert told(decider(), table(1250.0, other, one)) == [("bare", "unknown")]


def test_whoever_has_the_same_addresses_in_a_namespace_of_his_own_is_not_its_other_end() -> None:
    """He gives himself both, connects the other way round, and nobody would be warned of this connection."""
    one = idle(250.0, cookie=1, local="10.0.0.2", remote="10.0.0.1", local_port=40000, remote_port=5432, netns=1)
    twin = idle(250.0, cookie=2, local="10.0.0.1", remote="10.0.0.2", local_port=5432, remote_port=40000, netns=2)
    assert len(told(decider(), table(1250.0, one, twin))) == 2


def test_two_connections_with_the_same_ends_in_two_containers_are_two() -> None:
    assert len(told(decider(), table(1250.0, idle(250.0, cookie=1), idle(250.0, cookie=2)))) == 2


@pytest.mark.parametrize("many", [1, 1000])
def test_connections_that_are_gone_are_forgotten(many: int) -> None:
    judge = decider()
    told(judge, table(1250.0, *(idle(250.0, cookie=cookie) for cookie in range(1, many + 1))))
    assert told(judge, table(1265.0)) == []
    assert len(told(judge, table(1280.0, *(idle(280.0, cookie=cookie) for cookie in range(1, many + 1))))) == many


def test_the_report_says_what_was_reported_before() -> None:
    judge = decider()
    _, actions = judge.observe(table(1250.0, idle(250.0)))
    assert isinstance(actions[0], ReportConnections)
    assert actions[0].before == (Verdict.UNKNOWN,)
    connection = actions[0].connections[0]
    assert (str(connection.local), str(connection.remote)) == ("192.0.2.1:40000", "198.51.100.1:22")
    assert (connection.idle, round(connection.left, 1)) == (250.0, 49.9)


def test_a_scan_without_news_takes_no_memory_for_what_was_reported() -> None:
    """A million connections, of which none was ever reported, would take 18 MB more."""
    judge = decider()
    told(judge, table(1000.0, idle(0.0), idle(0.0)))
    assert told(judge, table(1015.0, idle(15.0), idle(15.0))) == []
    memory = judge.memory
    reports = (memory.reported, memory.reported_at, memory.withdrawn_at, memory.unreported)
    assert [column.strides for column in reports] == [(0,)] * len(reports), "one value for all rows"
