"""Transitions are told, states are not."""

from collections.abc import Mapping

import pytest

from keepaliveD.model import Path, Report, Verdict
from keepaliveD.policy.engine import Engine, Rules
from keepaliveD.policy.sysctls import OnDrift
from keepaliveD.sockets import SocketTable, Timer
from tests.policy.tables import Socket, idle, table

NOTHING: Mapping[str, int] = {}
KEPT: Socket = {"timer": Timer.KEEPALIVE, "expires": 180.0, "segments_in": 11}


def engine(timeout: float = 300.0, warn_before: float = 60.0) -> Engine:
    return Engine(Rules({}, OnDrift.REAPPLY, [Path("firewall", timeout, "configured")], [], warn_before))


def told(engine: Engine, scan: SocketTable) -> list[tuple[str, str]]:
    """What is told of each connection, and what was told before."""
    _, actions = engine.observe(scan, NOTHING)
    return [
        (connection.verdict.label, before.label)
        for action in actions
        if isinstance(action, Report)
        for connection, before in zip(action.connections, action.before, strict=True)
    ]


def test_a_busy_bare_connection_is_not_worth_a_word() -> None:
    """Most connections are bare; only those that fall silent matter."""
    assert told(engine(), table(1000.0, idle(0.0))) == []


def test_a_bare_connection_is_told_once_when_the_cut_is_near() -> None:
    judge = engine()
    assert told(judge, table(1000.0, idle(0.0))) == []
    assert told(judge, table(1239.9, idle(239.9))) == []
    assert told(judge, table(1240.0, idle(240.0))) == [("bare", "unknown")]
    assert told(judge, table(1255.0, idle(255.0))) == []


def test_the_warning_never_comes_before_half_the_timeout() -> None:
    """Else a short timeout would make every connection a warning."""
    judge = engine(timeout=20.0)
    assert told(judge, table(1000.0, idle(9.9))) == []
    assert told(judge, table(1000.5, idle(10.4))) == [("bare", "unknown")]


def test_the_cut_is_told_once() -> None:
    judge = engine()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1300.0, idle(300.0))) == [("cut", "bare")]
    assert told(judge, table(1315.0, idle(315.0))) == []


def test_a_cut_that_is_not_certain_is_not_told() -> None:
    """Connections that were idle before the start may have a peer that probes."""
    judge = engine()
    assert told(judge, table(1000.0, idle(5000.0))) == []
    assert told(judge, table(1299.0, idle(5299.0))) == []
    assert told(judge, table(1300.0, idle(5300.0))) == [("cut", "unknown")]


def test_a_connection_that_carries_a_packet_after_the_cut_is_told_to_live() -> None:
    judge = engine()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1300.0, idle(300.0)))
    alive = table(1315.0, idle(310.0, segments_in=11) | {"since_received": 5.0})
    assert told(judge, alive) == [("bare", "cut")]


def test_keepalive_that_is_switched_on_in_time_is_told() -> None:
    judge = engine()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1265.0, idle(5.0, **KEPT))) == [("safe", "bare")]
    assert told(judge, table(1280.0, idle(20.0, **(KEPT | {"expires": 165.0})))) == []


def test_a_retransmit_is_no_recovery() -> None:
    """It keeps the connection known for now, but promises nothing."""
    judge = engine()
    told(judge, table(1000.0, idle(0.0)))
    told(judge, table(1250.0, idle(250.0)))
    assert told(judge, table(1265.0, idle(265.0, timer=Timer.RETRANSMIT, expires=0.2))) == []


def test_a_connection_that_falls_silent_again_is_told_again_only_after_an_hour() -> None:
    """One that speaks every four minutes would else fill the journal."""
    judge = engine()
    told(judge, table(1000.0, idle(0.0)))
    assert told(judge, table(1250.0, idle(250.0))) == [("bare", "unknown")]
    told(judge, table(1265.0, idle(1.0, segments_in=11)))
    assert told(judge, table(1510.0, idle(246.0, segments_in=11))) == []
    told(judge, table(4600.0, idle(1.0, segments_in=12)))
    assert told(judge, table(4850.0, idle(251.0, segments_in=12))) == [("bare", "bare")]


def test_a_connection_that_goes_from_late_to_bare_is_told() -> None:
    judge = engine()
    told(judge, table(1000.0, idle(0.0, timer=Timer.KEEPALIVE, expires=7200.0)))
    late = table(1250.0, idle(250.0, timer=Timer.KEEPALIVE, expires=6950.0))
    assert told(judge, late) == [("late", "unknown")]
    assert told(judge, table(1265.0, idle(265.0))) == [("bare", "late")]


def test_a_connection_whose_peer_probes_is_never_told() -> None:
    """Facts 11: only the segment counters move; thirty hours of it."""
    judge = engine()
    for scan in range(7200):
        probes = (scan * 15) // 120
        assert told(judge, table(1000.0 + scan * 15, idle(scan * 15.0, segments_in=10 + probes))) == []


def test_the_rules_may_change_and_the_memory_stays() -> None:
    judge = engine()
    told(judge, table(1000.0, idle(0.0)))
    assert told(judge, table(1250.0, idle(250.0))) == [("bare", "unknown")]
    judge.follow(Rules({}, OnDrift.REAPPLY, [Path("firewall", 310.0, "configured")], [], 60.0))
    assert told(judge, table(1265.0, idle(265.0))) == []


@pytest.mark.parametrize("many", [1, 1000])
def test_connections_that_are_gone_are_forgotten(many: int) -> None:
    judge = engine()
    told(judge, table(1250.0, *(idle(250.0, cookie=cookie) for cookie in range(many))))
    assert told(judge, table(1265.0)) == []
    assert len(told(judge, table(1280.0, *(idle(280.0, cookie=cookie) for cookie in range(many))))) == many


def test_the_report_says_what_was_told_before() -> None:
    judge = engine()
    _, actions = judge.observe(table(1250.0, idle(250.0)), NOTHING)
    assert isinstance(actions[0], Report)
    assert actions[0].before == (Verdict.UNKNOWN,)
    connection = actions[0].connections[0]
    assert (str(connection.local), str(connection.remote)) == ("192.0.2.1:40000", "198.51.100.1:22")
    assert (connection.idle, connection.left) == (250.0, 50.0)
