"""What every tuner promises, Linux's too: found, set, read back, given back; all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import Because, FoundSettings, Outcome, SetSystemKeepalive
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.reports import ReportDrift, ReportNotRestored
from keepaliveD.model.rules import OnDrift
from keepaliveD.policy.sysctls import SystemKeepalive
from keepaliveD.records.settings import SettingsRecord
from tests.platforms.worlds import HOSTS, Linux, World, emulated, performer, record_in, write

KEEPALIVE = Keepalive(idle=180, interval=20, probes=31)


@pytest.fixture(params=["Linux", *HOSTS])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    root = tmp_path / "root"
    root.mkdir()
    return Linux(root, monkeypatch) if request.param == "Linux" else emulated(request.param, root)


@pytest.fixture
def record(world: World, tmp_path: Path) -> Iterator[SettingsRecord]:
    record = record_in(tmp_path / "state", world.tuner)
    with record.locked():
        yield record


def apply(world: World, record: SettingsRecord) -> Outcome:
    """What the daemon does at its first look."""
    found = world.tuner.read()
    action = SetSystemKeepalive(world.ours, found, Because.CONFIGURED)
    return performer(world, record).perform(action)


def test_the_same_seconds_are_each_kernels_own_numbers(world: World) -> None:
    """180 s are 180000 ms, 360 half-seconds, or 180."""
    assert world.tuner.names(KEEPALIVE) == world.ours


def test_what_is_written_is_what_is_read(world: World) -> None:
    """So that drift is somebody's doing, and never our own rounding."""
    found = world.tuner.read()
    write(world.tuner, world.ours)
    assert world.tuner.read() == world.ours
    assert found != world.ours
    assert found.keys() == world.ours.keys()


def test_what_was_found_is_restored_and_the_record_closed(world: World, record: SettingsRecord) -> None:
    """The system is then as it would be without us."""
    found = world.tuner.read()
    assert apply(world, record).refused is None
    (outcome,) = SystemSettings(world.tuner, record).restore()
    assert outcome.refused is None
    assert outcome.action == SetSystemKeepalive({key: found[key] for key in world.ours}, world.ours, Because.RESTORE)
    assert world.tuner.read() == found
    assert not record.holds_any()


def test_a_daemon_that_was_killed_is_made_up_for_by_the_next(world: World, record: SettingsRecord) -> None:
    """The second takes over the first one's record, and what the first found goes back."""
    found = world.tuner.read()
    apply(world, record)
    apply(world, record)
    SystemSettings(world.tuner, record).restore()
    assert world.tuner.read() == found


@pytest.mark.parametrize(
    ("position", "what", "error"),
    [
        (0, "forbidden", NotPermitted),
        (-1, "forbidden", NotPermitted),
        (-1, "silent", KernelError),
    ],
)
def test_where_one_setting_fails_all_stay_as_they_were_and_none_is_ours(
    world: World, record: SettingsRecord, position: int, what: str, error: type[Refusal]
) -> None:
    """Refused, or a success that changes nothing."""
    key = [*world.ours][position % len(world.ours)]
    found = world.tuner.read()
    world.fail(what, key)
    refused = apply(world, record).refused
    assert type(refused) is error
    assert str(refused).startswith(f"{key}: ")
    assert "\n" not in str(refused)
    assert world.tuner.read() == found
    assert not record.holds_any()


@pytest.mark.parametrize("host", HOSTS)
def test_a_command_that_sets_something_else_has_failed_and_it_is_put_back(host: str, tmp_path: Path) -> None:
    """Some round, some clamp; on Linux the kernel does neither, and a third value is somebody else's."""
    (tmp_path / "root").mkdir()
    world = emulated(host, tmp_path / "root")
    found = world.tuner.read()
    world.fail("off-by-one", [*world.ours][-1])
    record = record_in(tmp_path / "state", world.tuner)
    with record.locked():
        refused = apply(world, record).refused
    assert type(refused) is KernelError
    assert world.tuner.read() == found
    assert not record.holds_any()


def test_a_key_that_is_not_ours_is_refused_before_anything_is_written(world: World) -> None:
    """A damaged record must not make a root process write something else."""
    found = world.tuner.read()
    for key in ("net.inet.ip.forwarding", "-a", ""):
        with pytest.raises(KernelError, match="not a keepalive setting"):
            world.tuner.exchange(key, 1, 2)
    assert world.tuner.read() == found


def test_what_somebody_else_has_set_is_seen_as_drift_and_not_restored(world: World, record: SettingsRecord) -> None:
    """SettingsRecord and drift are those of Linux: they know numbers only."""
    settings = SystemKeepalive(world.ours, OnDrift.WARN)
    found = world.tuner.read()

    def look() -> FoundSettings:
        return SystemSettings(world.tuner, record).read(cared_for=True)

    settings.observe(FoundSettings(found, found), 0)
    settings.record(apply(world, record))
    assert settings.observe(look(), 15) == []

    key = [*world.ours][-1]
    theirs = {key: world.ours[key] * 2}
    write(world.tuner, theirs)
    assert settings.observe(look(), 30) == [ReportDrift({key: world.ours[key]}, theirs, yielded=False)]

    outcomes = SystemSettings(world.tuner, record).restore()
    assert Outcome(ReportNotRestored(theirs)) in outcomes
    assert world.tuner.read() == {**found, **theirs}


def test_a_record_is_good_for_one_boot(world: World, record: SettingsRecord, tmp_path: Path) -> None:
    """After a restart the kernel's own values stand, and there is nothing to give back."""
    apply(world, record)
    again = world.tuner.identity
    assert SettingsRecord(tmp_path / "state", again, world.tuner.ranges).holds_any()
    world.boot()
    assert not record_in(tmp_path / "state", world.tuner).holds_any()
