"""Keepalive timers that were running when the daemon came: sock_diag shows when they end, not how long they are."""

from __future__ import annotations

import random

import pytest

from keepaliveD.model.connections import Verdict
from tests.simulation import run as running
from tests.simulation.connection import Plan
from tests.simulation.kernel import NEVER, Clock, Options
from tests.simulation.path import Firewall
from tests.simulation.run import run
from tests.simulation.scans import EngineName
from tests.simulation.truth import Judge, Wrong
from tests.simulation.world import World, quiet_host

SIZE = 120
IDLE = 60  # seconds, of every timer
UNFORETOLD = (Wrong.UNWARNED, Wrong.UNWARNED_PRESUMED, Wrong.UNCERTAIN_AT_DEATH, Wrong.SAFE_AT_DEATH, Wrong.NEVER_CUT)


def host(timeout: float, interval: float) -> World:
    """One that is scanned every so often, on whose path everything is forgotten after `timeout`."""
    return quiet_host("running", timeout, until=5.0 * IDLE, size=SIZE, interval=interval, warn_before=60.0)


def opened_before(world: World, number: int) -> Plan:
    """Draw a connection that was opened before the daemon came, and whose program spoke once since its timer began."""
    rng = random.Random(f"running/{number}")
    born = rng.uniform(1 - IDLE, -1)
    spoke_after = rng.uniform(0, -born) if number % 3 else rng.uniform(0, IDLE + born)
    return Plan(
        number=number,
        born=born,
        ends=world.until - IDLE / 3,
        timeout=world.paths[0].timeout,
        path=0,
        firewalls=[Firewall(world.paths[0].timeout, rejects=False)],
        honest=True,
        latency=0.0002,
        here=Options(True, IDLE, IDLE, 9),
        peer=Options(),
        here_sysctls=world.sysctls,
        peer_sysctls=world.sysctls,
        here_clock=world.clock,
        peer_clock=Clock(5),
        program=iter([(spoke_after, "here", "ask")]),
        thinks=0.005,
        delays_acks=False,
        outages=(),
        vanishes=NEVER,
    )


@pytest.mark.parametrize("interval", [5.0, 15.0])
@pytest.mark.parametrize("timeout", [40.0, 50.0, 60.0])
def test_no_death_goes_unforetold(timeout: float, interval: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length is read from the socket before a warning is due, unless that was due before the daemon came."""
    monkeypatch.setattr(running, "plan", opened_before)
    done = run(host(timeout, interval), EngineName.NETLINK)
    foreseeable = timeout / 2 + interval
    gone = {each.plan.number: each.forgotten_at() for each in done.connections}
    deaths = {number for number, when in gone.items() if foreseeable < when < done.world.until}
    assert len(deaths) > SIZE / 6
    unforetold = [breach for breach in Judge(done).breaches() if breach.wrong in UNFORETOLD]
    assert not [breach for breach in unforetold if breach.when > foreseeable]
    assert {done.words[number][0][1].verdict for number in deaths} == {Verdict.LATE}
