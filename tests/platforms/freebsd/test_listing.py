"""FreeBSD's netstat: timers, states, and a clock that wraps around."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import SocketTable, Switch, Timer
from tests.platforms.emulators.wire import Connection
from tests.platforms.foreign import FREEBSD, Watched
from tests.support.tables import watch

NOW = 100_000.0
PERIOD = 2**32 / 1000 / 1000  # seconds after which the figure wraps around, at kern.hz = 1000


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(FREEBSD, tmp_path)


def idle(*tables: SocketTable) -> float:
    return tables[-1].taken_at - float(watch(*tables).activity.last_packet[0])


def test_a_keepalive_timer_in_time_makes_safe(watched: Watched) -> None:
    """The peer was heard 100 s ago; the probe leaves in 80 s."""
    table = watched.look(NOW, Connection(heard_at=NOW - 100, keepalive_at=NOW + 80))
    judgement = watch(table)
    assert table.sockets["keepalive"][0] == Switch.ON
    assert judgement.activity.keepidle[0] == pytest.approx(180)
    assert judgement.forecast.verdict[0] == Verdict.SAFE


def test_two_hours_are_late(watched: Watched) -> None:
    table = watched.look(NOW, Connection(heard_at=NOW - 100, keepalive_at=NOW + 7100))
    assert watch(table).forecast.verdict[0] == Verdict.LATE


def test_without_always_keepalive_a_timer_proves_nothing(watched: Watched) -> None:
    """It runs on every socket; whether it probes depends on SO_KEEPALIVE, which nobody shows."""
    watched.set("net.inet.tcp.always_keepalive", 0)
    table = watched.look(NOW, Connection(heard_at=NOW - 100, keepalive_at=NOW + 80))
    assert table.sockets["keepalive"][0] == Switch.UNKNOWN
    assert watch(table).forecast.verdict[0] == Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("timer", "pending"),
    [
        (Timer.RETRANSMIT, {"retransmit_at": NOW + 3.25}),
        (Timer.ZERO_WINDOW, {"persist_at": NOW + 3.25}),
        (Timer.KEEPALIVE, {"keepalive_at": NOW + 3.25}),
    ],
)
def test_the_timer_that_runs_is_reported_in_seconds(watched: Watched, timer: Timer, pending: dict[str, float]) -> None:
    sockets = watched.look(NOW, Connection(heard_at=NOW, **pending)).sockets  # type: ignore[arg-type]
    assert (sockets["timer"][0], sockets["expires"][0]) == (timer, 3.25)


@pytest.mark.parametrize("late", [0.02, 1.5])
def test_a_timer_that_is_overdue_makes_no_json_and_is_read_all_the_same(watched: Watched, late: float) -> None:
    """C prints -20 ms as 0.-2, and -1500 ms as -1.-50."""
    sockets = watched.look(NOW, Connection(heard_at=NOW, retransmit_at=NOW - late)).sockets
    assert (sockets["timer"][0], sockets["expires"][0]) == (Timer.RETRANSMIT, 0.0)


@pytest.mark.parametrize("process", ["unsigned", "signed"])
@pytest.mark.parametrize("hz", [1000, 100])
def test_a_silence_is_followed_through_the_wrap_of_the_kernels_figure(watched: Watched, process: str, hz: int) -> None:
    """After 35 minutes the figure is negative in a signed kernel, after 71 it begins anew."""
    watched.host.change(hz=hz)
    watched.set("kern.hz", hz)
    silent = Connection(heard_at=NOW - 1, process=process)
    times = range(0, int(2.5 * PERIOD), 1500)
    looks = [watched.look(NOW + passed, silent) for passed in times]
    assert idle(*looks) == pytest.approx(1 + times[-1])


def test_a_packet_after_a_wrap_is_a_packet(watched: Watched) -> None:
    silent = Connection(heard_at=NOW - 1)
    looks = [watched.look(NOW + passed, silent) for passed in (0, 3000, 5000)]
    looks.append(watched.look(NOW + 5015, Connection(heard_at=NOW + 5010)))
    assert idle(*looks) == pytest.approx(5)


def test_a_figure_that_is_negative_at_the_first_scan_is_understood(watched: Watched) -> None:
    """50 minutes of silence in a signed kernel."""
    assert idle(watched.look(NOW, Connection(heard_at=NOW - 3000, process="signed"))) == pytest.approx(3000, abs=0.02)


def test_a_slower_clock_wraps_around_later(watched: Watched) -> None:
    """At kern.hz = 100 the figure of a second ago is that of a packet, also after the period of 1000."""
    watched.host.change(hz=100)
    watched.set("kern.hz", 100)
    looks = [watched.look(NOW, Connection(heard_at=NOW - 1)), watched.look(NOW + 4280, Connection(heard_at=NOW - 1))]
    looks.append(watched.look(NOW + PERIOD, Connection(heard_at=NOW + PERIOD - 1)))
    assert idle(*looks) == pytest.approx(1)


def test_looks_that_take_their_time_are_no_packets(watched: Watched) -> None:
    """A loaded machine answers seconds later than it was asked: no proof that a path was patient."""
    silent = Connection(heard_at=NOW - 100)
    looks = [watched.look(NOW, silent)]
    for passed, late in ((300, 3.0), (315, 0.0), (330, 5.0), (345, 0.5)):
        looks.append(watched.look(NOW + passed, silent, late=late))
    judgement = watch(*looks)
    assert judgement.activity.survived[0] == 0.0
    assert judgement.forecast.verdict[0] == Verdict.CUT


def test_a_connection_that_closes_or_opens_between_the_two_questions_is_left_out(watched: Watched) -> None:
    """The next look has it, or not."""
    table = watched.look(
        NOW,
        Connection(local_port=1, lives="to be asked for states"),
        Connection(local_port=2),
        Connection(local_port=3, lives="to be asked for timers"),
    )
    assert table.sockets["local_port"].tolist() == [2]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("[]", "no JSON object"),
        ('{"statistics": {"socket": 5}}', "no list"),
        ('{"statistics": {"socket": [5]}}', "has no protocol"),
        ('{"statistics": {"socket": [{"protocol": "tcp4"}]}}', "has no address"),
        ('{"a": ' * 100_000, "unexpected output"),
        (
            '{"s": {"socket": [{"protocol": "tcp4", "local": {"address": "1.2.3.400", "port": "1"}, "remote": {}}]}}',
            "no address",
        ),
        (
            '{"s": {"socket": [{"protocol": "tcp4", "local": {"address": "1.2.3.4", "port": "70000"}, "remote": {}}]}}',
            "no port",
        ),
    ],
)
def test_an_answer_of_another_form_is_refused(watched: Watched, answer: str, words: str) -> None:
    watched.program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    with pytest.raises(KernelError, match=words):
        watched.look(NOW, Connection())
