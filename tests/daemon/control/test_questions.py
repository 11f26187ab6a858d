"""What clients of the control socket ask of the daemon: it does as keepalivectl does, and says who asked."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.config import load
from keepaliveD.daemon.control.orders import became, explanation
from keepaliveD.model.actions import Outcome
from keepaliveD.model.errors import NoInput, NotPermitted
from keepaliveD.model.events import Asked
from keepaliveD.model.keepalive import ALL, Keepalive, SocketKeepalive
from keepaliveD.model.questions import ArmThis, Asker, DisarmThis, ExplainThese, Question
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.model.sockets import Timer
from keepaliveD.policy.answers.questions import MOST_EXPLAINED, Explanation
from tests.support.fakes import OFF, FakeWatcher, Stage
from tests.support.tables import FIREWALL, idle

COOKIE = 1
ON = {"on": True, "idle": 246, "interval": 20, "probes": 31}
WAS = {"on": False, "idle": 7200, "interval": 75, "probes": 9}
OBSERVE = ArmRule("arm[1]", ArmAction.OBSERVE, 180, 20, 31)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A daemon beside one bare connection that no rule arms."""
    config = dataclasses.replace(load(), paths=(FIREWALL,), arm=(OBSERVE,), ignore=())
    return Stage(tmp_path, config=config, watcher=FakeWatcher(lambda _: [idle(10.0, cookie=COOKIE)]))


def asked(stage: Stage, *questions: Question) -> list[Any]:
    """Answers, in their order, of a daemon that then stops."""
    stage.script = [Asked(Asker(number, 0, 812), question) for number, question in enumerate(questions, start=1)]
    stage.run()
    assert [asker.ticket for asker, _ in stage.answered] == list(range(1, len(questions) + 1))
    return [answer for _, answer in stage.answered]


def only(answer: Explanation) -> dict[str, Any]:
    """The only connection of an answer, as a client gets it."""
    reply: Any = explanation(answer)
    assert reply["more"] == 0
    (its,) = reply["explained"]
    return dict(its)


def test_arming_is_answered_recorded_and_logged_with_who_asked(stage: Stage) -> None:
    (outcome,) = asked(stage, ArmThis(COOKIE))
    assert isinstance(outcome, Outcome)
    reply = became(outcome)
    assert (reply["result"], reply["before"], reply["after"]) == ("armed", WAS, ON)
    assert stage.armer.stands[COOKIE] == SocketKeepalive(True, Keepalive(246, 20, 31))
    assert isinstance(stage.records().arming.entries()[COOKIE], Armed)
    (entry,) = [entry for entry in stage.said if entry.event == "armed"]
    assert {name: entry.fields[name] for name in ("KEEPALIVE_RULE", "KEEPALIVE_BY_UID", "KEEPALIVE_BY_PID")} == {
        "KEEPALIVE_RULE": "hand",
        "KEEPALIVE_BY_UID": 0,
        "KEEPALIVE_BY_PID": 812,
    }
    assert reply["message"] == entry.message


def test_the_times_that_are_asked_for_are_set(stage: Stage) -> None:
    asked(stage, ArmThis(COOKIE, idle=60, interval=10, probes=80))
    assert stage.armer.stands[COOKIE] == SocketKeepalive(True, Keepalive(60, 10, 80))


def test_disarming_puts_back_what_stood_and_leaves_the_socket_alone(stage: Stage) -> None:
    """As keepalivectl disarm does: no rule arms it again."""
    stage.config = dataclasses.replace(
        stage.config, arm=(dataclasses.replace(OBSERVE, action=ArmAction.ENABLE),), disarm_on_stop=False
    )
    (outcome,) = asked(stage, DisarmThis(COOKIE))
    assert (became(outcome)["result"], became(outcome)["after"]) == ("disarmed", WAS)
    assert stage.armer.stands[COOKIE] == OFF
    (entry,) = [entry for entry in stage.said if entry.event == "disarmed"]
    assert entry.fields["KEEPALIVE_BY_UID"] == 0


def test_a_socket_that_was_armed_at_connect_is_disarmed_too(stage: Stage) -> None:
    armed = SocketKeepalive(True, Keepalive(180, 20, 31))
    stage.armer.stands[COOKIE] = armed
    stage.at_connect.records[COOKIE] = Armed(OFF, armed, ALL)
    (outcome,) = asked(stage, DisarmThis(COOKIE))
    assert became(outcome)["result"] == "disarmed"


def test_a_socket_that_is_not_armed_is_not_disarmed(stage: Stage) -> None:
    (outcome,) = asked(stage, DisarmThis(COOKIE))
    assert became(outcome) == {"result": "not armed", "before": None, "after": None, "message": ""}


def test_a_connection_is_explained_as_keepalivectl_why_explains_it(stage: Stage) -> None:
    reply = only(*asked(stage, ExplainThese((COOKIE,))))
    assert (reply["stands"], reply["inherited"]) == (WAS, ["idle", "interval", "probes"])
    assert (reply["rule"], reply["decision"]) == ("arm[1]", "left alone by rule")
    assert reply["remedy"] == [
        {"key": "unit", "value": "backup.service"},
        {"key": "action", "value": "enable"},
        {"key": "idle", "value": "auto"},
    ]
    assert reply["connection"]["owner"]["process"] == "backup"
    assert (reply["armed"], reply["left_alone"], reply["hopeless"], reply["unread"]) == (None, False, "", "")


def test_after_arming_the_explanation_says_so(stage: Stage) -> None:
    _, its = asked(stage, ArmThis(COOKIE), ExplainThese((COOKIE,)))
    inherited = ["idle", "interval", "probes"]
    assert only(its)["armed"] == only(its)["recorded"] == {"before": WAS, "after": ON, "inherited": inherited}


def test_connections_are_explained_by_their_units_inodes_and_ends(stage: Stage) -> None:
    """All that match, the most urgent first, and each once."""
    stage.watcher = FakeWatcher(lambda _: [idle(10.0, cookie=number, inode=70 + number) for number in range(1, 600)])
    (few,) = asked(stage, ExplainThese(inodes=(72, 74), cookies=(2, 5)))
    assert sorted(its.connection.cookie for its in few.explained) == [2, 4, 5]
    remote = few.explained[0].connection.remote
    end = int(ipaddress.ip_address(remote.address)) | (0xFFFF << 32), remote.port
    stage.answered.clear()
    (most,) = asked(stage, ExplainThese(ends=(end,)))
    assert (len(most.explained), most.more) == (MOST_EXPLAINED, 599 - MOST_EXPLAINED)
    stage.answered.clear()
    (none,) = asked(stage, ExplainThese(ends=((end[0], 1),), units=("nobody*",)))
    assert isinstance(none, NoInput)


def test_nobody_keeps_the_connections_of_others_from_being_explained(stage: Stage) -> None:
    """He has more with this address than are explained, all more urgent than root's."""
    many = [idle(200.0, cookie=number, uid=40020) for number in range(1000, 1600)]
    stage.watcher = FakeWatcher(lambda _: [*many, idle(10.0, cookie=7, uid=0), idle(20.0, cookie=8, uid=113)])
    remote = int(ipaddress.ip_address("198.51.100.1")) | (0xFFFF << 32), 22
    (answer,) = asked(stage, ExplainThese(ends=(remote,)))
    assert (len(answer.explained), answer.more) == (MOST_EXPLAINED, 602 - MOST_EXPLAINED)
    cookies = [its.connection.cookie for its in answer.explained]
    assert cookies[-2:] == [8, 7]  # the most urgent come first, nevertheless


def test_an_end_is_an_address_with_its_own_port(stage: Stage) -> None:
    """Not the address of one end, and the port of another; also where many ends are asked for."""
    ports = range(1, 41)
    stage.watcher = FakeWatcher(
        lambda _: [
            idle(10.0, cookie=100 * last + port, remote=f"192.0.2.{last}", remote_port=port)
            for last in (1, 2)
            for port in ports
        ]
    )
    ends = [(int(ipaddress.ip_address(f"192.0.2.{1 + port % 2}")) | (0xFFFF << 32), port) for port in ports]
    (found,) = asked(stage, ExplainThese(ends=(*ends, (1, 1), (1 << 64, 5))))
    assert {its.connection.cookie for its in found.explained} == {100 * (1 + port % 2) + port for port in ports}


def test_where_a_socket_cannot_be_read_the_rest_is_explained(stage: Stage) -> None:
    stage.armer.refusal = NotPermitted("requires CAP_SYS_PTRACE")
    reply = only(*asked(stage, ExplainThese((COOKIE,))))
    assert (reply["stands"], reply["unread"], reply["rule"]) == (None, "cannot be read here", "arm[1]")


def test_what_was_tried_and_left_is_not_said_to_be_armed_at_the_next_scan(stage: Stage) -> None:
    """Its rule's times were too long for the path while it was late, and the daemon looks at it no more once it is cut.

    After a reload it does.
    """
    rule = ArmRule("arm[1]", ArmAction.REARM, 400, 20, 31)
    stage.config = dataclasses.replace(stage.config, arm=(rule,))
    late: Any = {"timer": Timer.KEEPALIVE, "cookie": COOKIE}
    stage.watcher = FakeWatcher(lambda now: [idle(now - 990.0, expires=7200.0 - (now - 990.0), **late)])
    stage.armer.others = SocketKeepalive(True, Keepalive(7200, 75, 9))
    stage.script = [*[None] * 22, Asked(Asker(1, 0, 812), ExplainThese((COOKIE,)))]
    stage.run()
    reply = only(stage.answered[0][1])  # type: ignore[arg-type]
    assert reply["connection"]["confirmed"]
    assert (reply["connection"]["verdict"], reply["decision"]) == ("cut", "would be armed")
    assert reply["left_until_reload"]
    assert not stage.armer.changed
