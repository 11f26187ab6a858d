"""The control socket: many clients, none of which can hinder the others, the loop, or a scan."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepaliveD.daemon.control import control as module
from keepaliveD.daemon.control import interface
from keepaliveD.daemon.control.control import (
    BUDGET,
    COSTS,
    KEPT_FOR_ROOT,
    LET_IN,
    LONGEST_PAUSE,
    LONGEST_REST,
    MOST_CLIENTS,
    MOST_OF_ONE_USER,
    Control,
)
from keepaliveD.daemon.control.credentials import Credentials, groups
from keepaliveD.log.entries import Entry
from keepaliveD.model.autopsy import Tally
from keepaliveD.model.causes import Foretold
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import ConfigError, StateError
from keepaliveD.model.events import Asked
from keepaliveD.model.findings import Finding
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.questions import ExplainThese, ReloadNow
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.routes import Route, SeenByRoute
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.snapshot import Kind, LastScan, Setting, Snapshot, Totals
from keepaliveD.policy.answers import remembered as policy_remembered
from keepaliveD.policy.answers.listing import FEW
from keepaliveD.policy.answers.remembered import remembered
from tests.support.ends import FORGOTTEN_BY_REJECT, alike
from tests.support.examples import examples
from tests.support.host import NOW, FakeHost
from tests.support.tables import idle, table, watch
from tests.support.unprivileged import NOBODY

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
CONNECTIONS = 300


HOST = FakeHost(SNAPSHOT, *(idle(10.0, cookie=2 * number + 1) for number in reversed(range(CONNECTIONS))))
STATUS = b'{"method":"internal.tcp-keepalived.Status"}\0'
LIST = b'{"method":"internal.tcp-keepalived.ListConnections","more":true}\0'
RELOAD = b'{"method":"internal.tcp-keepalived.Reload"}\0'
EXPLAIN = b'{"method":"internal.tcp-keepalived.Explain","parameters":{"cookies":[1]}}\0'
MONITOR = b'{"method":"internal.tcp-keepalived.Monitor","more":true}\0'


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path / "control", interface.service(lambda: HOST), lambda: NOW)
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
    """Each question that is asked is answered at once."""
    for _ in range(number):
        for asked in control.events():
            assert isinstance(asked, Asked)
            control.settle(asked.asker, ConfigError("no"))


def test_the_status_is_answered(control: Control) -> None:
    with client(control) as its:
        its.send(STATUS)
        turns(control)
        answer = json.loads(said(its)[:-1])["parameters"]
    assert answer["connections"] == {
        "total": 42, "namespaces": 3, "unknown": 0, "safe": 40, "late": 0, "bare": 2, "cut": 0, "guessed": 0,
    }  # fmt: skip
    setting = {"name": "net.ipv4.tcp_keepalive_time", "wanted": 180, "stands": 180, "before": 7200, "note": ""}
    assert answer["settings"] == [setting]
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


def test_a_path_is_listed_with_what_became_of_its_connections_and_with_advice(tmp_path: Path) -> None:
    office = NetworkPath("office", 600.0, Origin(Source.CONFIGURED, "config.toml"))
    finding = Finding(office, 300.0, 400.0, deaths=3, survived=0, is_shorter=True)
    by_kind = {Kind("office", Verdict.SAFE, Shown.ON): 4, Kind("office", Verdict.SAFE, Shown.HIDDEN): 1}
    host = FakeHost(
        dataclasses.replace(
            SNAPSHOT, paths=(*SNAPSHOT.paths, office), findings=(finding,), totals=Totals(by_kind=by_kind)
        )
    )
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    with client(control) as its:
        its.send(b'{"method":"internal.tcp-keepalived.ListPaths"}\0')
        turns(control)
        default, listed = json.loads(said(its)[:-1])["parameters"]["paths"]
    assert (default["ended"], default["saved"], default["advice"]) == (0, 0, "")
    assert default["counts"] == "packets"
    assert not any(default["connections"].values())
    assert listed["connections"] == {"unknown": 0, "safe": 5, "late": 0, "bare": 0, "cut": 0}
    assert (listed["ended"], listed["saved"]) == (5, 5)
    assert "3 connections died in silences of 5min or more" in listed["advice"]
    assert listed["advice"].endswith('write timeout = "5min" into its [[path]]')
    assert (default["routes"], listed["routes"]) == ([], [])
    control.close()


def test_the_default_path_is_listed_with_what_was_seen_by_each_route(tmp_path: Path) -> None:
    default, radio = SNAPSHOT.paths[0], Route("wwan0", "198.51.100.1")
    finding = Finding(default, 300.0, 400.0, deaths=3, survived=0, is_shorter=True, route=radio)
    seen = (SeenByRoute(Route("eth0"), 12, 3600.0, 0, 0.0), SeenByRoute(radio, 30, 300.0, 3, 400.0))
    host = FakeHost(dataclasses.replace(SNAPSHOT, findings=(finding,), by_route=seen))
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    with client(control) as its:
        its.send(b'{"method":"internal.tcp-keepalived.ListPaths"}\0')
        turns(control)
        (listed,) = json.loads(said(its)[:-1])["parameters"]["paths"]
    assert listed["advice"] == "", "all of them together show nothing"
    cable, by_radio = listed["routes"]
    assert (cable["interface"], cable["next_hop"], cable["survived"], cable["died"]) == ("eth0", "", 12, 0)
    assert (by_radio["longest"], by_radio["shortest"]) == (300.0, 400.0)
    assert by_radio["advice"].startswith("path default by wwan0 (next hop 198.51.100.1): ")
    control.close()


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


def test_users_who_hold_all_places_and_ask_nothing_make_room_for_another(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them locked all others out for ever. Who was answered longest ago goes, of the user with the most."""

    def comes(user: int) -> socket.socket:
        monkeypatch.setattr(module, "credentials", lambda _: Credentials(812, user, user))
        return stack.enter_context(client(control))

    places = MOST_CLIENTS - KEPT_FOR_ROOT
    with contextlib.ExitStack() as stack:
        greedy = [comes(1000) for _ in range(MOST_OF_ONE_USER)]
        greedy[0].send(STATUS)
        turns(control)
        assert said(greedy[0]).startswith(b'{"parameters":')
        others = [comes(1001) for _ in range(places - MOST_OF_ONE_USER)]
        assert len(control._peers) == places
        newcomer = comes(1002)
        newcomer.send(STATUS)
        turns(control)
        assert said(newcomer).startswith(b'{"parameters":')
        assert [said(its) for its in (*greedy[:3], *others)] == [b"", b"-", *[b""] * (1 + len(others))]
        assert said(comes(1000)) == b"-"
        assert len(control._peers) == places


def test_of_many_users_with_a_place_each_one_makes_room_for_another(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns subordinate user ids is as many users as he likes."""
    with contextlib.ExitStack() as stack:
        everybody = []
        for user in range(1000, 1001 + MOST_CLIENTS - KEPT_FOR_ROOT):
            monkeypatch.setattr(module, "credentials", lambda _, user=user: Credentials(812, user, user))
            everybody.append(stack.enter_context(client(control)))
        assert [said(its) for its in everybody[:2]] == [b"-", b""]
        assert said(everybody[-1]) == b""


def test_those_who_connect_and_go_keep_nobody_out_for_long(control: Control) -> None:
    """A turn lets in as many as it can serve, not one; those of one user have some of the places, not all."""
    with contextlib.ExitStack() as stack:
        for _ in range(LET_IN - 1):
            with client(control):
                pass
        polite = stack.enter_context(client(control))
        polite.send(STATUS)
        turns(control, 2)
        assert said(polite).startswith(b'{"parameters":')
        assert len(control._peers) == 1


def test_those_who_have_gone_keep_nobody_out(control: Control) -> None:
    """Not even one who comes in the turn in which their going is seen."""
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_CLIENTS):
            stack.enter_context(client(control))
        assert len(control._peers) == MOST_CLIENTS
        stack.close()
        with client(control) as polite:
            polite.send(STATUS)
            turns(control, 2)
            assert said(polite).startswith(b'{"parameters":')


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
        assert any(seconds_of(control.turn) < 0.1 for _ in range(5)), "and not only while other programs disturb it"
        assert max(len(peer.client._received) for peer in control._peers.values()) < 1 << 17


def seconds_of(work: Callable[[], object]) -> float:
    """The processor time that it takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


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


def listed(control: Control, method: str, **parameters: object) -> list[dict[str, Any]]:
    """All replies to a call with more."""
    call = {"method": f"internal.tcp-keepalived.{method}", "parameters": parameters, "more": True}
    with client(control) as its:
        its.send(json.dumps(call).encode() + b"\0")
        received = b""
        while not received.endswith(b"\0") or json.loads(received[:-1].split(b"\0")[-1]).get("continues"):
            assert not received.endswith(b"-"), "it was let go"
            control.turn()
            received += said(its)
    return [json.loads(each) for each in received.split(b"\0")[:-1]]


def listed_by(octets: bytes) -> list[dict[str, Any]]:
    """All connections in these replies."""
    return [one for reply in octets.split(b"\0")[:-1] for one in json.loads(reply)["parameters"]["connections"]]


def cookies(replies: list[dict[str, Any]]) -> list[int]:
    return [one["cookie"] for reply in replies for one in reply["parameters"]["connections"]]


def test_connections_are_listed_some_at_a_time_in_the_order_of_their_cookies(control: Control) -> None:
    replies = listed(control, "ListConnections")
    assert cookies(replies) == list(range(1, 2 * CONNECTIONS, 2))
    assert [reply.get("continues", False) for reply in replies] == [True] * (CONNECTIONS // FEW) + [False]
    assert max(len(reply["parameters"]["connections"]) for reply in replies) == FEW


def test_a_list_goes_on_by_the_newest_scan_and_times_are_from_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection that lives all the while is listed once, whatever comes and goes."""
    monkeypatch.setattr(module, "BUDGET", 1)
    host = FakeHost(SNAPSHOT, *(idle(10.0, cookie=number) for number in range(1, 201)))
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    with client(control) as its:
        its.send(LIST)
        turns(control, 2)
        first = listed_by(said(its))
        assert len(first) == FEW
        host.now += 15
        host.scan(*(idle(25.0, cookie=number) for number in (*range(50, 200), 500)))
        host.now += 5
        octets = b""
        for _ in range(40):
            turns(control, 1)
            octets += said(its)
        rest = listed_by(octets)
    control.close()
    assert [one["cookie"] for one in first + rest] == [*range(1, 200), 500]
    assert (first[0]["idle"], first[0]["left"]) == (10.0, pytest.approx(290.0, abs=1))
    assert (rest[-1]["idle"], rest[-1]["left"]) == (30.0, pytest.approx(270.0, abs=1))


SOME = (
    idle(10.0, cookie=1, cgroup=7, remote="10.20.0.9", remote_port=10080),
    idle(1000.0, cookie=2, cgroup=8, uid=0, remote="10.20.0.9", remote_port=5432),
    idle(10.0, cookie=3, remote="fd00::9", local_port=22),
    idle(10.0, cookie=3, remote="fd00::9", local_port=22),  # a dump may list a socket twice
)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, [1, 2, 3]),
        ({"units": ["amanda"]}, [1]),
        ({"units": ["ssh*"]}, []),
        ({"units": ["ssh*", "am[a-z]nd?.*"]}, [1]),
        ({"units": ["x" * 250] * 15 + ["*"]}, [1]),  # one without a unit has no name that could match
        ({"verdicts": ["cut"]}, [2]),
        ({"verdicts": ["cut", "bare"], "users": [1000]}, [1, 3]),
        ({"paths": ["fire*"]}, [1, 2, 3]),
        ({"paths": ["x"]}, []),
        ({"paths": ["*"], "units": ["*d*"]}, [1]),
        ({"peers": ["10.20.0.0/16"]}, [1, 2]),
        ({"peers": ["fd00::9"]}, [3]),
        ({"peers": ["192.0.2.1"]}, []),
        ({"addresses": ["192.0.2.1"]}, [1, 2, 3]),
        ({"addresses": ["fd00::9", "10.20.0.0/16"], "users": [1000]}, [1, 3]),
        ({"ports": [22]}, [3]),
        ({"ports": [10080, 5432]}, [1, 2]),
        ({"users": [0]}, [2]),
        ({"namespaces": [0]}, [1, 2, 3]),
        ({"namespaces": [5]}, []),
    ],
)
def test_connections_are_selected(tmp_path: Path, filters: dict[str, object], found: list[int]) -> None:
    host = FakeHost(SNAPSHOT, *SOME)
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    assert cookies(listed(control, "ListConnections", **filters)) == found
    control.close()


@pytest.mark.parametrize(
    "filters",
    [
        {"units": "ssh"},
        {"units": [1]},
        {"units": ["x" * 1000]},
        {"units": ["x*"] * 17},
        {"units": ["*a" * 64, "*a" * 65]},
        {"paths": ["*a" * 64, "*a" * 65]},
        {"verdicts": ["dead"]},
        {"peers": ["10.20.0"]},
        {"addresses": ["10.20.0"]},
        {"peers": ["10.0.0.1"] * 100},
        {"ports": [70000]},
        {"ports": [True]},
        {"users": [-1]},
        {"namespaces": [1.5]},
        {"processes": []},
    ],
)
def test_a_filter_that_is_wrong_is_named(control: Control, filters: dict[str, object]) -> None:
    (reply,) = listed(control, "ListConnections", **filters)
    assert reply == {
        "error": "org.varlink.service.InvalidParameter",
        "parameters": {"parameter": next(iter(filters))},
    }


def test_without_an_autopsy_nothing_is_selected_by_unit_and_that_is_said(tmp_path: Path) -> None:
    host = FakeHost(SNAPSHOT, *SOME, units=None)
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    (reply,) = listed(control, "ListConnections", units=["amanda"])
    assert reply["error"] == "internal.tcp-keepalived.UnitsNotKnown"
    control.close()


def test_what_is_remembered_is_told_some_sockets_at_a_time(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_remembered, "FEW", 128)
    replies = listed(control, "ListMemory")
    assert [reply.get("continues", False) for reply in replies] == [True, True, False]
    memory = remembered([reply["parameters"] for reply in replies])
    assert memory is not None
    assert memory.cookie.tolist() == list(range(1, 2 * CONNECTIONS, 2))


def test_before_the_first_scan_nothing_is_remembered(tmp_path: Path) -> None:
    host = FakeHost(SNAPSHOT)
    host.judgement = watch(table(NOW))
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    assert [reply["parameters"] for reply in listed(control, "ListMemory")] == [{"scanned_at": None, "columns": {}}]
    control.close()


def test_namespaces_are_listed_with_their_connections(control: Control) -> None:
    ((only,),) = [reply["parameters"]["namespaces"] for reply in listed(control, "ListNamespaces")]
    assert only == {"inode": 0, "total": 300, "unknown": 0, "safe": 0, "late": 0, "bare": 300, "cut": 0}


def test_what_ended_is_listed_the_newest_first(tmp_path: Path) -> None:
    host = FakeHost(SNAPSHOT)
    (death,) = alike(FORGOTTEN_BY_REJECT, 1, 0.0).examples
    host.reported = ((1, death), (7, dataclasses.replace(death, ended_at=NOW - 5)))
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    with client(control) as its:
        its.send(b'{"method":"internal.tcp-keepalived.ListDeaths"}\0')
        turns(control)
        answer = json.loads(said(its)[:-1])["parameters"]
    control.close()
    assert answer["causes"] == [{"cause": "path-died", "count": 2}]
    assert (answer["ordinary"], answer["lost"]) == (5, 1)
    assert [(one["count"], one["ago"]) for one in answer["deaths"]] == [(7, 5.0), (1, NOW - death.ended_at)]
    assert answer["deaths"][0]["cause"] == "middlebox-idle"


def test_a_client_that_lists_and_does_not_read_keeps_a_bounded_memory(tmp_path: Path) -> None:
    """No reply is made before it has taken the one before, and it hinders nobody."""
    host = FakeHost(SNAPSHOT, *(idle(10.0, cookie=number) for number in range(20_000)))
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(client(control)) for _ in range(10)]
        for its in slow:
            its.send(LIST)
        turns(control, 500)
        assert max(len(peer.client.outgoing) for peer in control._peers.values()) < 100_000
        polite = stack.enter_context(client(control))
        polite.send(STATUS)
        turns(control)
        assert said(polite).startswith(b'{"parameters":')
    control.close()


@pytest.mark.parametrize("method", ["ListConnections", "ListMemory"])
def test_clients_that_list_and_do_not_read_keep_no_scan_in_memory(method: str, tmp_path: Path) -> None:
    """They would keep one each if each asks after another scan."""
    sockets = [idle(10.0, cookie=number) for number in range(5_000)]
    host = FakeHost(SNAPSHOT, *sockets)
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    scans = []
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(client(control)).send(LIST.replace(b"ListConnections", method.encode()))
            turns(control, 100)
            scans.append(weakref.ref(host.judgement.activity.cookie))
            host.scan(*sockets)
        assert [len(peer.client.outgoing) > 0 for peer in control._peers.values()] == [True] * 3
        host.listed()
        gc.collect()
        assert [scan() is None for scan in scans] == [True] * 3
    control.close()


def test_a_call_waits_for_one_reply_to_a_list_and_not_for_those_to_all_lists(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many clients list all connections."""
    monkeypatch.setattr(module, "BUDGET", 2)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(client(control)).send(LIST)
        turns(control, 10)
        polite = stack.enter_context(client(control))
        polite.send(STATUS)
        turns(control, 1)
        assert said(polite).startswith(b'{"parameters":')


class Clock:
    """Time that a test steps."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> Iterator[Control]:
    control = Control(tmp_path / "control", interface.service(lambda: HOST), clock)
    yield control
    control.close()


def ask(its: socket.socket, control: Control, call: bytes) -> list[Asked]:
    """The questions that come of a call."""
    its.send(call)
    return [event for event in control.events() if isinstance(event, Asked)]


def test_an_order_of_root_is_handed_to_the_decider_and_answered_to_who_asked(timed: Control) -> None:
    """Others ask after that."""
    with client(timed) as its, client(timed) as other:
        (asked,) = ask(its, timed, RELOAD)
        assert asked.question == ReloadNow()
        assert (asked.asker.user, asked.asker.process) == (os.getuid(), os.getpid())
        assert ask(other, timed, EXPLAIN) == []
        timed.settle(asked.asker, None)
        assert json.loads(said(its)[:-1]) == {"parameters": {}}
        (later,) = timed.events()
        assert isinstance(later, Asked)
        assert later.question == ExplainThese((1,))
        timed.settle(asked.asker, None)
        assert said(other) == b"", "that was the answer to another question"
        timed.settle(later.asker, ConfigError("broken"))
        assert json.loads(said(other)[:-1]) == {
            "error": "internal.tcp-keepalived.Failed",
            "parameters": {"reason": "broken"},
        }


@pytest.mark.parametrize(
    ("units", "refused"),
    [
        (["*a"] * 16, False),
        (["*a"] * 17, True),
        (["*a" * 64, "*b" * 64], False),
        (["*a" * 64, "*b" * 65], True),
        (["a" * 256] * 16, False),  # a name without a wildcard is compared, which takes no time
    ],
)
def test_few_units_can_be_explained_at_once(timed: Control, units: list[str], refused: bool) -> None:
    """Each is held against the names of all units, by the process that must never wait: a thousand took 0.8 s."""
    call = {"method": "internal.tcp-keepalived.Explain", "parameters": {"units": units}}
    with client(timed) as its:
        asked = ask(its, timed, json.dumps(call).encode() + b"\0")
        assert bool(asked) is not refused
        if refused:
            answer = json.loads(said(its)[:-1])
            assert answer["error"] == "org.varlink.service.InvalidParameter"
            assert answer["parameters"] == {"parameter": "units"}


HEAVY = "[Ā-\uffff]" * 51  # as a regular expression it takes 100 ms to compile


@pytest.mark.parametrize("name", ["units", "paths"])
def test_patterns_of_clients_are_neither_kept_nor_compiled(tmp_path: Path, name: str) -> None:
    """The cache of fnmatch has room for 32,768 patterns of 7 KB, and all clients wait while one is compiled."""
    host = FakeHost(SNAPSHOT, *SOME)
    control = Control(tmp_path / "control", interface.service(lambda: host), lambda: NOW)
    kept, began = fnmatch._compile_pattern.cache_info().currsize, time.thread_time()  # type: ignore[attr-defined]
    assert cookies(listed(control, "ListConnections", **{name: [HEAVY + name[0]]})) == []
    assert time.thread_time() < began + 0.05
    assert fnmatch._compile_pattern.cache_info().currsize == kept  # type: ignore[attr-defined]
    control.close()


def test_a_client_that_goes_before_its_answer_harms_nobody(timed: Control) -> None:
    with client(timed) as its:
        (asked,) = ask(its, timed, RELOAD)
    assert list(timed.events()) == []
    assert timed._selector.select(0) == [], "nobody spins until the answer is there"
    with client(timed) as other:
        timed.settle(asked.asker, None)
        other.send(STATUS)
        turns(timed)
        assert said(other).endswith(b"\0")
    turns(timed)
    assert not timed._peers


def test_an_order_whose_client_has_gone_is_not_carried_out(timed: Control) -> None:
    """It was told that the daemon does not answer: nobody expects any more that it is done."""
    with client(timed) as its:
        its.send(RELOAD)
    assert list(timed.events()) == []
    assert not timed._peers


def test_a_client_that_only_sends_no_more_has_not_gone(timed: Control) -> None:
    with client(timed) as its:
        its.send(RELOAD)
        its.shutdown(socket.SHUT_WR)
        (asked,) = timed.events()
        assert isinstance(asked, Asked)
        timed.settle(asked.asker, None)
        assert json.loads(said(its)[:-1].removesuffix(b"\0")) == {"parameters": {}}


def test_a_client_that_wants_no_answer_may_go(timed: Control) -> None:
    with client(timed) as its:
        its.send(RELOAD.replace(b"{", b'{"oneway":true,'))
    (asked,) = timed.events()
    assert isinstance(asked, Asked)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects is user 1000."""

    monkeypatch.setattr(module, "credentials", lambda _: Credentials(812, 1000, 1000))


@pytest.mark.parametrize("method", ["Reload", "Arm", "Disarm"])
@pytest.mark.usefixtures("stranger")
def test_an_order_of_anybody_else_is_refused_as_varlink_says(timed: Control, method: str) -> None:
    with client(timed) as its:
        assert ask(its, timed, RELOAD.replace(b"Reload", method.encode())) == []
        assert json.loads(said(its)[:-1]) == {"error": "org.varlink.service.PermissionDenied", "parameters": {}}


def test_others_than_root_rest_after_each_question_and_root_does_not(
    timed: Control, clock: Clock, request: pytest.FixtureRequest
) -> None:
    """So that they take a small share of the worker's time, however many of them ask."""
    with client(timed) as root:
        request.getfixturevalue("stranger")
        with client(timed) as its, client(timed) as other:
            (asked,) = ask(its, timed, EXPLAIN)
            clock.now += 0.1
            timed.settle(asked.asker, ConfigError("x"))
            assert ask(other, timed, EXPLAIN) == []
            assert timed.due() == pytest.approx(clock.now + COSTS * 0.1)
            (order,) = ask(root, timed, RELOAD)
            timed.settle(order.asker, None)
            assert list(timed.events()) == []
            clock.now = timed.due()
            (later,) = timed.events()
            assert isinstance(later, Asked)
            clock.now += 1000
            timed.settle(later.asker, ConfigError("x"))
            ask(its, timed, EXPLAIN)
            assert timed.due() == clock.now + LONGEST_REST


@pytest.mark.parametrize(("took", "pause"), [(0.1, 0.1), (60.0, LONGEST_PAUSE)], ids=["clients", "something else"])
def test_a_turn_ends_when_its_time_is_over(
    timed: Control, clock: Clock, monkeypatch: pytest.MonkeyPatch, took: float, pause: float
) -> None:
    """What is left over is done in the next one, after a pause: whoever floods takes half of a processor at most."""

    def slow() -> Snapshot:
        clock.now += took
        return SNAPSHOT

    monkeypatch.setattr(HOST, "snapshot", slow)
    with client(timed) as its:
        its.send(STATUS * 3)
        for number in (1, 2, 3):
            assert list(timed.events()) == []
            assert said(its).count(b"\0") == 1, number
            assert list(timed.events()) == []
            assert (said(its), timed.fileno()) == (b"", -1)
            assert timed.due() == pytest.approx(clock.now + pause)
            clock.now = timed.due()
        assert timed.fileno() >= 0


OWN = 4711  # the user of the daemon
MEMBERS = 4712  # the group of those who may ask in any case
READERS = (1000, 1001)  # users with as many clients as they may have
METRICS = b'{"method":"internal.tcp-keepalived.Metrics"}\0'
COST = 0.02  # seconds that each answer takes


class Crowd:
    """Users who have very many clients, each with very many calls; time goes by while they are answered."""

    def __init__(self, control: Control, clock: Clock, stack: contextlib.ExitStack, patch: pytest.MonkeyPatch) -> None:
        self._control, self._clock, self._stack, self._patch = control, clock, stack, patch
        patch.setattr(control, "_own", Credentials(os.getpid(), OWN, MEMBERS))
        patch.setattr(HOST, "snapshot", self._snapshot)
        for reader in READERS:
            for _ in range((MOST_CLIENTS - KEPT_FOR_ROOT) // 2):
                self.comes(reader, NOBODY).send(METRICS * 500)
        for _ in range(100):
            self.turn()

    def _snapshot(self) -> Snapshot:
        self._clock.now += COST
        return SNAPSHOT

    def comes(self, user: int, group: int) -> socket.socket:
        self._patch.setattr(module, "credentials", lambda _: Credentials(812, user, group))
        return self._stack.enter_context(client(self._control))

    def turn(self) -> None:
        self._clock.now = max(self._clock.now, min(self._control.due(), self._clock.now + 1.0))
        for asked in self._control.events():
            assert isinstance(asked, Asked)
            self._control.settle(asked.asker, ConfigError("no"))

    def answers_within(self, its: socket.socket, call: bytes) -> float:
        """Return after how many seconds the call is answered."""
        began = self._clock.now
        its.send(call)
        while not (answer := said(its)):
            self.turn()
        assert answer.startswith(b'{"parameters":')
        return self._clock.now - began


@pytest.fixture
def crowd(timed: Control, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    with contextlib.ExitStack() as stack:
        yield Crowd(timed, clock, stack, monkeypatch)


@pytest.mark.parametrize(("user", "group"), [(0, 0), (OWN, NOBODY), (1002, MEMBERS), (1002, NOBODY)], ids=str)
def test_nobody_waits_for_all_clients_of_other_users(crowd: Crowd, user: int, group: int) -> None:
    """Two users with 112 clients each made root and the exporter wait for 224 answers."""
    its = crowd.comes(user, group)
    for _ in range(3):
        assert crowd.answers_within(its, METRICS) < 10 * COST


def test_the_other_groups_of_who_connects_are_told() -> None:
    """A service is in the group of the daemon's user by SupplementaryGroups=."""
    before = os.getgroups()
    if os.geteuid() == 0:
        os.setgroups([MEMBERS, NOBODY])
    try:
        one, other = socket.socketpair()
        with one, other:
            assert sorted(groups(one)) == sorted(os.getgroups())
    finally:
        if os.geteuid() == 0:
            os.setgroups(before)


def test_root_and_the_group_do_not_even_wait_for_very_many_users(crowd: Crowd) -> None:
    """Whoever owns subordinate user ids is as many users as he likes."""
    others = [crowd.comes(user, NOBODY) for user in range(2000, 2000 + MOST_CLIENTS - KEPT_FOR_ROOT)]
    for its in others:
        with contextlib.suppress(BrokenPipeError):  # it has made room for another one
            its.send(METRICS * 500)
    for user, group in ((0, 0), (1002, MEMBERS)):
        assert crowd.answers_within(crowd.comes(user, group), METRICS) < 10 * COST
    assert crowd.answers_within(crowd.comes(1003, NOBODY), METRICS) > 10 * COST


def test_a_member_of_the_group_makes_room_for_nobody_who_is_none(crowd: Crowd) -> None:
    """As many users as there are places made him go, who had one place as each of them."""
    member = crowd.comes(1002, MEMBERS)
    for user in range(2000, 2001 + MOST_CLIENTS - KEPT_FOR_ROOT):
        crowd.comes(user, NOBODY)
    assert crowd.answers_within(member, METRICS) < 10 * COST
    members = [crowd.comes(3000 + number % 2, MEMBERS) for number in range(MOST_CLIENTS - KEPT_FOR_ROOT - 1)]
    assert [said(its) for its in (member, *members)] == [b""] * (1 + len(members))
    assert said(crowd.comes(2000, NOBODY)) == b"-"


def test_each_user_gets_as_many_answers_however_many_clients_the_others_have(clock: Clock, crowd: Crowd) -> None:
    its = crowd.comes(1002, NOBODY)
    its.send(METRICS * 500)
    got, began = 0, clock.now
    for _ in range(300):
        crowd.turn()
        got += said(its).count(b"\0")
    assert got == pytest.approx((clock.now - began) / 2 / COST / 3, rel=0.1)  # half of the time is pauses


def test_a_user_asks_after_one_question_of_another_however_many_clients_that_one_has(
    timed: Control, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for user in (1000, 1000, 1000, 1001):
            monkeypatch.setattr(module, "credentials", lambda _, user=user: Credentials(812, user, user))
            stack.enter_context(client(timed)).send(EXPLAIN)
        users = []
        for _ in range(3):
            for asked in timed.events():
                assert isinstance(asked, Asked)
                users.append(asked.asker.user)
                clock.now += 0.1
                timed.settle(asked.asker, ConfigError("x"))
            clock.now += LONGEST_REST
    assert users == [1000, 1001, 1000]


SENT = st.lists(
    st.binary(min_size=1, max_size=3000) | st.sampled_from([STATUS, MONITOR, LIST, RELOAD, EXPLAIN, LIST[:30], b"\0"]),
    max_size=20,
)


@settings(examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SENT, min_size=1, max_size=4))
def test_whatever_clients_send_nobody_gets_the_answer_of_another(control: Control, clients: list[list[bytes]]) -> None:
    """10,000 messages, malformed, truncated and half-sent ones; whoever asks well is answered."""
    with contextlib.ExitStack() as stack:
        peers = [(stack.enter_context(client(control)), sent) for sent in clients]
        for its, sent in peers:
            for chunk in sent:
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    its.send(chunk)
                turns(control, 1)
        with client(control) as polite:
            polite.send(STATUS)
            turns(control, 100)
            assert json.loads(said(polite)[:-1])["parameters"]["pid"] == 812
        for its, sent in peers:
            answers = [json.loads(each) for each in said(its).removesuffix(b"-").split(b"\0")[:-1]]
            assert sum("continues" not in answer for answer in answers) <= b"".join(sent).count(b"\0")
    turns(control)
    assert not control._peers


def test_a_defect_of_an_answer_costs_one_client_and_not_the_daemon(tmp_path: Path) -> None:
    def defect() -> FakeHost:
        raise ZeroDivisionError

    control = Control(tmp_path / "control", interface.service(defect), lambda: NOW)
    with client(control) as its:
        its.send(STATUS)
        turns(control)
        assert said(its) == b"-"
    control.close()


def test_it_takes_the_place_of_a_socket_that_a_killed_daemon_left(tmp_path: Path) -> None:
    before = Control(tmp_path / "control", interface.service(lambda: HOST), lambda: NOW)
    after = Control(tmp_path / "control", interface.service(lambda: HOST), lambda: NOW)
    before.close()
    with client(after) as its:
        its.send(STATUS)
        turns(after)
        assert said(its).endswith(b"\0")
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o660
    after.close()


def test_it_makes_a_directory_that_is_missing_and_removes_it(tmp_path: Path) -> None:
    """Without a service manager, nobody else does."""
    before = os.umask(0o077)
    try:
        control = Control(tmp_path / "run/control", interface.service(lambda: HOST), lambda: NOW)
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755
    control.close()
    assert not (tmp_path / "run").exists()
    with pytest.raises(StateError, match="missing/run: cannot be made: No such file or directory"):
        Control(tmp_path / "missing/run/control", interface.service(lambda: HOST), lambda: NOW)


def test_it_does_not_take_the_place_of_a_daemon_that_runs(tmp_path: Path) -> None:
    """One with another state directory: the service, for example."""
    path = tmp_path / "control"
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True)"
    command = [sys.executable, "-c", f"{script}; sys.stdin.read()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(StateError, match=rf"another daemon \(process {other.pid}\) listens there"):
            Control(path, interface.service(lambda: HOST), lambda: NOW)
        assert path.is_socket()
        other.kill()
    Control(path, interface.service(lambda: HOST), lambda: NOW).close()


def test_it_does_not_take_the_place_of_a_daemon_that_is_busy(tmp_path: Path) -> None:
    """So many wait to be let in that there is no room for one more."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(2):  # one more than are let wait: the kernel counts so
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(path))
        with pytest.raises(StateError, match="another daemon listens there"):
            Control(path, interface.service(lambda: HOST), lambda: NOW)
        assert path.is_socket()


@pytest.mark.parametrize("call", ["register", "modify"])
def test_a_client_that_cannot_be_waited_for_is_let_go(
    control: Control, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has no memory for that, or no more places (epoll_ctl(2))."""
    with client(control) as before:
        with monkeypatch.context() as short:
            selector: Any = control._selector
            short.setattr(selector, "_selector", Short(selector._selector, call))
            with client(control) as one:
                with contextlib.suppress(BrokenPipeError):  # let go at once
                    one.send(MONITOR)
                turns(control)
                for _ in range(100):  # until it takes no more, and would be waited for
                    control.publish(interface.MONITOR, {"message": "x" * 4096})
                assert said(one).endswith(b"-")
        before.send(STATUS)
        turns(control)
        assert said(before).startswith(b'{"parameters":')
    turns(control)
    assert not control._peers


class Short:
    """An epoll without room for one of its calls."""

    def __init__(self, epoll: Any, call: str) -> None:
        self._epoll = epoll
        setattr(self, call, self._refuse)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def _refuse(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("precious")
    with pytest.raises(StateError, match="is no socket; remove it"):
        Control(tmp_path / "control", interface.service(lambda: HOST), lambda: NOW)
    assert (tmp_path / "control").read_text() == "precious"


def test_without_descriptors_it_goes_on(control: Control) -> None:
    """Turns away whom it has none for, and serves again when there are some."""
    with client(control) as its, socket.socket(socket.AF_UNIX) as late:
        late.connect(str(control._path))
        late.setblocking(False)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(lowest := os.dup(its.fileno()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            turns(control)
            assert control._selector.select(0) == [], "it would spin until there are some"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert said(late) == b"-"
        its.send(STATUS)
        turns(control)
        assert said(its).endswith(b"\0")
