"""What is known of a socket's idle time where the engine does not read it."""

import dataclasses

import numpy as np
import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Arming, ArmingResult
from keepaliveD.model.sockets import Timer
from keepaliveD.policy.connections import connections
from keepaliveD.policy.idle_times import learn_armed
from keepaliveD.policy.judge import judge
from tests.support.tables import FIREWALL, idle, table, watch

BEFORE = SocketKeepalive(True, Keepalive(280, 75, 9))


@pytest.mark.parametrize("result", [ArmingResult.ARMED, ArmingResult.FAILED])
def test_a_socket_that_was_armed_has_the_idle_time_that_was_set(result: ArmingResult) -> None:
    """Its timer ends so near to the instant at which the earlier one would have that it might be that one."""
    known = watch(table(1000.0, idle(150.0, timer=Timer.KEEPALIVE, expires=130.0)))
    memory = dataclasses.replace(known.activity, knows_keepidle=known.activity.cookie > 0)
    after = SocketKeepalive(True, Keepalive(130, 20, 31))
    arming = Arming(connections(known, np.array([0])), result, BEFORE, after)
    memory = learn_armed(memory, [arming])
    assert memory.keepidle[0] == (130.0 if result is ArmingResult.ARMED else 280.0)
    later = table(1150.0, idle(0.0, timer=Timer.KEEPALIVE, expires=130.0, segments_in=11, segments_out=11))
    judgement = judge(later, memory, [FIREWALL], [])
    assert judgement.activity.knows_keepidle[0]
    assert Verdict(judgement.forecast.verdict[0]) is Verdict.SAFE
