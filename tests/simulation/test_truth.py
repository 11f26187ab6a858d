"""What counts as wrong: small worlds of one connection each, whose end is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.model.sockets import SocketTable
from tests.simulation import armer, truth
from tests.simulation import run as running
from tests.simulation.connection import Connection, Plan, Step
from tests.simulation.decider import Armer, Reader, Said, Word
from tests.simulation.kernel import NEVER, Clock, Options, Sysctls
from tests.simulation.path import Firewall, Outage
from tests.simulation.run import run
from tests.simulation.scans import EngineName
from tests.simulation.test_simulation import Always
from tests.simulation.truth import Judge, Wrong, waited_longer
from tests.simulation.world import KERNELS_OWN, World, quiet_host

UNTIL = 4000.0


def host(timeout: float, **others: Any) -> World:
    """One that is scanned every 5 s, with one connection."""
    return quiet_host("truth", timeout, **{"until": UNTIL} | others)


def drawn(world: World, here: Options, peer: Options, *steps: Step, **others: Any) -> Plan:
    """Its connection, which is opened at 10 s; the steps are its program's."""
    timeout = world.paths[0].timeout
    plan = Plan(
        number=0,
        born=10.0,
        ends=world.until,
        timeout=timeout,
        path=0,
        firewalls=[Firewall(timeout, rejects=False)],
        honest=True,
        latency=0.0002,
        here=here,
        peer=peer,
        here_sysctls=world.sysctls,
        peer_sysctls=world.sysctls,
        here_clock=world.clock,
        peer_clock=Clock(5),
        program=iter(steps),
        thinks=0.005,
        delays_acks=False,
        outages=world.outages,
        vanishes=NEVER,
    )
    return dataclasses.replace(plan, **others)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is wrong in a world with this connection."""

    def look(world: World, engine: EngineName, here: Options, peer: Options, *steps: Step, **others: Any) -> set[Wrong]:
        def plan(world: World, number: int) -> Plan:
            del number
            return drawn(world, here, peer, *steps, **others)

        monkeypatch.setattr(running, "plan", plan)
        monkeypatch.setattr(truth, "plan", plan)
        return {breach.wrong for breach in Judge(run(world, engine)).breaches()}

    return look


SET = SocketKeepalive(True, Keepalive(60, 20, 9))


class Says:
    """Logs these verdicts at the first scans from these instants on, and says them until the next; nothing is a word.

    Without a verdict there it says `safe`, and logs nothing.
    """

    def __init__(self, script: Mapping[float, Verdict | None]) -> None:
        self._left = sorted(script.items())
        self._verdict = Verdict.SAFE

    def scan(self, table: SocketTable, end: float, arm: Armer, read: Reader) -> Said:
        """Judge one."""
        del end, arm, read
        cookies = table.sockets["cookie"]
        words: tuple[Word, ...] = ()
        if self._left and self._left[0][0] <= table.taken_at:
            _, verdict = self._left.pop(0)
            self._verdict = verdict or Verdict.SAFE
            words = tuple(Word(cookie, verdict, certain=False) for cookie in cookies.tolist() if verdict)
        return Said(cookies, np.full(len(cookies), self._verdict, np.uint8), words, ())


def ended(timeout: float, here: Options, *steps: Step, **others: Any) -> Connection:
    """Such a connection, as it ended."""
    connection = Connection(drawn(host(timeout), here, Options(), *steps, **others))
    connection.advance(UNTIL)
    return connection


def test_to_wait_longer_for_a_dead_peer_is_to_notice_it_later() -> None:
    patient, other = (ended(900.0, Options(True, 60, 10, probes), vanishes=100.0) for probes in (20, 3))
    assert waited_longer(patient.here, other.here, UNTIL)
    assert not waited_longer(other.here, patient.here, UNTIL)


def test_a_later_silence_is_not_a_longer_one() -> None:
    """The path forgot the one; the other lived on until its peer was gone."""
    kept = ended(100.0, Options(True, 60, 10, 3), vanishes=1000.0)
    forgotten = ended(100.0, Options(True, 120, 10, 3), vanishes=1000.0)
    assert forgotten.here.died_at < 1000.0 < kept.here.died_at
    assert not waited_longer(kept.here, forgotten.here, UNTIL)


def test_data_that_is_not_acknowledged_is_waited_for_whatever_keepalive_says() -> None:
    other = ended(900.0, Options(True, 60, 10, 3), vanishes=100.0)
    sent = ended(900.0, Options(True, 60, 10, 3), (95.0, "here", "say"), vanishes=100.0)
    assert sent.here.died_at > other.here.died_at + 500
    assert not waited_longer(sent.here, other.here, UNTIL)


def test_who_was_still_probing_when_data_was_sent_has_waited_until_then() -> None:
    other = ended(900.0, Options(True, 60, 10, 3), vanishes=100.0)
    patient = ended(900.0, Options(True, 60, 10, 60), (400.0, "here", "say"), vanishes=100.0)
    assert waited_longer(patient.here, other.here, UNTIL)


def test_a_verdict_is_of_the_silence_in_which_it_was_said(found: Any) -> None:
    """The probe that it foretold came in time; the daemon stood still in the next silence, and its timer was longer."""
    paused = host(96.0, pauses=((53.0, 221.0),))
    assert found(paused, EngineName.BPF, Options(True, 74, 144, 5), Options()) == set()


def test_a_peer_that_probed_before_the_first_scan_may_as_well_have_not(found: Any) -> None:
    """Its connection may be forgotten already, as far as the ages show: nobody could have warned in time."""
    wrong = found(host(100.0), EngineName.NETLINK, Options(), Options(True, 80, 200, 9), born=-120.0, ends=400.0)
    assert wrong == {Wrong.UNWARNED_PRESUMED}


def test_that_a_peer_probes_no_more_shows_only_where_its_next_probe_is_due(found: Any) -> None:
    """Its program had switched keepalive off in a busy hour long before the silence in which the path forgets."""
    steps = [(1.0, "peer", "say"), (600.0, "here", "ask"), *[(100.0, "here", "ask")] * 20]
    change = [(900.0, "peer", Options())]
    seldom = host(300.0, interval=60.0)
    assert found(seldom, EngineName.BPF, Options(), Options(True, 230, 20, 9), *steps, changes=change) == set()


def test_a_probe_that_came_after_a_scan_had_read_its_row_is_not_known_to_it(found: Any) -> None:
    """A rhythm is known by two probes: the second one came before the scan ended, and after what it had read."""
    slow = host(8.0, warn_before=4.0, interval=1.0, takes=0.5, until=120.0)
    wrong = found(slow, EngineName.BPF, Options(), Options(True, 2, 4, 9), (1.0, "peer", "say"), ends=60.0)
    assert wrong == set()


def test_that_a_peer_probes_no_more_is_known_once_a_silence_has_shown_it(found: Any) -> None:
    """It was quiet for longer than it had ever been between two probes; then both spoke once more."""
    steps = [(1.0, "peer", "say"), (800.0, "here", "ask"), (250.0, "here", "ask")]
    change = [(800.0, "peer", Options())]
    often = host(300.0, warn_before=110.0, until=2000.0)
    assert found(often, EngineName.BPF, Options(), Options(True, 180, 20, 9), *steps, changes=change) == set()


def test_what_is_lost_on_this_side_makes_the_path_look_longer(found: Any) -> None:
    """The firewall saw what the peer sent, again and again, and this host did not."""
    outage = host(100.0, outages=(Outage(80.0, 170.0, 0),))
    steps = [(60.0, "peer", "say"), (40.0, "peer", "say")]
    wrong = found(outage, EngineName.BPF, Options(), Options(), *steps, ends=340.0)
    assert Wrong.MISLED in wrong
    assert not wrong & {Wrong.NEVER_CUT, Wrong.SAFE_AFTER, Wrong.SAFE_AT_DEATH, Wrong.UNWARNED}


def test_what_makes_the_path_look_longer_excuses_nothing_beyond_that(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = host(100.0, outages=(Outage(80.0, 170.0, 0),))
    steps: list[Step] = [(60.0, "peer", "say"), (40.0, "peer", "say")]
    monkeypatch.setattr(running, "plan", lambda world, _: drawn(world, Options(), Options(), *steps))
    done = run(outage, EngineName.BPF, decide=lambda _: Always(Verdict.SAFE, certain=True))
    assert {breach.wrong for breach in Judge(done).breaches()} >= {Wrong.NEVER_CUT, Wrong.SAFE_AFTER}


PEER_PROBES = Options(True, 60, 60, 9)


@pytest.mark.parametrize(("idle", "known"), [(60, False), (20, True)])
def test_a_rhythm_is_known_by_two_probes_in_a_row_that_no_answer_to_our_own_hides(
    monkeypatch: pytest.MonkeyPatch, idle: int, *, known: bool
) -> None:
    """Our first probe leaves with the peer's first one: no scan tells that and an answer from two answers.

    The warning comes before the peer's third.
    """
    here = Options(True, idle, 500, 9)
    monkeypatch.setattr(running, "plan", lambda world, _: drawn(world, here, PEER_PROBES, (1.0, "peer", "say")))
    done = run(host(100.0), EngineName.BPF, decide=lambda _: Says({170.0: Verdict.LATE}))
    assert [
        breach.wrong for breach in Judge(done).breaches() if breach.wrong in {Wrong.FALSE_LATE, Wrong.UNLUCKY_LATE}
    ] == [Wrong.FALSE_LATE if known else Wrong.UNLUCKY_LATE]


@pytest.mark.parametrize(("pauses", "known"), [((), True), (((60.0, 190.0),), False)])
def test_two_probes_between_two_scans_show_a_rhythm_no_shorter_than_the_time_between_these(
    monkeypatch: pytest.MonkeyPatch, pauses: tuple[tuple[float, float], ...], *, known: bool
) -> None:
    """The daemon stood still for longer than the path waits; the warning comes before the peer's third probe."""
    step = (1.0, "peer", "say")
    monkeypatch.setattr(running, "plan", lambda world, _: drawn(world, Options(), PEER_PROBES, step))
    done = run(host(100.0, pauses=pauses), EngineName.BPF, decide=lambda _: Says({192.0: Verdict.LATE}))
    assert [
        breach.wrong for breach in Judge(done).breaches() if breach.wrong in {Wrong.FALSE_LATE, Wrong.UNLUCKY_LATE}
    ] == [Wrong.FALSE_LATE if known else Wrong.UNLUCKY_LATE]


def test_a_probe_is_surely_in_time_only_by_the_times_that_stood_there_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was on its way when the scan ended; the times that make the next one early enough were set later."""
    monkeypatch.setattr(armer, "decide_arming", lambda its, _: Armed(its.stands, SET, its.inherited))
    rule = ArmRule("arm[1]", ArmAction.ENABLE, 60, 20, 9)
    quick = host(100.0, warn_before=50.0, interval=1.0, arm=(rule,), until=600.0)
    here = Options(True, 60, 200, 9)
    monkeypatch.setattr(
        running, "plan", lambda world, _: drawn(world, here, Options(), (1.0, "peer", "say"), latency=2.0)
    )
    done = run(quick, EngineName.BPF)
    assert done.armed[0]
    wrong = {breach.wrong for breach in Judge(done).breaches()}
    assert Wrong.UNLUCKY_LATE in wrong
    assert Wrong.FALSE_LATE not in wrong


@pytest.mark.parametrize(
    ("engine", "wrong"), [(EngineName.NETLINK, Wrong.UNLUCKY_LATE), (EngineName.BPF, Wrong.FALSE_LATE)]
)
def test_netlink_does_not_show_since_when_a_probe_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch, engine: EngineName, wrong: Wrong
) -> None:
    """It is sent at 75 s, passes the path at 77 s, and its answer comes at 83 s; the next one leaves a minute later."""
    here, step = Options(True, 60, 20, 9), (1.0, "peer", "say")
    monkeypatch.setattr(running, "plan", lambda world, _: drawn(world, here, Options(), step, latency=2.0))
    quick = host(100.0, interval=1.0, until=400.0)
    done = run(quick, engine, decide=lambda _: Says({75.5: Verdict.LATE}))
    assert wrong in {breach.wrong for breach in Judge(done).breaches()}


def test_an_outage_that_ended_the_one_that_was_not_armed_too_was_not_survived(
    monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    """Its only probe was lost, so that it ended when its interval was over, although the peer was heard meanwhile."""
    weak = SocketKeepalive(True, Keepalive(300, 5, 31))
    monkeypatch.setattr(armer, "decide_arming", lambda its, _: Armed(its.stands, weak, its.inherited))
    rule = ArmRule("arm[1]", ArmAction.ENABLE, 300, 5, 31)
    outage = host(1000.0, arm=(rule,), outages=(Outage(100.0, 1400.0, 0),))
    here, peer = Options(True, 1200, 1800, 1), Options(True, 300, 300, 31)
    wrong = found(outage, EngineName.BPF, here, peer, (20.0, "peer", "say"))
    assert not wrong & {Wrong.WEAKENED, Wrong.OUTLASTED}


@pytest.mark.parametrize(("changed", "later"), [(5.0, True), (800.0, False)])
def test_what_a_program_had_is_what_its_system_said_when_it_was_armed(
    found: Any, changed: float, monkeypatch: pytest.MonkeyPatch, *, later: bool
) -> None:
    """Its own interval was the system's, 75 s; whoever makes that 28 s later changes nothing in an armed socket."""
    patient = SocketKeepalive(True, Keepalive(192, 20, 31))
    monkeypatch.setattr(armer, "decide_arming", lambda its, _: Armed(its.stands, patient, its.inherited))
    systems = (KERNELS_OWN, Sysctls(7200, 28, 9, changed))
    rule = ArmRule("arm[1]", ArmAction.ENABLE, 192, 20, 31)
    tuned = host(240.0, arm=(rule,), sysctls=systems, warn_before=120.0)
    wrong = found(tuned, EngineName.NETLINK, Options(True, 215), Options(), (1.0, "peer", "say"), vanishes=700.0)
    assert (Wrong.NOTICED_LATER in wrong) == later


@pytest.mark.parametrize(("settled", "flips"), [(5000.0, False), (1500.0, True)])
def test_what_has_settled_may_be_taken_back_again(
    monkeypatch: pytest.MonkeyPatch, settled: float, *, flips: bool
) -> None:
    """That is an hour after the last verdict of a risk: one entry then says how often it changed."""
    monkeypatch.setattr(running, "plan", lambda world, _: drawn(world, Options(), Options(), ends=6000.0))
    late, safe = Verdict.LATE, Verdict.SAFE
    script = {100.0: late, 200.0: safe, 300.0: late, 1000.0: None, settled: safe}
    done = run(host(9000.0, until=6000.0), EngineName.BPF, decide=lambda _: Says(script))
    assert (Wrong.FLIPS in {breach.wrong for breach in Judge(done).breaches()}) == flips


@pytest.mark.parametrize(("probes", "wrong"), [(11, Wrong.OUTLASTED), (13, Wrong.WEAKENED)])
def test_an_outage_counts_from_the_first_probe_that_is_not_answered_to_the_last(
    found: Any, probes: int, wrong: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the peer says arrives 800 s after the first: 11 probes at 75 s take 750 s, 13 take 900 s.

    In the 75 s after the last probe only what the peer says by itself would keep it.
    """
    weak = SocketKeepalive(True, Keepalive(300, 12, 1))
    monkeypatch.setattr(armer, "decide_arming", lambda its, _: Armed(its.stands, weak, its.inherited))
    rule = ArmRule("arm[1]", ArmAction.ENABLE, 300, 12, 9)
    outage = host(900.0, arm=(rule,), outages=(Outage(100.0, 1100.0, 0),))
    steps = [(20.0, "peer", "say"), (670.0, "peer", "say")]
    assert wrong in found(outage, EngineName.BPF, Options(True, 7200, 75, probes), Options(), *steps)
