"""A daemon whose rules can be followed while connections are opened."""

from __future__ import annotations

import dataclasses
import signal
from ipaddress import ip_network
from pathlib import Path

import pytest

from keepaliveD.config import Config, load
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import KernelError, NotPermitted, StateError, Unsupported
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.reports import Counted
from keepaliveD.model.results import Armed, Mark
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.platforms.base import Unpinned
from keepaliveD.policy.arming.connect import Opening
from tests.support.fakes import Stage
from tests.support.tables import idle

ENABLE = ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31, ports=(10080,))
WANTED = Opening(None, 10080, ENABLE)


def config(**changes: object) -> Config:
    shipped = load()
    enabling = dataclasses.replace(shipped, arm=(ENABLE, *shipped.arm), ignore=())
    return dataclasses.replace(enabling, **changes)  # type: ignore[arg-type]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, config=config())


def said(stage: Stage) -> str:
    return next(entry.message for entry in stage.said if entry.event == "started")


def test_new_connections_are_armed_from_the_start_to_the_end(stage: Stage) -> None:
    stage.script = [lambda: stage_is_at_work(stage)]
    stage.run()
    assert "new connections are armed at connect" in said(stage)
    assert [(engine, wanted.openings[0]) for engine, wanted, _ in stage.at_connect.begun] == [("auto", WANTED)]
    assert stage.at_connect.at_work == 0


def stage_is_at_work(stage: Stage) -> None:
    assert stage.at_connect.at_work == 1


def test_units_and_containers_are_looked_at_anew_at_every_scan(stage: Stage) -> None:
    """One that begins between two scans is known from the second on."""
    stage.script = [None, None]
    stage.run()
    assert stage.at_connect.looks == 2


def test_where_that_fails_the_scan_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their connections are armed by the scans."""

    def fail() -> None:
        raise KernelError("owners: No space left on device")

    monkeypatch.setattr(stage.at_connect, "refresh", fail)
    stage.run()
    assert not [entry for entry in stage.said if entry.event == "scan-failed"]


def test_without_a_rule_that_enables_nothing_is_begun(stage: Stage) -> None:
    stage.config = load()
    stage.run()
    assert stage.at_connect.begun == []
    assert "at connect" not in said(stage)


def test_a_dry_run_begins_nothing(stage: Stage) -> None:
    stage.dry_run = True
    stage.at_connect.pin = "/pin"
    stage.run()
    assert stage.at_connect.begun == []
    assert stage.at_connect.pin == "/pin", "nor ends what another daemon has left"


def test_where_it_cannot_be_done_the_reason_is_reported_and_scans_do_it(stage: Stage) -> None:
    stage.at_connect.refusal = Unsupported("no cgroup v2 is mounted")
    stage.run()
    assert "new connections are armed at the next scan (no cgroup v2 is mounted)" in said(stage)


def test_other_namespaces_are_left_alone_where_only_the_own_one_is_watched(stage: Stage) -> None:
    """The program in the kernel would see them all."""
    stage.config = config(all_namespaces=False)
    stage.run()
    assert stage.at_connect.begun == []
    assert 'watch.namespaces = "own"' in said(stage)


def test_a_reload_brings_the_new_rules_and_never_two_at_once(stage: Stage) -> None:
    stage.reloads = config(arm=(dataclasses.replace(ENABLE, ports=(22,)), *load().arm))
    stage.script = [signal.SIGHUP, lambda: stage_is_at_work(stage)]
    stage.run()
    assert [wanted.openings[0].port for _, wanted, _ in stage.at_connect.begun] == [10080, 22]


def test_a_reload_without_such_rules_ends_it(stage: Stage) -> None:
    stage.reloads = load()
    stage.at_connect.pin = "/pin"
    stage.script = [signal.SIGHUP]
    stage.run()
    assert (stage.at_connect.at_work, stage.at_connect.pin) == (0, "")


def test_what_an_earlier_daemon_left_is_ended_where_it_is_no_longer_wanted(stage: Stage) -> None:
    stage.at_connect.pin = "/pin"
    stage.run()
    assert stage.at_connect.pin == ""


def test_it_survives_where_that_is_wanted(stage: Stage) -> None:
    stage.config = config(survive_stop=True)
    stage.run()
    assert stage.at_connect.begun[0][2]
    assert stage.at_connect.pin == "/pin"


def test_where_it_cannot_survive_it_is_done_nevertheless_and_the_reason_is_reported(stage: Stage) -> None:
    stage.config = config(survive_stop=True)
    stage.at_connect.unpinned = "/pin: Read-only file system"
    stage.script = [lambda: stage_is_at_work(stage)]
    stage.run()
    assert said(stage).endswith(
        "armed at connect, but not after the daemon stops (keepalive.survive_stop: /pin: Read-only file system); "
        "if the daemon is killed, keepalivectl disarm cannot restore them"
    )


def test_where_its_records_would_be_lost_by_a_kill_that_is_reported(stage: Stage) -> None:
    """Beside another daemon, or without a BPF file system."""
    stage.at_connect.unpinned = "/pin: in use by another tcp-keepalived"
    stage.run()
    assert said(stage).endswith(
        "armed at connect, but if the daemon is killed, keepalivectl disarm cannot restore them "
        "(/pin: in use by another tcp-keepalived)"
    )


def test_where_nothing_was_left_nothing_is_removed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not even look there would else be told of it at every start."""
    monkeypatch.setattr(stage.at_connect, "unpin", lambda: pytest.fail("removed"))
    stage.config = load()
    stage.run()


BEFORE, AFTER = SocketKeepalive(False, Keepalive(7200, 75, 9)), SocketKeepalive(True, Keepalive(180, 20, 31))
MINE = Armed(BEFORE, AFTER)


def test_what_it_armed_is_one_entry_for_each_unit_and_rule_and_counted_in_the_status(stage: Stage) -> None:
    stage.at_connect.counted = [Counted(ENABLE, Owner(unit="backup.service"), 3), Counted(ENABLE, Owner(), 1)]
    stage.run()
    armed = [entry for entry in stage.said if entry.event == "armed"]
    assert [entry.message for entry in armed] == [
        "3 new connections of backup.service: armed at connect by arm[1]: idle 3min, interval 20s, probes 31",
        "1 new connection: armed at connect by arm[1]: idle 3min, interval 20s, probes 31",
    ]
    assert armed[0].fields == {
        "KEEPALIVE_RESULT": "armed-at-connect",
        "KEEPALIVE_COUNT": 3,
        "KEEPALIVE_RULE": "arm[1]",
        "KEEPALIVE_UNIT": "backup.service",
    }
    assert any("armed at connect 4" in line for lines in stage.notified for line in lines)


def test_at_the_end_what_it_has_recorded_joins_the_record_of_armed_sockets(stage: Stage) -> None:
    """Else nobody could disarm these sockets any more."""
    stage.at_connect.records[5] = MINE
    stage.run()
    assert stage.records().arming.armed() == {5: MINE}
    assert stage.at_connect.records == {}


def test_what_goes_on_without_the_daemon_keeps_its_own_record(stage: Stage) -> None:
    stage.config = config(survive_stop=True)
    stage.at_connect.records[5] = MINE
    stage.run()
    assert stage.records().arming.armed() == {}


LOST = Unpinned("/pin: Read-only file system", "/pin: Read-only file system")


def test_where_pins_were_removed_and_cannot_be_made_again_that_is_reported_once_and_the_record_kept(
    stage: Stage,
) -> None:
    stage.config = config(survive_stop=True)
    stage.at_connect.records[5] = MINE
    stage.at_connect.removed = LOST
    stage.script = [None, None]
    stage.run()
    (error,) = [entry.message for entry in stage.said if entry.event == "record"]
    assert error.startswith("the pins of what arms at connect were removed: new connections are armed at connect, but ")
    assert stage.records().arming.armed() == {5: MINE}


def test_pins_that_were_removed_and_made_again_are_reported(stage: Stage) -> None:
    stage.config = config(survive_stop=True)
    stage.at_connect.records[5] = MINE
    stage.at_connect.removed = Unpinned()
    stage.script = [None]
    stage.run()
    said = [entry.message for entry in stage.said if entry.event == "record"]
    assert set(said) == {"the pins of what arms at connect were removed; pinned it again"}
    assert stage.records().arming.armed() == {}, "it goes on without the daemon"


@pytest.mark.parametrize("survive", [False, True])
def test_a_pin_that_the_configuration_cannot_keep_is_removed(stage: Stage, survive: bool) -> None:
    for changes in ({"engine": "netlink"}, {"all_namespaces": False}, {"ignore": (ip_network("::/0"),) * 256}):
        stage.at_connect.pin = "/pin"
        stage.at_connect.refusal = Unsupported("no BPF")
        stage.config = config(survive_stop=survive, **changes)
        stage.run()
        assert stage.at_connect.pin == "", changes


def test_a_pin_that_cannot_be_removed_is_one_error_that_says_how_to_end_it(stage: Stage) -> None:
    stage.at_connect.pin = "/pin"
    stage.at_connect.stuck = NotPermitted("/pin: still arms new connections; to end it: rm /pin")
    stage.config = config(all_namespaces=False)
    stage.run()
    (error,) = [entry for entry in stage.said if entry.event == "refused"]
    assert error.message == "/pin: still arms new connections; to end it: rm /pin"


def test_one_scan_leaves_new_connections_and_what_is_pinned_alone(stage: Stage) -> None:
    """--once."""
    stage.at_connect.pin = "/pin"
    stage.at_connect.records[5] = MINE
    stage.config = config(survive_stop=True)
    with stage.settings_record().locked():
        stage.daemon(show=lambda _: None).run()
    assert (stage.at_connect.begun, stage.at_connect.pin) == ([], "/pin")
    assert stage.at_connect.records == {5: MINE}, "what is recorded there stays there"


def test_a_socket_that_was_armed_at_connect_is_known_to_the_next_scan(stage: Stage) -> None:
    """What its program has set since is left, also where it is what it had before."""
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=5, remote_port=10080)]
    stage.at_connect.records[5] = MINE
    stage.run()
    assert (stage.armer.looked, stage.armer.changed) == ([5], [])
    assert stage.records().arming.armed() == {5: MINE}


def test_records_that_cannot_be_kept_at_the_end_are_an_error(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say: the sockets stay armed, and disarm would not know them."""

    def fail(*_: object, **__: object) -> None:
        raise StateError("armed: cannot be written: No space left on device")

    monkeypatch.setattr("keepaliveD.records.arming.ArmingRecord.write", fail)
    stage.at_connect.records[5] = MINE
    with pytest.raises(StateError, match="sockets armed at connect stay armed"):
        stage.run()
    (error,) = [entry for entry in stage.said if entry.event == "refused"]
    assert error.message.startswith(
        "sockets armed at connect stay armed, and may be missing in the arming record: armed: "
    )


def test_records_that_cannot_be_read_do_not_keep_sockets_from_being_armed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without BPF, after a daemon that had it."""

    def refuse() -> None:
        raise NotPermitted("the kernel refuses BPF")

    monkeypatch.setattr(stage.at_connect, "armed", refuse)
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=5, remote_port=10080)]
    with pytest.raises(StateError, match="may be missing in the arming record: the kernel refuses BPF"):
        stage.run()
    assert len(stage.armer.changed) == 1


def test_it_is_known_also_beside_one_that_is_left_alone(stage: Stage) -> None:
    stage.records().arming.write({6: Mark.LEFT_ALONE})
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=cookie, remote_port=10080) for cookie in (5, 6)]
    stage.at_connect.records[5] = MINE
    stage.run()
    assert (stage.armer.looked, stage.armer.changed) == ([5], [])


CANNOT_ARM = {"netlink": config(), "no rule": load()}


@pytest.mark.parametrize("why", CANNOT_ARM)
@pytest.mark.parametrize("running", [False, True])
def test_what_a_killed_daemon_has_recorded_joins_the_record_though_nothing_is_armed_at_connect_now(
    stage: Stage, why: str, running: bool
) -> None:
    """Else nothing would ever disarm these sockets. What another daemon records that runs is its own."""
    stage.config = CANNOT_ARM[why]
    stage.at_connect.refusal = Unsupported('watch.engine = "netlink"')
    stage.at_connect.records[5] = MINE
    stage.at_connect.is_shared = running
    stage.run()
    assert stage.records().arming.armed() == ({} if running else {5: MINE})
    assert stage.at_connect.records == ({5: MINE} if running else {})


def test_a_stop_that_disarms_says_that_it_cannot_know_all_and_disarms_what_it_knows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without BPF, after a daemon that had it."""

    def refuse() -> None:
        raise NotPermitted("the kernel refuses BPF")

    stage.config = dataclasses.replace(load(), disarm_on_stop=True, ignore=())
    stage.at_connect.is_shared = False
    stage.records().arming.write({6: MINE})
    stage.armer.others = AFTER
    stage.watcher.sockets = lambda now: [idle(now - 900.0, cookie=6)]
    monkeypatch.setattr(stage.at_connect, "armed", refuse)
    with pytest.raises(NotPermitted, match="cannot disarm what was armed at connect, it stays armed: the kernel"):
        stage.run()
    assert stage.armer.changed == [(6, BEFORE)]
    first = next(entry for entry in stage.said if entry.event == "refused")
    assert first.message.startswith("sockets armed at connect stay armed, and may be missing in the arming record: ")
