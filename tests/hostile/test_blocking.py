"""Nothing that belongs to a stranger blocks the daemon, or a daemon after it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack

import psutil
import pytest

from keepaliveD.daemon.worker.workers import MOST_LEFT, MOST_RISKED
from tests.support.loopback import (
    BARE,
    FORGOTTEN,
    LASTING,
    SAFE,
    Host,
    by,
    ends_at_once,
    everywhere,
    forgetful,
    near_end,
    settings,
)
from tests.support.patience import SOON, ending, family
from tests.support.processes import ENABLE, next_line
from tests.support.versions import ITERATOR, since

ENGINES = ["netlink", pytest.param("bpf", marks=since(ITERATOR))]
AT_CONNECT = {"KEEPALIVE_RESULT": "armed-at-connect"}
SLOTS = 20  # descriptors that change
WITH_TWO_HUNG = 5.0  # seconds in which a daemon that is told to disarm must have ended
WITHOUT_OWNER = ("owner-not-found", "owner-not-visible")  # while one changes hands; the latter if a process is barred


def await_end(pids: Iterable[int]) -> None:
    """Wait until these processes have ended: one in uninterruptible sleep does once what it waits for is given up."""
    deadline = time.monotonic() + SOON
    for pid in pids:
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_locked_socket_costs_its_owner_and_nobody_else(host: Host, engine: str) -> None:
    """A program sends from a file whose server died; whoever asks for its socket waits, SIGKILL or not."""
    text = by(engine, everywhere(forgetful(ENABLE, apply=True)))
    left = ExitStack()  # workers, which end once the attack does
    with left, host.attacked("locked_sockets", FORGOTTEN) as attacker:
        assert next_line(attacker) == "locked\n"
        for _ in range(2):  # what hung has kept no lock of the first one
            sock = host.connection()
            with host.daemon(text) as daemon:
                daemon.expect("hung", within=SOON)
                daemon.expect("armed", within=SOON, **near_end(sock))
                left.callback(await_end, family(daemon.pid)[1:])
                ends_at_once(host, daemon)


@pytest.mark.parametrize("engine", ENGINES)
def test_sockets_locked_in_two_namespaces_keep_nobody_elses_armed_at_a_stop(host: Host, engine: str) -> None:
    """Each costs a worker at the end; the second one cost all connections of the host their settings."""
    text = by(engine, everywhere(forgetful(ENABLE, apply=True))).replace("[watch]", "disarm_on_stop = true\n[watch]")
    with ExitStack() as left, host.daemon(text) as daemon:
        sock = host.connection()
        daemon.expect("armed", within=SOON, **(near_end(sock) if engine == "netlink" else AT_CONNECT))
        with host.attacked("locked_sockets", FORGOTTEN, "2") as attacker:
            assert [next_line(attacker) for _ in range(2)] == 2 * ["locked\n"]
            left.callback(await_end, family(daemon.pid)[1:])
            daemon.send(signal.SIGTERM)
            seconds, unserved = ending(daemon.pid)
            assert daemon.wait() == 0
            assert seconds - unserved < WITH_TWO_HUNG
        assert settings(sock) == BARE


@since(ITERATOR)
def test_a_locked_socket_of_the_daemons_own_namespace_costs_its_owner_alone(host: Host) -> None:
    """BPF locks one socket after the other: no other of its namespace was armed."""
    with ExitStack() as left, host.attacked("locked_sockets", LASTING, "1", "here") as attacker:
        assert next_line(attacker) == "locked\n"
        sock = host.connection()
        text = forgetful(ENABLE).replace("[watch]", "disarm_on_stop = true\n[watch]")
        with host.daemon(by("bpf", text)) as daemon:
            daemon.expect("hung", within=SOON)
            daemon.expect("armed", within=SOON, **near_end(sock))
            assert settings(sock) == SAFE
            left.callback(await_end, family(daemon.pid)[1:])
            ends_at_once(host, daemon)
        assert settings(sock) == BARE


@pytest.mark.parametrize("engine", ENGINES)
def test_very_many_locked_sockets_leave_a_worker_that_watches_and_arms(host: Host, engine: str) -> None:
    """Each takes a worker that cannot die; those that may be left behind would all be in one stranger's hands."""
    text = by(engine, everywhere(forgetful(ENABLE, apply=True)))
    with ExitStack() as left, host.attacked("locked_sockets", FORGOTTEN, str(MOST_LEFT)) as attacker:
        assert [next_line(attacker) for _ in range(MOST_LEFT)] == MOST_LEFT * ["locked\n"]
        first = host.connection()
        with host.daemon(text) as daemon:
            daemon.expect("armed", within=SOON, **near_end(first))
            later = host.connection()  # which BPF arms at connect, as the next scan reports
            daemon.expect("armed", within=SOON, **(near_end(later) if engine == "netlink" else AT_CONNECT))
            assert len(family(daemon.pid)) <= 1 + 1 + MOST_RISKED
            left.callback(await_end, family(daemon.pid)[1:])
            ends_at_once(host, daemon)


def test_a_duplicate_whose_close_never_ends_hangs_nobody(host: Host) -> None:
    """It was a socket when it was found, and is a file by the time it is duplicated."""
    with (
        ExitStack() as left,
        host.daemon(forgetful(ENABLE, apply=True)) as daemon,
        host.attacked("closing_never_ends", FORGOTTEN, str(SLOTS)) as attacker,
    ):
        unarmed = daemon.expect("unarmed", within=SOON)
        assert unarmed["KEEPALIVE_RESULT"] in ("failed", *WITHOUT_OWNER)
        assert next_line(attacker) == "hung\n"
        daemon.expect("armed", within=SOON, **near_end(host.connection()))
        left.callback(await_end, family(daemon.pid)[1:])
        ends_at_once(host, daemon)
