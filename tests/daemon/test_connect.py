"""A daemon whose rules can be followed while connections are opened."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from keepaliveD.config import Config, load
from keepaliveD.errors import KernelError, Unsupported
from keepaliveD.model import ArmAction, ArmRule, Keepalive
from keepaliveD.policy.connect import Opening
from tests.daemon.fakes import Stage

ENABLE = ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31, ports=(10080,))
WANTED = Opening(None, 10080, Keepalive(180, 20, 31))


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
    assert [(engine, wanted[0]) for engine, wanted, _ in stage.at_connect.begun] == [("auto", WANTED)]
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

    monkeypatch.setattr(stage.at_connect, "look_around", fail)
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


def test_where_it_cannot_be_done_the_reason_is_told_and_scans_do_it(stage: Stage) -> None:
    stage.at_connect.refusal = Unsupported("no cgroup v2 is mounted")
    stage.run()
    assert "new connections wait for the next scan (no cgroup v2 is mounted)" in said(stage)


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
    assert [wanted[0].port for _, wanted, _ in stage.at_connect.begun] == [10080, 22]


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


def test_where_it_cannot_survive_it_is_done_nevertheless_and_the_reason_is_told(stage: Stage) -> None:
    stage.config = config(survive_stop=True)
    stage.at_connect.unpinned = "/pin: Read-only file system"
    stage.script = [lambda: stage_is_at_work(stage)]
    stage.run()
    assert said(stage).endswith(
        "armed at connect, but not after the daemon's end (keepalive.survive_stop: /pin: Read-only file system)"
    )


def test_where_nothing_was_left_nothing_is_removed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not even look there would else be told of it at every start."""
    monkeypatch.setattr(stage.at_connect, "end", lambda: pytest.fail("removed"))
    stage.config = load()
    stage.run()
