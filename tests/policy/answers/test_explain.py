"""What the rules come to for one socket, and which rule would help."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping

import numpy as np
import pytest

from keepaliveD.model.arming import LOOKED, Access
from keepaliveD.model.connections import Owner
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.explained import Explained
from keepaliveD.model.keepalive import ALL, Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, ArmingResult, Entry, Mark
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from keepaliveD.model.sockets import Column, Timer
from keepaliveD.policy.answers.explain import Surroundings, explain, selecting
from keepaliveD.policy.verdicts.connections import by_urgency
from keepaliveD.policy.verdicts.judge import judge
from tests.support.tables import CONFIGURED, FIREWALL, PROXY, Socket, idle, table, watch

SYSTEM = Keepalive(7200, 75, 9)
OURS = Keepalive(180, 20, 31)
OFF = SocketKeepalive(False, SYSTEM)
ON = SocketKeepalive(True, SYSTEM)
OWNER = Owner(812, "amandad", "amanda.service")


def rule(action: ArmAction, name: str = "keepalive.arm", **selectors: tuple[str, ...]) -> ArmRule:
    return ArmRule(name, action, *OURS, **selectors)  # type: ignore[arg-type]


REARM = rule(ArmAction.REARM)


def looked(stands: SocketKeepalive, inherited: Own = ALL, user_timeout: int = 0) -> Column:
    """What an armer reads of one socket."""
    read = np.zeros(1, LOOKED)
    read["stands"], read["system"] = [(*stands.times, stands.on)], [(*SYSTEM, True)]
    read["inherited"], read["user_timeout"] = inherited, user_timeout
    return read


def explained(
    read: Column | None,
    *rules: ArmRule,
    path: Path = FIREWALL,
    entries: Mapping[int, Entry] | None = None,
    ignore: str = "127.0.0.0/8",
    socket: Socket | None = None,
) -> Explained:
    """The explanation of one quiet, bare connection of amanda's."""
    judgement = watch(table(1000.0, socket or idle(10.0, cookie=1)), path=path)
    (one,) = (dataclasses.replace(each, owner=OWNER) for each in by_urgency(judgement, at_risk_only=False))
    around = Surroundings(OURS, (*rules, REARM), [ipaddress.ip_network(ignore)], entries or {})
    (its,) = explain(judgement, [one], read, around)
    return its


def test_a_connection_that_no_rule_helps_gets_the_rule_that_would() -> None:
    """By the narrowest name that lasts; what it would set is what the daemon would set."""
    its = explained(looked(OFF))
    assert (its.rule, its.decision) == (REARM, ArmingResult.LEFT_BY_RULE)
    assert its.remedy
    assert its.remedy.settings == (("unit", "amanda.service"), ("action", "enable"), ("idle", "auto"))
    assert its.remedy.armed.after == SocketKeepalive(True, Keepalive(246, 20, 31))


def test_the_rule_that_would_help_fits_a_short_path_as_well() -> None:
    its = explained(looked(OFF), path=Path("near", 60.0, CONFIGURED))
    assert its.remedy
    assert its.remedy.settings[-1] == ("idle", "auto")
    assert its.remedy.armed.after.times.idle < 60


def test_the_rule_that_would_help_fits_this_hosts_own_firewall_where_that_forgets_first() -> None:
    first = watch(table(990.0, idle(0.0, cookie=1)), path=FIREWALL)
    memory = dataclasses.replace(first.activity, firewall_timeout=np.full(1, 60.0))
    judgement = judge(table(1000.0, idle(10.0, cookie=1)), memory, (FIREWALL,), ())
    (one,) = (dataclasses.replace(each, owner=OWNER) for each in by_urgency(judgement, at_risk_only=False))
    (its,) = explain(judgement, [one], looked(OFF), Surroundings(OURS, (REARM,), [], {}))
    assert its.remedy
    assert its.remedy.armed.after.times.idle < 60


def test_a_rule_that_helps_already_needs_no_other() -> None:
    its = explained(looked(OFF), rule(ArmAction.ENABLE, "arm[1]", units=("amanda*",)))
    assert isinstance(its.decision, Armed)
    assert (its.rule.name, its.remedy, its.hopeless) == ("arm[1]", None, None)


def test_no_rule_arms_a_connection_while_its_data_is_sent_again() -> None:
    """The daemon does not either; what is read of a socket counts probes only."""
    again: Socket = {**idle(300.0, cookie=1), "timer": Timer.RETRANSMIT, "expires": 9.0, "retransmits": 3}
    its = explained(looked(OFF), rule(ArmAction.ENABLE, "arm[1]"), socket=again)
    assert (its.decision, its.remedy) == (ArmingResult.PROBE_UNANSWERED, None)


def test_the_first_rule_that_matches_the_owner_counts() -> None:
    its = explained(
        looked(OFF),
        rule(ArmAction.ENABLE, "arm[1]", units=("other.service",)),
        rule(ArmAction.OBSERVE, "arm[2]", processes=("amanda?",)),
    )
    assert (its.rule.name, its.decision) == ("arm[2]", ArmingResult.LEFT_BY_RULE)
    assert its.remedy


def test_times_that_the_program_chose_are_kept_by_rearm_and_the_remedy_shortens_them() -> None:
    late = idle(10.0, cookie=1, timer=Timer.KEEPALIVE, expires=7190.0)
    its = explained(looked(ON, inherited=Own(0)), socket=late)
    assert its.decision is ArmingResult.KEPT_BY_PROGRAM
    assert its.remedy
    assert its.remedy.armed.after.times.idle == 246


def test_a_short_user_timeout_is_hopeless() -> None:
    """No rule may end the connection sooner."""
    its = explained(looked(OFF, user_timeout=1000))
    assert (its.remedy, its.hopeless) == (None, ArmingResult.USER_TIMEOUT)


@pytest.mark.parametrize(
    ("read", "entries", "ignore", "socket"),
    [
        (None, {}, "127.0.0.0/8", None),
        (looked(OFF), {}, "198.51.100.0/24", None),
        (looked(OFF), {}, "127.0.0.0/8", idle(10.0, cookie=1, inode=0)),
        (looked(OFF), {1: Mark.LEFT_ALONE}, "127.0.0.0/8", None),
    ],
    ids=["not read", "ignored", "orphan", "left alone"],
)
def test_no_rule_is_proposed_that_would_not_help(
    read: Column | None, entries: Mapping[int, Entry], ignore: str, socket: Socket | None
) -> None:
    its = explained(read, entries=entries, ignore=ignore, socket=socket)
    assert its.remedy is None
    assert its.watched == (ignore == "127.0.0.0/8")


def test_no_rule_helps_on_a_path_that_counts_only_data() -> None:
    its = explained(looked(OFF), rule(ArmAction.ENABLE, "arm[1]"), path=PROXY)
    assert (its.decision, its.remedy, its.hopeless) == (ArmingResult.ONLY_DATA, None, ArmingResult.ONLY_DATA)


def test_a_connection_that_is_safe_needs_nothing() -> None:
    its = explained(looked(OFF), path=Path("lasting", FOREVER, CONFIGURED))
    assert (its.decision, its.remedy, its.hopeless) == (None, None, None)


def test_what_we_armed_is_ours_as_long_as_it_stands() -> None:
    mine = Armed(OFF, SocketKeepalive(True, OURS))
    assert explained(looked(mine.after, Own(0)), entries={1: mine}).armed == mine
    assert explained(looked(ON, Own(0)), entries={1: mine}).armed is None
    assert explained(None, entries={1: mine}).armed == mine


def test_a_socket_that_cannot_be_reached_says_why() -> None:
    read = looked(OFF)
    read["access"] = Access.NOT_PERMITTED
    its = explained(read)
    assert (its.found, its.hindrance, its.decision) == (None, ArmingResult.NOT_PERMITTED, None)


@pytest.mark.parametrize(
    ("owner", "selector"),
    [
        (Owner(1, "sshd", "ssh.service"), ("unit", "ssh.service")),
        (Owner(1, "a[b]*", "session-3.scope"), ("process", "a[[]b][*]")),
        (Owner(1, "bash", "user@1000.service"), ("process", "bash")),
        (Owner(1, "nginx", "docker-1234.scope", "1234"), ("container", "1234")),
        (Owner(), ("user", "1000")),
    ],
)
def test_a_rule_selects_by_what_lasts(owner: Owner, selector: tuple[str, str]) -> None:
    """A session's unit does not; and a name is no pattern."""
    assert selecting(owner, 1000) == selector
