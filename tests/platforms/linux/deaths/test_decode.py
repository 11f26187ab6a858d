"""What the records of the BPF program become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keepaliveD.model.deaths import Reset
from keepaliveD.model.sockets import TcpState
from keepaliveD.platforms.linux.bpf.deaths import NEVER, RECORD
from keepaliveD.platforms.linux.bpf.libbpf import JIFFIES
from keepaliveD.platforms.linux.deaths.decode import decode

TIMES = ("since_sent", "since_received", "since_acked", "since_fin", "since_peer_probe", "since_syn")
NINE = 9 * JIFFIES
LAST_ACK = 9


def silence(**facts: Any) -> float:
    """How long a connection was quiet that a reset ended, and of which the program tells this."""
    record = np.zeros(1, RECORD)
    for name in (*TIMES, "since_lost", "fin_silence"):
        record[name] = NEVER
    for name, value in {"reset": Reset.RECEIVED, "error": 104, "timeout": 200_000, **facts}.items():
        record[name] = value
    return float(decode(record)["silence"][0])


QUIET = {"since_sent": NINE, "since_received": NINE, "since_acked": NINE}


@pytest.mark.parametrize("state", [TcpState.FIN_WAIT1.value, LAST_ACK])
def test_a_fin_alone_ends_a_silence_although_it_does_not_count_as_sent(state: int) -> None:
    assert silence(**QUIET, state=state, unacked=1) == 9


def test_a_fin_that_was_sent_again_ended_the_silence_before_that() -> None:
    assert silence(**QUIET, state=TcpState.FIN_WAIT1.value, unacked=1, since_lost=2_800) == pytest.approx(6)


@pytest.mark.parametrize(
    "of_data",
    [
        {"state": TcpState.ESTABLISHED.value, "unacked": 1},
        {"state": TcpState.FIN_WAIT1.value, "unacked": 2},
        {"state": TcpState.FIN_WAIT1.value, "unacked": 1, "unsent": 1},
    ],
    ids=["one octet", "an octet and the FIN", "an octet, and the FIN waits"],
)
def test_data_that_is_on_its_way_ended_the_silence_when_it_was_sent(of_data: dict[str, Any]) -> None:
    assert silence(**{**QUIET, "since_sent": 2 * JIFFIES}, **of_data) == 7


def test_unanswered_probes_are_as_late_as_their_timers_fire() -> None:
    """31 of them made a silence of 3 min look like one of 3 min 15 s. 20 s take as long with 100, 250 or 1000 Hz."""
    fires = 20.48
    ages = dict.fromkeys(("since_sent", "since_received", "since_acked"), round((180 + 31 * fires) * JIFFIES))
    quiet = silence(**ages, probes=31, keepintvl=20 * JIFFIES, error=110, reset=Reset.NONE.value)
    assert quiet == pytest.approx(180, abs=0.1)
