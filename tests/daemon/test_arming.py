"""The daemon arms sockets of other programs: once, on record, and in one look with its settings."""

from __future__ import annotations

import dataclasses
import ipaddress
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from keepaliveD.daemon.perform import Performer
from keepaliveD.log.entries import ERROR
from keepaliveD.model.actions import Arm
from keepaliveD.model.arming import Access
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, StateError, Unfinished, Unsupported
from keepaliveD.model.keepalive import ALL, Keepalive, Shown, SocketKeepalive
from keepaliveD.model.results import Armed, ArmingResult, Mark
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.sockets import Column, SocketTable, Switch, Timer
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import Judgement, judge
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.settings import file_name
from tests.support.fakes import (
    APPLIED,
    IDENTITY,
    OFF,
    OURS,
    RESTORED,
    Direct,
    FakeArmer,
    FakeAtConnect,
    FakeOwners,
    FakeTuner,
    FakeWatcher,
    Stage,
)
from tests.support.samples import BARE
from tests.support.tables import CONFIGURED, Socket, idle, table

TIMES = Keepalive(180, 20, 31)
ENABLE = ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31)
FASTER = ArmRule("hand", ArmAction.ENABLE, 60, 20, 31)
REARM = dataclasses.replace(ENABLE, name="keepalive.arm", action=ArmAction.REARM)
ON = SocketKeepalive(True, TIMES)


def silent(cookie: int = 1) -> Callable[[float], list[Socket]]:
    """A socket without keepalive whose last packet was at 900."""
    return lambda now: [idle(now - 900.0, cookie=cookie, inode=cookie)]


def helped(stage: Stage) -> Callable[[float], list[Socket]]:
    """The same, which shows that it was armed as soon as it is."""

    def sockets(now: float) -> list[Socket]:
        if not stage.armer.changed:
            return silent()(now)
        return [idle(now - 900.0, timer=Timer.KEEPALIVE, expires=1080.0 - now)]

    return sockets


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A bare connection, and a rule that arms it."""
    stage = Stage(tmp_path, watcher=FakeWatcher(silent()))
    stage.config = dataclasses.replace(stage.config, arm=(ENABLE,))
    return stage


def recorded(stage: Stage) -> list[int]:
    """What the next process learns of."""
    return sorted(stage.records().arming.armed())


# arming


def test_a_connection_at_risk_is_armed_once_and_that_is_one_entry(stage: Stage) -> None:
    stage.watcher = FakeWatcher(helped(stage))
    stage.script = [None, None]
    stage.run()
    assert stage.armer.changed == [(1, ON)]
    (entry,) = [entry for entry in stage.said if entry.event == "armed"]
    assert "(backup.service)" in entry.message
    assert recorded(stage) == [1]


def test_settings_are_applied_before_sockets_are_armed(stage: Stage) -> None:
    """What a program chose is seen by that it differs from the system's: these must stand already."""
    stood: list[int] = []

    stage.armer.between = lambda: stood.append(stage.tuner.values["time"])
    stage.run()
    assert stood == [OURS["time"]]
    assert stage.events()[:5] == ["applied"] * 3 + ["armed", "started"]


def test_it_is_on_record_before_it_is_set(stage: Stage) -> None:
    """kill -9 may come between any two steps."""
    seen: list[list[int]] = []

    stage.armer.between = lambda: seen.append(recorded(stage))
    stage.run()
    assert seen == [[1]]


def test_what_an_earlier_daemon_has_armed_is_not_taken_for_the_programs_choice(stage: Stage) -> None:
    """After a crash."""
    first = Armed(OFF, SocketKeepalive(True, Keepalive(300, 20, 31)))
    stage.records().arming.write({1: first})
    stage.armer.stands[1] = first.after
    stage.run()
    assert stage.records().arming.armed()[1].before == OFF


def test_nobody_is_warned_of_what_is_armed_in_time(stage: Stage) -> None:
    stage.watcher = FakeWatcher(helped(stage))
    stage.script = [None] * 5
    stage.run()
    assert [event for event in stage.events() if event in ("armed", "bare", "late", "cut")] == ["armed"]


@pytest.mark.parametrize("quiet_since", [100.0, 900.0])
def test_what_is_presumed_to_be_cut_is_not_armed_with_times_that_let_a_living_one_die(
    stage: Stage, quiet_since: float
) -> None:
    """Its peer may have probed until the daemon came, and the rule's idle time is longer than the path waits."""
    slow = dataclasses.replace(ENABLE, idle=1000)
    stage.config = dataclasses.replace(stage.config, arm=(slow,))
    stage.watcher = FakeWatcher(lambda now: [idle(now - quiet_since)])
    stage.run()
    assert stage.armer.changed == []
    assert "armed" not in stage.events()


def test_what_cannot_be_armed_is_reported_once_and_warned_of_like_any_other(stage: Stage) -> None:
    stage.armer.looks = Access.NOT_PERMITTED
    stage.script = [None] * 8
    stage.run()
    assert stage.armer.looked == [1]
    assert [event for event in stage.events() if event in ("unarmed", "bare")] == ["unarmed", "bare"]


def test_every_result_is_counted(stage: Stage) -> None:
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=cookie) for cookie in range(1, 8)]

    def go_on() -> None:
        stage.armer.looks = Access.NOT_PERMITTED
        stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=cookie) for cookie in range(5, 11)]

    stage.script = [go_on, None]
    daemon = stage.daemon()
    daemon.run()
    assert daemon.decider.status.results == {ArmingResult.ARMED: 7, ArmingResult.NOT_PERMITTED: 6}


def test_what_gets_a_user_timeout_after_it_was_armed_is_put_back_and_left(stage: Stage) -> None:
    """Its probes would end it in an outage that it survives without them. Seen where BPF reads that option."""

    def sockets(now: float) -> list[Socket]:
        armed = bool(stage.armer.changed)
        shown = {"keepidle": 180, "keepintvl": 20, "keepcnt": 31, "user_timeout": 1500} if armed else {}
        return [cast("Socket", idle(now - 900.0) | shown)]

    stage.watcher.sockets = sockets
    stage.script = [None] * 3
    stage.run()
    assert stage.armer.changed == [(1, ON), (1, OFF)]
    (entry,) = [entry for entry in stage.said if entry.event == "disarmed"]
    assert "disarmed: off (before: idle 3min, interval 20s, probes 31), because its program has set" in entry.message
    assert stage.records().arming.left_alone() == {1}


# a dry run


def test_a_dry_run_arms_nothing_and_says_what_it_would(stage: Stage) -> None:
    stage.dry_run = True
    stage.script = [None]
    stage.daemon().run()
    assert (stage.armer.looked, stage.armer.changed) == ([1], [])
    assert list(stage.directory.iterdir()) == []
    (message,) = [entry.message for entry in stage.said if entry.event == "armed"]
    assert message.startswith("backup[77] (backup.service) 192.0.2.1:40000 -> 198.51.100.1:22: would be armed by ")


@pytest.mark.parametrize("action", [ArmAction.OBSERVE, ArmAction.REARM])
def test_whoever_is_only_observed_never_reaches_the_armer(stage: Stage, action: ArmAction) -> None:
    """Not one system call: the first rule leaves this owner alone, and the second is not asked."""
    mine = dataclasses.replace(ENABLE, action=action, units=("backup.service",))
    stage.config = dataclasses.replace(stage.config, arm=(mine, ENABLE))
    stage.run()
    assert stage.armer.looked == []
    assert "armed" not in stage.events()


# refusals


@pytest.mark.parametrize("refusal", [NotPermitted("a sandbox forbids it"), Unsupported("requires Linux 5.6")])
def test_where_arming_is_refused_the_daemon_starts_and_says_so_once(stage: Stage, refusal: Exception) -> None:
    """To watch and to tune is still worth it."""
    assert isinstance(refusal, NotPermitted | Unsupported)
    stage.armer.refusal = refusal
    stage.script = [None, None, lambda: setattr(stage.watcher, "sockets", silent(2)), None]
    stage.run()
    assert stage.notified[0][0] == "READY=1"
    said = [(entry.priority, entry.message) for entry in stage.said if entry.event == "refused"]
    assert said == [(ERROR, str(refusal))]
    assert stage.tuner.writes == [*APPLIED, *RESTORED]


def test_after_a_reload_it_is_tried_again(stage: Stage) -> None:
    def allow() -> None:
        stage.armer.refusal = None

    stage.armer.refusal = NotPermitted("a sandbox forbids it")
    stage.script = [None, allow, None, signal.SIGHUP]
    stage.run()
    assert [event for event in stage.events() if event in ("refused", "armed", "reloaded")] == [
        "refused",
        "armed",
        "reloaded",
    ]


@pytest.mark.parametrize(
    ("refusal", "pauses"),
    [(StateError("armed: No space left on device"), 1), (NotPermitted("a sandbox forbids it"), 15)],
    ids=["at the next scan where it may have passed", "later where another try mostly meets it again"],
)
def test_arming_that_was_refused_is_tried_again_and_meanwhile_the_status_says_so(
    stage: Stage, refusal: Refusal, pauses: int
) -> None:
    """It was given up until a reload, and nothing said so."""

    def allow() -> None:
        stage.armer.refusal = None

    stage.armer.refusal = refusal
    stage.config = dataclasses.replace(stage.config, interval=15.0)
    problems: list[tuple[str, ...]] = []
    daemon = stage.daemon()
    stage.script = [lambda: problems.append(daemon.view.snapshot().problems), allow, *[None] * pauses]
    daemon.run()
    assert f"arming suspended for 0s: {refusal}" in problems[0]
    assert stage.events().count("refused") == 1
    assert "armed" in stage.events()
    statuses = [each for line in stage.notified for each in line if each.startswith("STATUS=")]
    assert f"arming suspended for 0s: {refusal}" in statuses[0]
    assert "suspended" not in statuses[-1]


def test_without_a_record_nothing_is_touched(stage: Stage) -> None:
    """One line, and the daemon lives on."""
    (stage.directory / "armed").mkdir()
    stage.script = [None]
    stage.run()
    assert stage.armer.changed == []
    (message,) = [entry.message for entry in stage.said if entry.event == "refused"]
    assert message.endswith("no socket is touched without the arming record")
    assert "\n" not in message


# stop


def test_a_stop_leaves_sockets_armed(stage: Stage) -> None:
    """Connections outlive the daemon, and an upgrade must not endanger them."""
    stage.run()
    assert "disarmed" not in stage.events()
    assert recorded(stage) == [1]
    (entry,) = [entry for entry in stage.said if entry.event == "still-armed"]
    assert (entry.message, entry.fields) == (
        "1 connection stays armed; keepalivectl disarm restores it",
        {"KEEPALIVE_COUNT": 1},
    )


def test_a_stop_counts_only_armed_connections_that_the_last_scan_saw(stage: Stage) -> None:
    """Those of an earlier daemon and those armed at connect, too."""
    stage.config = dataclasses.replace(stage.config, arm=())
    stage.records().arming.write({2: Armed(OFF, ON), 3: Armed(OFF, ON), 4: Mark.LEFT_ALONE})
    stage.at_connect.records |= dict.fromkeys([3, 4, 5], Armed(OFF, ON))
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=cookie) for cookie in (1, 3, 4, 5)]
    stage.run()
    assert [entry.message for entry in stage.said if entry.event == "still-armed"] == [
        "2 connections stay armed; keepalivectl disarm restores them"
    ]


def test_a_stop_puts_back_what_was_armed_if_the_configuration_says_so(stage: Stage) -> None:
    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.run()
    (entry,) = [entry for entry in stage.said if entry.event == "disarmed"]
    assert entry.message.endswith(
        "192.0.2.1:40000 -> 198.51.100.1:22: disarmed: off (before: idle 3min, interval 20s, probes 31)"
    )
    assert recorded(stage) == []
    assert "still-armed" not in stage.events()
    assert stage.events()[-4:] == ["restored"] * 3 + ["disarmed"], "what a socket inherited is what stands then"


def test_a_stop_that_cannot_open_a_session_disarms_by_the_one_in_force(stage: Stage) -> None:
    """As where the files of the program are gone: only peers that are ignored since then stay armed."""
    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)

    def remove() -> None:
        stage.cannot_open = Unsupported("the object is missing")

    stage.script = [None, remove]
    stage.run()
    assert stage.opened[-1].ignore == ()
    assert recorded(stage) == []


def test_a_stop_that_cannot_open_a_session_says_what_it_may_have_ignored(stage: Stage) -> None:
    """Where no socket of the host was missing, it was silent about those."""
    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.records().arming.write({9: Armed(OFF, ON)})

    def remove() -> None:
        stage.cannot_open = Unsupported("the object is missing")

    stage.script = [None, remove]
    with pytest.raises(Unfinished, match="1 connection on record not found"):
        stage.run()
    assert recorded(stage) == [9]


def test_a_socket_whose_keepalive_its_program_has_switched_off_is_not_counted_at_a_stop(stage: Stage) -> None:
    stage.config = dataclasses.replace(stage.config, arm=())
    stage.records().arming.write({2: Armed(OFF, ON), 3: Armed(OFF, ON)})
    stage.watcher.sockets = lambda now: [
        idle(now - 900.0, cookie=2, keepalive=Switch.ON),
        idle(now - 900.0, cookie=3, keepalive=Switch.OFF),
    ]
    stage.run()
    assert [entry.message for entry in stage.said if entry.event == "still-armed"] == [
        "1 connection stays armed; keepalivectl disarm restores it"
    ]


def test_an_upgrade_does_not_disarm(stage: Stage) -> None:
    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.successor = True
    stage.run()
    assert not {"disarmed", "still-armed"} & set(stage.events())
    assert recorded(stage) == [1]


def test_a_stop_that_cannot_disarm_says_so_and_restores_the_settings(stage: Stage) -> None:
    def fail() -> None:
        stage.watcher.refusal = NotPermitted("sock_diag: no")

    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.script = [fail, signal.SIGTERM]
    with pytest.raises(NotPermitted, match="cannot disarm, sockets stay armed"):
        stage.run()
    said = [entry.message for entry in stage.said]
    assert "cannot disarm, sockets stay armed: sock_diag: no; run keepalivectl disarm" in said
    assert stage.events().count("restored") == 3
    assert recorded(stage) == [1]


@pytest.mark.parametrize("why", ["silent", "crowded"])
@pytest.mark.parametrize("when", ["since the last scan", "for longer"])
def test_a_stop_says_how_many_it_has_not_found_and_ends_with_75(stage: Stage, why: str, when: str) -> None:
    """They were armed still, and nothing said so where too many sockets of others hid them."""

    def hide() -> None:
        stage.watcher.sockets = lambda _: []
        setattr(stage.watcher, why, (7,))

    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.records().arming.write({1: Armed(OFF, ON)})
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=1, keepalive=Switch.ON, netns=7)]
    stage.script = [hide, *([None] if when == "for longer" else []), signal.SIGTERM]
    with pytest.raises(Unfinished, match="1 connection on record not found, so not disarmed") as caught:
        stage.run()
    assert caught.value.status == 75
    (entry,) = [entry for entry in stage.said if entry.event == "still-armed"]
    assert entry.message == (
        "1 connection on record not found: ended since, or armed still where not all connections can be read; "
        "run keepalivectl disarm"
    )
    assert entry.fields == {"KEEPALIVE_COUNT": 1}
    assert recorded(stage) == [1]


def test_a_stop_does_not_miss_what_has_ended_where_another_namespace_is_not_read_completely(stage: Stage) -> None:
    def end() -> None:
        stage.watcher.sockets, stage.watcher.crowded = (lambda _: []), (8,)

    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=1, netns=7)]
    stage.script = [end, signal.SIGTERM]
    stage.run()
    assert "still-armed" not in stage.events()


def test_a_dry_run_disarms_nothing(stage: Stage) -> None:
    ArmingRecord(stage.directory, IDENTITY["boot"]).write({1: Armed(OFF, ON)})
    stage.config = dataclasses.replace(stage.config, disarm_on_stop=True)
    stage.dry_run = True
    stage.daemon().run()
    assert "disarmed" not in stage.events()
    assert recorded(stage) == [1]


# the performer alone


class Nobody(FakeOwners):
    """An owner that cannot be told."""

    def find(self, inodes: Sequence[int], _cgroups: Sequence[int]) -> list[Owner]:
        return [Owner()] * len(inodes)


def performer(stage: Stage, owners: FakeOwners | None = None) -> Direct:
    platform = Platform("fake", FakeTuner(), FakeAtConnect(), stage.open)
    session = Session(FakeWatcher(), owners or FakeOwners(), stage.armer)
    return Direct(Performer(platform, None if stage.dry_run else stage.records()), session)


def look(*cookies: int) -> Judgement:
    """A scan that shows these sockets."""
    scan = table(1000.0, *(idle(10.0, cookie=cookie) for cookie in cookies))
    return judge(scan, nothing_known(), [NetworkPath("default", 240.0, CONFIGURED)], ())


def wishes(*rules: ArmRule) -> tuple[Wish, ...]:
    return tuple(Wish(rule, TIMES) for rule in rules)


def test_of_several_rules_the_first_that_means_the_owner_is_ordered(stage: Stage) -> None:
    other = dataclasses.replace(ENABLE, name="arm[1]", units=("cron.service",))
    mine = dataclasses.replace(ENABLE, name="arm[2]", units=("backup*",))
    performer(stage).perform(Arm((BARE,), (*wishes(other), Wish(mine, Keepalive(100, 20, 31)), *wishes(ENABLE))))
    assert [after.times.idle for _, after in stage.armer.changed] == [100]


def test_whom_no_rule_means_is_left(stage: Stage) -> None:
    other = dataclasses.replace(ENABLE, units=("cron.service",))
    outcome = performer(stage).perform(Arm((BARE,), wishes(other)))
    assert [each.result for each in outcome.armings] == [ArmingResult.LEFT_BY_RULE]
    assert stage.armer.looked == []


def test_rearm_orders_only_what_has_keepalive_on_or_may_have(stage: Stage) -> None:
    shown = [dataclasses.replace(BARE, cookie=number, keepalive=each) for number, each in enumerate(Shown)]
    performer(stage).perform(Arm(tuple(shown), wishes(REARM)))
    assert [shown[cookie].keepalive for cookie in stage.armer.looked] == [Shown.ON, Shown.HIDDEN]


def test_what_somebody_has_set_since_is_armed_by_hand_alone(stage: Stage) -> None:
    stage.records().arming.write({BARE.cookie: Mark.LEFT_ALONE})
    performer(stage).perform(Arm((BARE,), wishes(ENABLE)))
    assert stage.armer.looked == []
    performer(stage).perform(Arm((BARE,), wishes(ENABLE), by_hand=True))
    assert stage.armer.changed == [(BARE.cookie, ON)]


def test_a_socket_that_the_kernel_refused_is_not_on_record(stage: Stage) -> None:
    stage.armer.changes = Access.FAILED
    outcome = performer(stage).perform(Arm((BARE,), wishes(ENABLE)))
    assert [each.result for each in outcome.armings] == [ArmingResult.FAILED]
    assert recorded(stage) == []


def test_a_failure_is_nobodys_choice_and_is_tried_again_with_growing_pauses(stage: Stage) -> None:
    """Then it is reported, once; what succeeds before that is not worth a word."""

    tried: list[int] = []
    stage.armer = FakeArmer(changes=Access.FAILED, between=lambda: tried.append(len(stage.waits)))
    stage.script = [None] * 25
    stage.run()
    assert tried == [0, 1, 3, 7, 15]
    assert stage.events().count("unarmed") == 1
    assert (recorded(stage), stage.records().arming.left_alone()) == ([], set())


def test_what_failed_and_succeeds_later_is_armed_and_nothing_else_is_said(stage: Stage) -> None:
    stage.armer.changes = Access.FAILED
    stage.script = [lambda: setattr(stage.armer, "changes", Access.DONE), None]
    stage.run()
    assert "armed" in stage.events()
    assert "unarmed" not in stage.events()
    assert recorded(stage) == [1]


def test_what_failed_midway_stays_on_record_as_it_stands(stage: Stage) -> None:
    """So that it can be disarmed."""
    midway = SocketKeepalive(False, Keepalive(7200, 20, 9))

    stage.armer = FakeArmer(changes=Access.FAILED, midway=midway)
    performer(stage).perform(Arm((BARE,), wishes(ENABLE)))
    assert stage.records().arming.armed() == {BARE.cookie: Armed(OFF, midway, ALL)}


def test_what_could_not_be_recorded_for_a_while_is_armed_once_it_can(stage: Stage) -> None:
    """A full disk is reported once, and is no reason never to arm again."""
    (stage.directory / "armed").mkdir()
    stage.script = [None, (stage.directory / "armed").rmdir, None, None]
    stage.run()
    assert stage.events().count("refused") == 1
    assert "armed" in stage.events()
    assert recorded(stage) == [1]


def test_what_a_program_sets_while_it_is_to_be_armed_anew_counts_as_if_it_was_set_before(stage: Stage) -> None:
    """It stays, and so does what was recorded."""
    earlier = {BARE.cookie: Armed(OFF, ON)}
    stage.records().arming.write(earlier)
    stage.armer.stands[BARE.cookie] = ON
    its_own = SocketKeepalive(True, Keepalive(60, 1, 3))
    stage.armer.between = lambda: stage.armer.stands.update({BARE.cookie: its_own})
    outcome = performer(stage).perform(Arm((BARE,), (Wish(FASTER, Keepalive(60, 20, 31)),)))
    assert [each.result for each in outcome.armings] == [ArmingResult.CHANGED_SINCE]
    assert stage.armer.stands[BARE.cookie] == its_own
    assert stage.records().arming.armed() == earlier


class Lost(FakeArmer):
    """Its worker dies before it answers, after it has set as many sockets as it is to."""

    sets = 0

    def change(self, changes: Column, *, closing: bool) -> Column:
        super().change(changes[: self.sets], closing=closing)
        self.change = super().change  # type: ignore[method-assign]
        raise KernelError("the worker process has ended unexpectedly")


@pytest.mark.parametrize("sets", [0, 1, 2])
def test_a_worker_that_is_lost_while_it_sets_sockets_leaves_a_record_that_is_true(stage: Stage, sets: int) -> None:
    """What it had set is armed, the rest stands as before, and is armed at the next try."""
    stage.armer = Lost()
    stage.armer.sets = sets
    both = (BARE, dataclasses.replace(BARE, cookie=BARE.cookie + 1))
    acting = performer(stage)
    outcome = acting.perform(Arm(both, wishes(ENABLE)))
    results = {each.result: len(each.connections) for each in outcome.armings}
    assert results.get(ArmingResult.ARMED, 0) == len(recorded(stage)) == sets
    assert results.get(ArmingResult.FAILED, 0) <= 2 - sets
    left = tuple([one for one in both if one.cookie not in recorded(stage)])
    if left:
        again = acting.perform(Arm(left, wishes(ENABLE)))
        assert {each.result for each in again.armings} == {ArmingResult.ARMED}
    assert recorded(stage) == sorted(one.cookie for one in both)


def test_a_record_that_fails_is_the_outcome(stage: Stage) -> None:
    (stage.directory / "armed").mkdir()
    outcome = performer(stage).perform(Arm((BARE,), wishes(ENABLE)))
    assert isinstance(outcome.refused, StateError)
    assert outcome.armings == ()


def test_what_was_never_armed_is_not_disarmed(stage: Stage) -> None:
    records = stage.records()
    records.arming.write({BARE.cookie: Armed(OFF, ON)})
    stage.armer.stands = {BARE.cookie: ON, 5: ON}
    outcome = performer(stage).disarm(look(5, BARE.cookie))
    assert [(one.cookie, each.after) for each in outcome.armings for one in each.connections] == [(BARE.cookie, OFF)]
    assert recorded(stage) == []


def test_a_table_of_what_is_armed_is_tidied_as_sockets_go(stage: Stage) -> None:
    """After a night of backups, the record is of those that live."""
    looks = iter([range(1, 1500), range(1, 3), range(1, 3)])
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=cookie, inode=cookie) for cookie in next(looks)]
    stage.script = [None, None]
    stage.run()
    assert recorded(stage) == [1, 2]


def test_a_refusal_is_reported_once_although_several_paths_are_concerned(stage: Stage) -> None:
    """Each is an action of its own, and the next would be refused as the first was."""
    networks = [(ipaddress.ip_network(f"198.51.100.{number}"),) for number in range(3)]
    paths = [NetworkPath(str(number), 300.0, CONFIGURED, network) for number, network in enumerate(networks)]
    stage.config = dataclasses.replace(stage.config, paths=(*stage.config.paths, *paths))
    stage.watcher.sockets = lambda now: [
        idle(now - 900.0, cookie=number, remote=f"198.51.100.{number}") for number in range(3)
    ]
    stage.armer.refusal = NotPermitted("a sandbox forbids it")
    stage.run()
    assert stage.events().count("refused") == 1


# a record that cannot be tidied


def test_a_record_that_cannot_be_tidied_is_no_reason_not_to_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor to keep quiet about what was done in the same look."""

    def full(_: object, __: object) -> None:
        raise StateError("armed: cannot be written: No space left on device")

    monkeypatch.setattr(ArmingRecord, "tidy", full)
    stage.script = [None, None]
    stage.run()
    assert stage.notified[0][0] == "READY=1"
    assert stage.events().count("applied") == 3
    assert "armed" in stage.events()
    assert "scan-failed" not in stage.events()
    assert stage.events().count("refused") == 1


def test_a_scan_that_missed_sockets_is_no_proof_that_they_are_gone(stage: Stage) -> None:
    """A namespace that could not be read this time has its armed sockets still."""

    class Partial(FakeWatcher):
        def scan(self, now: float) -> SocketTable:
            return dataclasses.replace(super().scan(now), complete=False)

    stage.records().arming.write(dict.fromkeys(range(10_000, 12_000), Armed(OFF, ON)))
    stage.watcher = Partial(silent())
    stage.run()
    assert len(recorded(stage)) == 2001


# what stood there first is not forgotten


def test_a_second_arming_that_fails_leaves_the_first_on_record(stage: Stage) -> None:
    """Its settings stand as before, which are ours."""
    first = Armed(SocketKeepalive(False, Keepalive(7200, 75, 8)), OFF)
    stage.records().arming.write({BARE.cookie: first})
    stage.armer.changes = Access.FAILED
    performer(stage).perform(Arm((BARE,), wishes(ENABLE), by_hand=True))
    assert stage.records().arming.armed() == {BARE.cookie: first}


def test_of_two_daemons_the_second_disarms_only_what_it_was_the_first_to_arm(stage: Stage) -> None:
    """As --once does: what an earlier one armed stays so."""
    stage.records().arming.write({5: Armed(OFF, ON)})
    stage.armer.stands[5] = ON
    second = performer(stage)
    second.perform(Arm((BARE, dataclasses.replace(BARE, cookie=5)), wishes(ENABLE)))
    outcome = second.disarm(look(5, BARE.cookie), only_mine=True)
    assert [one.cookie for each in outcome.armings for one in each.connections] == [BARE.cookie]
    assert (recorded(stage), stage.records().arming.left_alone()) == ([5], set())


def test_a_dry_run_that_may_not_read_sockets_is_refused_as_arming_would_be(stage: Stage) -> None:
    stage.dry_run = True
    stage.armer.refusal = NotPermitted("run as root")
    outcome = performer(stage).perform(Arm((BARE,), wishes(ENABLE)))
    assert (outcome.armings, outcome.refused) == ((), stage.armer.refusal)


@pytest.mark.parametrize(
    ("answer", "result", "forgotten"),
    [
        (Access.DONE, ArmingResult.DISARMED, True),
        (Access.CHANGED_MEANWHILE, ArmingResult.CHANGED_MEANWHILE, True),
        (Access.FAILED, ArmingResult.FAILED, False),
        (Access.CLOSED, ArmingResult.CLOSED, False),
    ],
)
def test_what_could_not_be_disarmed_stays_on_record_for_another_try(
    stage: Stage, answer: Access, result: ArmingResult, forgotten: bool
) -> None:
    """What is somebody else's by now is not ours to put back."""
    stage.records().arming.write(dict.fromkeys((BARE.cookie, 5), Armed(OFF, ON)))
    stage.armer = FakeArmer(stands={BARE.cookie: ON}, changes=answer)
    outcome = performer(stage).disarm(look(BARE.cookie))
    assert [each.result for each in outcome.armings] == [result]
    assert recorded(stage) == ([5] if forgotten else [5, BARE.cookie])


def test_what_cannot_be_recorded_as_disarmed_is_not_disarmed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a state directory that is read-only, say: the line that says so was true only of arming."""
    stage.records().arming.write({BARE.cookie: Armed(OFF, ON)})
    stage.armer = FakeArmer(stands={BARE.cookie: ON})
    its = performer(stage)

    def refuse(_: ArmingRecord) -> None:
        raise StateError("armed: cannot be written: Read-only file system; no socket is touched")

    monkeypatch.setattr(ArmingRecord, "check_writable", refuse)
    outcome = its.disarm(look(BARE.cookie))
    assert "Read-only" in str(outcome.refused)
    assert (stage.armer.changed, recorded(stage)) == ([], [BARE.cookie])


@pytest.mark.parametrize(
    "answer", [Access.NOT_PERMITTED, Access.OTHER_USER_NAMESPACE, Access.OWNER_NOT_FOUND, Access.CLOSED]
)
def test_what_could_not_be_read_stays_on_record_for_another_try(stage: Stage, answer: Access) -> None:
    """With more privilege, say."""
    stage.records().arming.write({BARE.cookie: Armed(OFF, ON)})
    stage.armer = FakeArmer(stands={BARE.cookie: ON}, looks=answer)
    performer(stage).disarm(look(BARE.cookie))
    assert recorded(stage) == [BARE.cookie]


@pytest.mark.parametrize(
    ("stands", "result"),
    [(OFF, ArmingResult.ALREADY_SET), (SocketKeepalive(True, Keepalive(9, 9, 9)), ArmingResult.CHANGED_SINCE)],
)
def test_what_stands_as_before_or_was_set_since_is_forgotten_when_it_is_disarmed(
    stage: Stage, stands: SocketKeepalive, result: ArmingResult
) -> None:
    stage.records().arming.write({BARE.cookie: Armed(OFF, ON)})
    stage.armer = FakeArmer(stands={BARE.cookie: stands})
    outcome = performer(stage).disarm(look(BARE.cookie))
    assert [each.result for each in outcome.armings] == [result]
    assert (recorded(stage), stage.armer.changed) == ([], [])


# other processes that do the same at the same time


def once(what: Callable[[], object]) -> Callable[[], None]:
    """The same, for the first time alone."""
    todo = [what]

    def happen() -> None:
        if todo:
            todo.pop()()

    return happen


@pytest.mark.parametrize("at", ["looked_into", "between"])
@pytest.mark.parametrize("other", [ENABLE, FASTER])
def test_of_two_who_arm_at_the_same_time_what_stood_there_before_both_is_put_back(
    stage: Stage, at: str, other: ArmRule
) -> None:
    """The second looks before the first has set anything, and comes first."""
    one, another = performer(stage), performer(stage)
    action = Arm((BARE,), wishes(ENABLE), by_hand=True)
    theirs = Arm((BARE,), (Wish(other, Keepalive(other.idle or 0, 20, 31)),), by_hand=True)
    setattr(stage.armer, at, once(lambda: another.perform(theirs)))
    outcome = one.perform(action)
    assert {each.result for each in outcome.armings} <= {ArmingResult.ARMED, ArmingResult.ALREADY_SET}
    assert stage.armer.stands[BARE.cookie].on
    assert stage.records().arming.armed()[BARE.cookie].before == OFF
    performer(stage).disarm(look(BARE.cookie))
    assert stage.armer.stands[BARE.cookie] == OFF
    assert recorded(stage) == []


@pytest.mark.parametrize("at", ["looked_into", "between"])
def test_who_disarms_at_the_same_time_leaves_nothing_armed_without_a_record(stage: Stage, at: str) -> None:
    setattr(stage.armer, at, once(lambda: performer(stage).disarm(look(BARE.cookie))))
    performer(stage).perform(Arm((BARE,), wishes(ENABLE), by_hand=True))
    assert (stage.armer.stands[BARE.cookie], recorded(stage)) == (ON, [BARE.cookie])


@pytest.mark.parametrize("at", ["looked_into", "between"])
def test_who_arms_while_another_disarms_leaves_nothing_armed_without_a_record(stage: Stage, at: str) -> None:
    stage.records().arming.write({BARE.cookie: Armed(OFF, ON, ALL)})
    stage.armer.stands[BARE.cookie] = ON
    theirs = Arm((BARE,), (Wish(FASTER, Keepalive(60, 20, 31)),), by_hand=True)
    setattr(stage.armer, at, once(lambda: performer(stage).perform(theirs)))
    performer(stage).disarm(look(BARE.cookie))
    assert (stage.armer.stands[BARE.cookie], recorded(stage)) == (OFF, [])


def test_a_program_that_asks_for_keepalive_just_then_is_armed_all_the_same(stage: Stage) -> None:
    """As sshd does, soon after it has accepted a connection: its own setting is what is put back."""
    its_own = SocketKeepalive(True, Keepalive(7200, 75, 9))
    stage.armer.between = once(lambda: stage.armer.stands.update({BARE.cookie: its_own}))
    outcome = performer(stage).perform(Arm((BARE,), wishes(ENABLE)))
    assert [each.result for each in outcome.armings] == [ArmingResult.ARMED]
    assert stage.armer.stands[BARE.cookie].on
    assert stage.records().arming.armed()[BARE.cookie].before == its_own


def test_where_others_go_on_and_on_that_is_what_is_said(stage: Stage) -> None:
    """Nobody waits for an end of it."""

    idles = iter(range(100, 200))

    def theirs() -> None:
        after = SocketKeepalive(True, Keepalive(next(idles), 20, 31))
        stage.records().arming.write({BARE.cookie: Armed(OFF, after, ALL)})

    stage.armer.looked_into = theirs
    outcome = performer(stage).perform(Arm((BARE,), wishes(ENABLE), by_hand=True))
    assert [each.result for each in outcome.armings] == [ArmingResult.CHANGED_MEANWHILE]
    assert stage.armer.changed == []


def test_those_that_are_too_many_for_one_reading_are_armed_and_disarmed_one_part_after_the_other(stage: Stage) -> None:
    stage.armer.most = 2
    five = [dataclasses.replace(BARE, cookie=cookie) for cookie in range(1, 6)]
    performer(stage).perform(Arm((*five, five[0]), wishes(ENABLE)))
    assert [cookie for cookie, _ in stage.armer.changed] == [1, 2, 3, 4, 5]
    performer(stage).disarm(look(*range(1, 6)))
    assert set(stage.armer.stands.values()) == {OFF}


# disarmed by hand


def test_what_was_disarmed_by_hand_is_not_armed_again_by_a_daemon_at_work(stage: Stage) -> None:
    """As keepalivectl(1) promises, also after a reload: who disarms has a reason."""

    def disarm_by_hand() -> None:
        by_hand = ArmingRecord(stage.directory, IDENTITY["boot"])
        by_hand.write(dict.fromkeys(by_hand.armed(), Mark.LEFT_ALONE))

    stage.script = [disarm_by_hand, None, None, signal.SIGHUP, None, None]
    stage.run()
    assert stage.armer.looked == [1]
    assert [event for event in stage.events() if event in ("armed", "unarmed")] == ["armed", "unarmed"]
    assert recorded(stage) == []


# a damaged record


def test_a_damaged_record_is_kept_aside_and_reported_once_a_start(stage: Stage) -> None:
    """Before this run's own sockets are recorded."""
    (stage.directory / "armed").write_bytes(b"\xff\n" * 100)
    for _ in range(2):
        stage.said.clear()
        stage.script = [None, None]
        stage.run()
        (told,) = (entry for entry in stage.said if entry.event == "record")
        assert told.priority == ERROR
        assert told.message.startswith(f"{stage.directory}/armed.damaged: damaged arming record (kept aside): ")
        assert "started" in stage.events()
    assert (stage.directory / "armed.damaged").read_bytes() == b"\xff\n" * 100
    assert recorded(stage) == [1]


def test_damaged_records_are_problems_that_the_status_shows(stage: Stage) -> None:
    """Those of sockets and those of settings: whoever asks for the status has not read the log of the start."""
    (stage.directory / "armed.damaged").write_bytes(b"\xff\n")
    settings = stage.directory / f"{file_name(IDENTITY)}.damaged"
    settings.write_bytes(b"\xff\n")
    seen: list[tuple[str, ...]] = []
    daemon = stage.daemon()
    stage.script = [lambda: seen.append(daemon.view.snapshot().problems)]
    daemon.run()
    assert [line.partition(": ")[0] for line in seen[0]] == [str(settings), f"{stage.directory}/armed.damaged"]


def test_a_record_that_is_damaged_while_the_daemon_runs_is_reported_at_the_next_scan(stage: Stage) -> None:
    def damage() -> None:
        (stage.directory / "armed").write_bytes(b"\xff\n" * 100)

    stage.script = [damage, None]
    stage.run()
    assert stage.events().index("record") > stage.events().index("started")
    assert stage.events().count("record") == 1


class Asked(FakeOwners):
    """Keeps the inodes by which processes were looked for."""

    def __init__(self) -> None:
        self.inodes: list[int] = []

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        self.inodes += filter(None, inodes)
        return super().find(inodes, cgroups)


@pytest.mark.parametrize(
    ("by_cookie", "processes", "sought"), [(True, (), False), (True, ("backup",), True), (False, (), True)]
)
def test_processes_of_many_sockets_are_looked_for_only_if_they_matter(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, by_cookie: bool, processes: tuple[str, ...], sought: bool
) -> None:
    """To look into every process takes seconds, and the units are known without it."""
    monkeypatch.setattr("keepaliveD.daemon.arming.MANY", 1)
    several = [dataclasses.replace(BARE, cookie=cookie, inode=cookie) for cookie in (1, 2)]
    stage.armer.by_cookie = by_cookie
    asked = Asked()
    rule = dataclasses.replace(ENABLE, processes=processes)
    outcome = performer(stage, asked).perform(Arm(tuple(several), (Wish(rule, TIMES),)))
    assert [(each.result, len(each.connections)) for each in outcome.armings] == [(ArmingResult.ARMED, 2)]
    assert {one.owner.unit for each in outcome.armings for one in each.connections} == {"backup.service"}
    assert asked.inodes == ([1, 2] if sought else [])


def test_many_that_fail_alike_are_one_result(stage: Stage) -> None:
    """A host with a million sockets may not make a million objects, even if the kernel refuses each."""
    several = tuple(dataclasses.replace(BARE, cookie=cookie) for cookie in (1, 2, 3))
    stage.armer.changes = Access.FAILED
    outcome = performer(stage).perform(Arm(several, (Wish(ENABLE, TIMES),)))
    assert [(each.result, len(each.connections)) for each in outcome.armings] == [(ArmingResult.FAILED, 3)]


class OneByOne(FakeArmer):
    """Reads one socket at a time, and keeps of how many it was told."""

    def __init__(self) -> None:
        super().__init__(most=1)
        self.told: list[int] = []

    def read(self, targets: Column, *, closing: bool) -> Column:
        self.told.append(len(targets))
        return super().read(targets, closing=closing)


def test_an_armer_that_reads_few_at_a_time_is_not_sent_all_each_time(stage: Stage) -> None:
    """Half a million sockets in each of 2,000 requests would take longer than arming them."""
    stage.armer = armer = OneByOne()
    several = tuple(dataclasses.replace(BARE, cookie=cookie) for cookie in range(1, 5))
    outcome = performer(stage).perform(Arm(several, (Wish(ENABLE, TIMES),)))
    assert sum(len(each.connections) for each in outcome.armings) == 4
    assert armer.told == [4, 1, 1, 1]
    armer.told.clear()
    performer(stage).disarm(look(1, 2, 3, 4))
    assert set(armer.stands.values()) == {OFF}
    assert armer.told == [4, 1, 1, 1]


def test_to_disarm_many_no_object_is_made_of_each(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million of them take a gigabyte and several seconds, in which the daemon is to end."""
    three = tuple(dataclasses.replace(BARE, cookie=cookie) for cookie in (1, 2, 3))
    performer(stage).perform(Arm(three, wishes(ENABLE)))
    monkeypatch.setattr("keepaliveD.policy.verdicts.connections.connections", None)
    outcome = performer(stage).disarm(look(1, 2, 3, 4))
    assert [(each.result, len(each.connections)) for each in outcome.armings] == [(ArmingResult.DISARMED, 3)]
    assert set(stage.armer.stands.values()) == {OFF}
