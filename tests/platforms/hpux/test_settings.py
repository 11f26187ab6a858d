"""What is odd on HP-UX: one setting is keepalive's own, the other is every retransmission's."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.hpux.settings import HPUX
from tests.platforms.emulators.hosts import hpux
from tests.platforms.worlds import write


def test_the_time_after_which_any_connection_is_given_up_is_left_alone(tmp_path: Path) -> None:
    """tcp_ip_abort_interval is not keepalive's alone."""
    host = hpux(tmp_path)
    tuner = HPUX(tmp_path)
    write(tuner, tuner.names(Keepalive(180, 20, 31)))
    assert host.look().values == {"_keepalive_interval": 180_000, "_ip_abort_interval": 600_000}
    assert "keepalive.interval and keepalive.probes are not applied" in tuner.notes[0]
