"""The control socket: many clients, none of which can hinder the others, the loop, or a scan."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepaliveD.daemon import interface
from keepaliveD.daemon.control import BUDGET, MOST_CLIENTS, Control
from keepaliveD.log.entries import Entry
from keepaliveD.model.autopsy import Tally
from keepaliveD.model.causes import Foretold
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import StateError
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.snapshot import LastScan, Setting, Snapshot

SNAPSHOT = Snapshot(
    pid=812,
    running=3600.0,
    applied=True,
    settings=(Setting("net.ipv4.tcp_keepalive_time", 180, 180, 7200),),
    engine="bpf engine",
    counts=Counts(42, 3, {Verdict.SAFE: 40, Verdict.BARE: 2}),
    scan=LastScan(1.5, 0.043, 15.0),
    results={ArmingResult.ARMED: 3, ArmingResult.FAILED: 0},
    problems=("reload failed",),
    tally=Tally(
        foretold=Counter(
            {
                ("office", "ssh.service", Foretold.FORETOLD): 3,
                ("office", "ssh.service", Foretold.NOT_FORESEEABLE): 2,
            }
        ),
        saved=Counter({("office", "ssh.service"): 5}),
    ),
    paths=(NetworkPath("default", FOREVER, Origin(Source.GUESS)),),
)
STATUS = b'{"method":"internal.tcp-keepalived.Status"}\0'
MONITOR = b'{"method":"internal.tcp-keepalived.Monitor","more":true}\0'


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path / "control", interface.service(lambda: SNAPSHOT))
    yield control
    control.close()
    assert not (tmp_path / "control").exists()


@contextlib.contextmanager
def client(control: Control) -> Iterator[socket.socket]:
    """One that waits for nothing."""
    with socket.socket(socket.AF_UNIX) as its:
        its.connect(str(control._path))
        its.setblocking(False)
        control.turn()
        yield its


def said(its: socket.socket) -> bytes:
    """What it was answered; b"-" if it was let go."""
    answer = b""
    try:
        while octets := its.recv(1 << 20):
            answer += octets
    except BlockingIOError:
        return answer
    except ConnectionResetError:
        pass
    return answer + b"-"


def turns(control: Control, number: int = 5) -> None:
    for _ in range(number):
        control.turn()


def test_the_status_is_answered(control: Control) -> None:
    with client(control) as its:
        its.send(STATUS)
        turns(control)
        answer = json.loads(said(its)[:-1])["parameters"]
    assert answer["connections"] == {
        "total": 42, "namespaces": 3, "unknown": 0, "safe": 40, "late": 0, "bare": 2, "cut": 0,
    }  # fmt: skip
    assert answer["settings"] == [{"name": "net.ipv4.tcp_keepalive_time", "wanted": 180, "stands": 180, "before": 7200}]
    assert answer["arming"] == [{"result": "armed", "count": 3}]
    assert answer["scan"] == {"ago": 1.5, "took": 0.043, "interval": 15.0}
    assert answer["problems"] == ["reload failed"]
    ended = {"foretold": 3, "missed": 0, "unforeseeable": 2, "saved": 5}
    assert answer["ends"] == [{"path": "office", "unit": "ssh.service", **ended}]


def test_the_paths_are_listed(control: Control) -> None:
    with client(control) as its:
        its.send(b'{"method":"internal.tcp-keepalived.ListPaths"}\0')
        turns(control)
        (path,) = json.loads(said(its)[:-1])["parameters"]["paths"]
    assert (path["name"], path["timeout"], path["source"]) == ("default", None, "guess")


def test_whoever_monitors_gets_each_entry(control: Control) -> None:
    """And nobody else does."""
    with client(control) as its, client(control) as other:
        its.send(MONITOR)
        turns(control)
        control.publish(interface.MONITOR, interface.entry(Entry("bare", 4, "at risk", {"KEEPALIVE_PID": 1})))
        answer = json.loads(said(its)[:-1])
        assert said(other) == b""
    assert answer == {
        "parameters": {"event": "bare", "priority": 4, "message": "at risk", "fields": {"KEEPALIVE_PID": 1}},
        "continues": True,
    }


def test_many_who_monitor_and_do_not_read_cost_a_bounded_memory(control: Control) -> None:
    with contextlib.ExitStack() as stack:
        watching = [stack.enter_context(client(control)) for _ in range(100)]
        for its in watching:
            its.send(MONITOR)
        turns(control, 20)
        entry = interface.entry(Entry("bare", 4, "x" * 1000, {}))
        for _ in range(3000):
            control.publish(interface.MONITOR, entry)
        assert all(said(its).endswith(b"-") for its in watching), "who does not take 1 MiB is let go"
        assert not control._peers


def test_more_clients_than_it_serves_are_turned_away_and_the_others_served(control: Control) -> None:
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(client(control)) for _ in range(MOST_CLIENTS)]
        with client(control) as one_more:
            turns(control)
            assert said(one_more) == b"-"
        first[-1].send(STATUS)
        turns(control)
        assert said(first[-1]).startswith(b'{"parameters":')


def test_those_who_flood_do_not_keep_others_waiting(control: Control) -> None:
    """Each turn answers a bounded number of calls, and each client in its turn."""
    with contextlib.ExitStack() as stack:
        flooding = [stack.enter_context(client(control)) for _ in range(2 * BUDGET)]
        for its in flooding:
            with contextlib.suppress(BlockingIOError):
                while True:
                    its.send(STATUS * 100)
        polite = stack.enter_context(client(control))
        polite.send(STATUS)
        turns(control, 5)
        assert said(polite).startswith(b'{"parameters":')
        began = time.process_time()
        control.turn()
        assert time.process_time() - began < 0.1
        assert max(len(peer.client._received) for peer in control._peers.values()) < 1 << 17


def test_what_is_left_over_is_answered_without_anything_new(control: Control) -> None:
    """The descriptor stays readable until then."""
    with client(control) as its:
        its.send(STATUS * 20)
        for _ in range(40):
            ready = control._selector.select(0)
            if not ready:
                break
            control.turn()
        assert said(its).count(b"\0") == 20


@pytest.mark.parametrize("slowly", [1, 7, 1000])
def test_a_client_that_sends_slowly_is_answered_when_it_has_sent_all(control: Control, slowly: int) -> None:
    with client(control) as its:
        for at in range(0, len(STATUS), slowly):
            assert said(its) == b""
            its.send(STATUS[at : at + slowly])
            control.turn()
        turns(control)
        assert said(its).endswith(b"\0")


def test_a_client_that_is_gone_is_forgotten(control: Control) -> None:
    with client(control) as its:
        its.send(STATUS[:10])
    with client(control) as its:
        its.send(STATUS)
    turns(control)
    assert not control._peers


SENT = st.lists(st.binary(min_size=1, max_size=3000) | st.sampled_from([STATUS, MONITOR, b"\0"]), max_size=20)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SENT, min_size=1, max_size=4))
def test_whatever_clients_send_nobody_gets_the_answer_of_another(control: Control, clients: list[list[bytes]]) -> None:
    """10,000 messages, malformed, truncated and half-sent ones; whoever asks well is answered."""
    with contextlib.ExitStack() as stack:
        peers = [(stack.enter_context(client(control)), sent) for sent in clients]
        for its, sent in peers:
            for chunk in sent:
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    its.send(chunk)
                control.turn()
        with client(control) as polite:
            polite.send(STATUS)
            turns(control, 100)
            assert json.loads(said(polite)[:-1])["parameters"]["pid"] == 812
        for its, sent in peers:
            answers = said(its).removesuffix(b"-").split(b"\0")[:-1]
            assert len(answers) <= b"".join(sent).count(b"\0")
    turns(control)
    assert not control._peers


def test_a_defect_of_an_answer_costs_one_client_and_not_the_daemon(tmp_path: Path) -> None:
    def defect() -> Snapshot:
        raise ZeroDivisionError

    control = Control(tmp_path / "control", interface.service(defect))
    with client(control) as its:
        its.send(STATUS)
        turns(control)
        assert said(its) == b"-"
    control.close()


def test_it_takes_the_place_of_a_socket_that_a_killed_daemon_left(tmp_path: Path) -> None:
    before = Control(tmp_path / "control", interface.service(lambda: SNAPSHOT))
    after = Control(tmp_path / "control", interface.service(lambda: SNAPSHOT))
    before.close()
    with client(after) as its:
        its.send(STATUS)
        turns(after)
        assert said(its).endswith(b"\0")
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o660
    after.close()


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("precious")
    with pytest.raises(StateError, match="is no socket; remove it"):
        Control(tmp_path / "control", interface.service(lambda: SNAPSHOT))
    assert (tmp_path / "control").read_text() == "precious"


def test_without_descriptors_it_goes_on(control: Control) -> None:
    """And serves again when there are some."""
    with client(control) as its, socket.socket(socket.AF_UNIX) as late:
        late.connect(str(control._path))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, limits[1]))
        try:
            turns(control)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        its.send(STATUS)
        turns(control)
        assert said(its).endswith(b"\0")
