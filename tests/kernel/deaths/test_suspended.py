"""A machine that sleeps while a path forgets: the kernel's ages say that the connection was in use.

No machine is suspended here: the daemon's clocks are an hour behind until it would be. All else is the kernel's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from socket import AF_INET, socket

import pytest

from keepaliveD.model.causes import Cause
from keepaliveD.platforms import clock
from keepaliveD.platforms.base import DeathWatch
from keepaliveD.policy.autopsy.deaths import decide
from tests.kernel.deaths.rig import Rig
from tests.kernel.deaths.scenes import FIRST_PORT, Play, Scene, send, wait_for_end
from tests.kernel.deaths.watching import Watch, watching

HOUR = 3600.0
ENGINES = ("bpf", "netlink")


@contextlib.contextmanager
def slept(engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Play, Watch, socket]]:
    """A client whose connection carried a word each way before its machine slept for an hour."""
    awake, asleep = clock.now, clock.slept
    monkeypatch.setattr(clock, "now", lambda: awake() - HOUR)
    monkeypatch.setattr(clock, "slept", lambda: asleep() - HOUR)
    scene = Scene("slept", {}, lambda _: None, AF_INET, untold=False)
    with contextlib.closing(Rig()) as rig, watching(rig.client, watch=DeathWatch(engine)) as watch:
        play = Play(rig, scene, FIRST_PORT)
        with play.stack:
            client, _ = play.open()
            watch.reader.due()
            monkeypatch.undo()
            yield play, watch, client


def candidates(watch: Watch, client: socket) -> tuple[Cause, ...]:
    """What the end of this client may be, the likeliest first: it sends once more."""
    send(client)
    wait_for_end(client)
    client.close()
    ended = watch.until(lambda ended: len(ended) > 0)
    return decide(ended, unknown=watch.unknown).candidates(0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_firewall_that_forgot_meanwhile_and_resets_is_named(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with slept(engine, monkeypatch) as (play, watch, client):
        play.fail("reject_there", "reject_back")
        assert candidates(watch, client)[0] is Cause.MIDDLEBOX_IDLE
    assert watch.ended["silence"][0] == pytest.approx(HOUR, abs=60)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_firewall_that_forgot_meanwhile_and_drops_is_named(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with slept(engine, monkeypatch) as (play, watch, client):
        play.fail("drop_there", "drop_back")
        assert Cause.SILENT_AFTER_IDLE in candidates(watch, client)
