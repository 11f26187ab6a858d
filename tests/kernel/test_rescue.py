"""Connections that the firewall would forget, and a daemon that arms them: nothing else helps them here."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET
from subprocess import Popen

import pytest

from keepaliveD.model.keepalive import TIMER_SLACK
from tests.kernel.conftest import missing
from tests.support.patience import SOON, STALL
from tests.support.processes import ENABLE, REARM, Daemon, Home, Program, arming, program
from tests.support.rig import PROBES, SERVER, Mode, Rig
from tests.support.versions import ITERATOR, since

CROWD = str(Path(__file__).with_name("crowd.py"))

MODES: list[Mode] = ["drop", "reject"]
DEAD: dict[Mode, str] = {"drop": "silence", "reject": "ECONNRESET"}  # what a program gets from a dead connection
TOLD: dict[Mode, str] = {"drop": "ETIMEDOUT", "reject": "ECONNRESET"}  # what keepalive says of it

TIMEOUT = 24  # seconds without a packet after which the firewall forgets
BY_SYSTEM = 0  # the idle time of a program that sets nothing but SO_KEEPALIVE: two hours
CUT = "already cut"
STARTING = 1.0  # seconds until a daemon takes its first look; on a busy machine some more
PASTS: dict[str, tuple[int | None, float]] = {  # a program's keepalive, and its seconds of silence until that look
    "never asked": (None, STARTING),
    "armed at 7200 s": (BY_SYSTEM, STARTING),
    "interval left at 75 s": (2, STARTING),
    "already idle for 16.5 s": (None, 16.5),  # longer than the idle time that it gets
    CUT: (None, TIMEOUT + 1),
}
RULE = f'{ENABLE}\ninterval = "5s"'  # so that an idle time of 16 s is chosen, which leaves a busy machine some
LONG = 2 * TIMEOUT + 2  # seconds of silence after which whoever can die is dead


Case = tuple[str, Mode, bool]  # a past, what the firewall does, whether the daemon is there


@dataclass(frozen=True)
class Fates:
    """What became of each program's word after the silence, or of its listening; how often each was armed."""

    outcomes: dict[Case, str]
    armed: dict[Case, int]


URGENT = ("nice", "--adjustment=-15")  # the firewall does not wait for a busy machine
UNDER: dict[str, tuple[str, ...]] = {"netlink": (), "bpf": ("setpriv", "--bounding-set=-sys_ptrace")}  # by engine
BY_EACH = ["netlink", pytest.param("bpf", marks=since(ITERATOR))]


def by(engine: str, configuration: str) -> str:
    """The same, by this engine."""
    return configuration.replace("[watch]", f'[watch]\nengine = "{engine}"')


@pytest.fixture(scope="module", params=BY_EACH)
def fates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fates:
    """One silence for all."""
    engine: str = request.param
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        rigs = {where: stack.enter_context(Rig(where[0], TIMEOUT)) for where in itertools.product(MODES, (True, False))}
        for rig in rigs.values():
            rig.client.set_sysctl(PROBES, 1)  # no outage is to be survived: an error comes within seconds
        programs: dict[Case, Program] = {
            (past, *where): stack.enter_context(program(rig, keepalive=PASTS[past][0]))
            for (where, rig), past in itertools.product(rigs.items(), PASTS)
        }
        fall_silent(programs)
        daemons = {
            mode: stack.enter_context(
                Home(tmp_path_factory.mktemp(mode), by(engine, arming(RULE, TIMEOUT))).starting(
                    rigs[mode, True].client, through=(*URGENT, *UNDER[engine])
                )
            )
            for mode in MODES
        }
        for daemon in daemons.values():
            daemon.expect("started")
        ready = time.monotonic()
        outcomes = {(CUT, mode, True): error(programs[CUT, mode, True], daemons[mode], ready) for mode in MODES}
        sleep_until(ready + LONG)
        outcomes |= {(CUT, mode, False): programs[CUT, mode, False].heard(0) for mode in MODES}
        others = [case for case in programs if case[0] != CUT]
        outcomes |= zip(others, all_speak([programs[case] for case in others]), strict=True)
        armed = {
            case: len(daemons[case[1]].heard("armed", **each.endpoints)) for case, each in programs.items() if case[2]
        }
        return Fates(outcomes, armed)


def fall_silent(programs: dict[Case, Program]) -> None:
    """Have each say its last word as its past wants, if daemons start now; then those listen that are cut."""
    longest, begin = PASTS[CUT][1], time.monotonic()
    for silence in sorted({silence for _, silence in PASTS.values()}, reverse=True):
        sleep_until(begin + longest - silence)
        speaking = [each for (past, _, _), each in programs.items() if PASTS[past][1] <= silence]
        assert set(all_speak(speaking)) == {"answered"}
    for (past, _, _), each in programs.items():
        if past == CUT:
            each.listen()


def all_speak(programs: list[Program]) -> list[str]:
    """What becomes of the word of each, spoken at the same time."""
    with ThreadPoolExecutor(len(programs)) as at_once:
        return list(at_once.map(Program.speak, programs))


def error(listener: Program, daemon: Daemon, since: float) -> str:
    """What a listener gets within the time that its arming promises."""
    entry = daemon.expect("armed", **listener.endpoints)
    probes = entry["KEEPALIVE_AFTER_INTERVAL_SEC"] * entry["KEEPALIVE_AFTER_PROBES"]
    promised = (entry["KEEPALIVE_AFTER_IDLE_SEC"] + probes) * (1 + TIMER_SLACK)
    heard = listener.heard(SOON)
    return heard if time.monotonic() < since + promised + STALL else f"{heard}, too late"


def sleep_until(instant: float) -> None:
    """Of the monotonic clock."""
    time.sleep(max(0, instant - time.monotonic()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("past", [past for past in PASTS if past != CUT])
def test_a_connection_at_risk_lives_under_the_daemon_and_dies_without(past: str, mode: Mode, fates: Fates) -> None:
    """Whatever its program did, or left undone."""
    assert fates.outcomes[past, mode, True] == "answered"
    assert fates.outcomes[past, mode, False] == DEAD[mode]


@pytest.mark.parametrize("mode", MODES)
def test_who_listens_on_a_cut_connection_gets_an_error_within_the_promised_time(mode: Mode, fates: Fates) -> None:
    """Without the daemon they listen for ever."""
    assert fates.outcomes[CUT, mode, True] == TOLD[mode]
    assert fates.outcomes[CUT, mode, False] == ""


def test_each_is_armed_once(fates: Fates) -> None:
    """And told of once."""
    assert set(fates.armed.values()) == {1}


CROWDS, EACH = 20, 100  # processes, and their connections
PORT = 7000
HASTE = 20  # seconds of a firewall's patience, which does not wait for a busy machine
FORGETTING = "net.netfilter.nf_conntrack_tcp_timeout_established"


@pytest.fixture
def crowds() -> Iterator[tuple[Rig, list[Popen[str]]]]:
    """Processes that are about to open 2,000 connections, and never ask for keepalive."""
    address = SERVER[AF_INET]
    command = (sys.executable, "-S", CROWD, address, str(PORT))
    with Rig(timeout=round(SOON)) as rig, ExitStack() as stack:  # a busy machine is slow to open them
        server = stack.enter_context(rig.server.running(*command, "0"))
        assert answer(server) == "serving"
        crowds = [stack.enter_context(rig.client.running(*command, str(EACH))) for _ in range(CROWDS)]
        assert {answer(crowd) for crowd in crowds} == {"ready"}
        yield rig, crowds


@pytest.mark.parametrize("engine", BY_EACH)
def test_2000_that_never_asked_are_left_by_rearm_and_saved_by_enable(
    crowds: tuple[Rig, list[Popen[str]]], engine: str, tmp_path: Path
) -> None:
    """All are alive after ten timeouts of silence."""
    rig, processes = crowds
    home = Home(tmp_path, by(engine, arming(REARM, timeout=HASTE)))
    with home.daemon(rig.client, through=UNDER[engine]) as daemon:
        assert set(answers(processes)) == {"connected"}
        daemon.expect("bare")
        rig.firewall.set_sysctl(FORGETTING, HASTE)  # from their next packet on
        assert alive(processes) == CROWDS * EACH
        assert timers(rig) == 0
        daemon.reload(by(engine, arming(ENABLE, timeout=HASTE)))
        daemon.expect("armed")
        assert timers(rig) == CROWDS * EACH
        time.sleep(10 * HASTE)
        assert alive(processes) == CROWDS * EACH
        assert not daemon.heard("unarmed", "cut")


def timers(rig: Rig) -> int:
    """How many sockets of the client's have a keepalive timer."""
    done = rig.client.run("ss", "-tnoH", "state", "established")
    return done.stdout.count("timer:(keepalive")


def alive(processes: list[Popen[str]]) -> int:
    """How many connections carry a word and its answer."""
    return sum(int(number) for number in answers(processes))


def answers(processes: list[Popen[str]]) -> list[str]:
    """What each says to a line of input."""
    for process in processes:
        print(file=process.stdin, flush=True)
    return [answer(process) for process in processes]


def answer(process: Popen[str]) -> str:
    """Its next line."""
    assert process.stdout
    return process.stdout.readline().strip()
