"""System settings set and restored: all or nothing, over whatever others write, and never without a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from keepaliveD.daemon.settings import TRIES, SystemSettings
from keepaliveD.model.actions import Because, Outcome, SetSystemKeepalive
from keepaliveD.model.errors import KernelError, LaterRecord, Misuse, NotPermitted, StateError, Unsupported
from keepaliveD.model.reports import ReportNotRestored
from keepaliveD.records.settings import SettingsRecord
from tests.support.fakes import IDENTITY, KERNEL, OURS, FakeTuner

APPLY = SetSystemKeepalive(OURS, KERNEL, Because.CONFIGURED)
THEIRS = 4321


class Kernel(FakeTuner):
    """One in which something happens before each exchange, which may also fail."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str, int], None] = lambda _key, _value: None
        self.after: Callable[[str, int], None] = lambda _key, _value: None

    def exchange(self, key: str, expected: int, value: int) -> int:
        self.before(key, value)
        stood = super().exchange(key, expected, value)
        self.after(key, value)
        return stood


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def record(tmp_path: Path, kernel: Kernel) -> SettingsRecord:
    return SettingsRecord(tmp_path, IDENTITY, kernel.ranges)


@pytest.fixture
def settings(kernel: Kernel, record: SettingsRecord) -> SystemSettings:
    return SystemSettings(kernel, record)


def on_disk(directory: Path, kernel: Kernel, stands: Mapping[str, int]) -> Mapping[str, int]:
    """What another process would restore."""
    return SettingsRecord(directory, IDENTITY, kernel.ranges).due_back(stands).values


def test_what_others_wrote_meanwhile_is_recorded_before_it_is_replaced(
    tmp_path: Path, kernel: Kernel, settings: SystemSettings
) -> None:
    """And it is what is said to have been found."""
    recorded: list[Mapping[str, int]] = []

    def write_once(key: str, _value: int) -> None:
        if key == "intvl" and len(recorded) == 2:
            kernel.values["intvl"] = THEIRS
        recorded.append(on_disk(tmp_path, kernel, OURS))

    kernel.before = write_once
    outcome = settings.apply(APPLY)
    assert isinstance(outcome.action, SetSystemKeepalive)
    assert outcome.action.found == KERNEL | {"intvl": THEIRS}
    assert kernel.values == OURS
    assert recorded[-1] == KERNEL | {"intvl": THEIRS}
    settings.restore()
    assert kernel.values == KERNEL | {"intvl": THEIRS}


@pytest.mark.parametrize("restores", [False, True])
def test_no_mix_in_between_gives_a_peer_less_time_than_both(
    kernel: Kernel, settings: SystemSettings, *, restores: bool
) -> None:
    """What is killed between two writes leaves such a mix: idle 180, interval 20 with 9 probes ended in six minutes."""
    mixes: list[Mapping[str, int]] = []
    if restores:
        settings.apply(APPLY)
    kernel.after = lambda _key, _value: mixes.append(dict(kernel.values))
    settings.restore() if restores else settings.apply(APPLY)
    assert len(mixes) == len(OURS)
    assert all(time_left(mix) >= min(time_left(OURS), time_left(KERNEL)) for mix in mixes), mixes


def time_left(settings: Mapping[str, int]) -> int:
    """How long a peer may be silent before its connection is given up."""
    idle, interval, probes = (settings[key] for key in FakeTuner().roles)
    return idle + interval * probes


def test_who_writes_faster_than_can_be_recorded_keeps_the_setting(kernel: Kernel, settings: SystemSettings) -> None:
    """The others go back, and it is tried again at a later look."""
    counter = iter(range(1000, 9000))

    def write_always(key: str, value: int) -> None:
        if key == "intvl" and value == OURS["intvl"]:
            kernel.values["intvl"] = next(counter)

    kernel.before = write_always
    with pytest.raises(KernelError, match="someone else keeps changing it"):
        settings.apply(APPLY)
    assert kernel.values == KERNEL | {"intvl": 1000 + TRIES - 1}
    kernel.before = lambda _key, _value: None
    assert settings.restore() == []


def failing(wrong: str, value: int) -> Callable[[str, int], None]:
    """Refuses to set this."""

    def refuse(key: str, wanted: int) -> None:
        if (key, wanted) == (wrong, value):
            raise NotPermitted(f"{key}: cannot be set to {value}")

    return refuse


@pytest.mark.parametrize("wrong", OURS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_where_one_setting_fails_all_are_put_back(
    tmp_path: Path, kernel: Kernel, settings: SystemSettings, wrong: str, when: str
) -> None:
    """Also the one that failed: it may have been written all the same."""
    setattr(kernel, when, failing(wrong, OURS[wrong]))
    with pytest.raises(NotPermitted, match=wrong):
        settings.apply(APPLY)
    assert kernel.values == KERNEL
    assert list(tmp_path.iterdir()) == []


def test_what_others_set_before_it_is_put_back_stays(kernel: Kernel, settings: SystemSettings) -> None:
    """Only what is still ours is put back."""

    def refuse(key: str, value: int) -> None:
        if (key, value) == ("probes", OURS["probes"]):
            kernel.values["time"] = THEIRS
            raise NotPermitted("probes: no")

    kernel.before = refuse
    with pytest.raises(NotPermitted):
        settings.apply(APPLY)
    assert kernel.values == KERNEL | {"time": THEIRS}


def test_what_cannot_be_put_back_is_said_and_stays_in_the_record(
    tmp_path: Path, kernel: Kernel, settings: SystemSettings
) -> None:
    """That nothing was changed would be a lie."""

    def refuse(key: str, value: int) -> None:
        failing("intvl", OURS["intvl"])(key, value)
        failing("time", KERNEL["time"])(key, value)

    kernel.before = refuse
    with pytest.raises(NotPermitted, match=r"intvl: .*; time could not be restored"):
        settings.apply(APPLY)
    assert on_disk(tmp_path, kernel, kernel.values) == {"time": KERNEL["time"]}


def test_a_kernel_that_cannot_be_read_any_more_keeps_the_record(
    tmp_path: Path, kernel: Kernel, settings: SystemSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands there."""

    def vanish(key: str, _value: int) -> None:
        if key == "probes":
            monkeypatch.setattr(kernel, "read", gone)
            raise Unsupported("probes: gone")

    def gone() -> Mapping[str, int]:
        raise Unsupported("gone")

    kernel.before = vanish
    with pytest.raises(Unsupported, match="probes: gone"):
        settings.apply(APPLY)
    assert on_disk(tmp_path, kernel, OURS) == KERNEL


def test_a_setting_that_cannot_be_restored_hinders_no_other(
    tmp_path: Path, kernel: Kernel, settings: SystemSettings
) -> None:
    """It stays in the record, for another try."""
    settings.apply(APPLY)
    kernel.before = failing("intvl", KERNEL["intvl"])
    restored, refused = settings.restore()
    assert isinstance(restored.action, SetSystemKeepalive)
    assert restored.action.values == {"probes": KERNEL["probes"], "time": KERNEL["time"]}
    assert isinstance(refused.refused, NotPermitted)
    assert on_disk(tmp_path, kernel, OURS) == {"intvl": KERNEL["intvl"]}
    kernel.before = lambda _key, _value: None
    settings.restore()
    assert kernel.values == KERNEL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_dry_run", [False, True])
def test_a_setting_that_does_not_exist_is_named_and_none_is_restored(
    kernel: Kernel, record: SettingsRecord, *, is_dry_run: bool
) -> None:
    SystemSettings(kernel, record).apply(APPLY)
    settings = SystemSettings(kernel, None if is_dry_run else record)
    with pytest.raises(Misuse, match=r'^"ti\\\\nme": not a setting that is restored; name one of time, intvl, probes$'):
        settings.restore({"time", "ti\nme"})
    assert kernel.values == OURS


def test_what_others_write_while_ours_is_restored_stays(kernel: Kernel, settings: SystemSettings) -> None:
    """Right before the write that would restore it."""
    settings.apply(APPLY)

    def write(key: str, _value: int) -> None:
        if key == "time":
            kernel.values["time"] = THEIRS

    kernel.before = write
    outcomes = settings.restore()
    assert Outcome(ReportNotRestored({"time": THEIRS})) in outcomes
    assert kernel.values == KERNEL | {"time": THEIRS}


def test_a_record_that_cannot_be_removed_is_reported_after_what_was_restored(
    kernel: Kernel, settings: SystemSettings, record: SettingsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order: first what was done."""
    settings.apply(APPLY)
    monkeypatch.setattr(record._directory, "remove", stay)
    restored, refused = settings.restore()
    assert not restored.refused
    assert "no setting is left to restore: remove the file" in str(refused.refused)
    assert kernel.values == KERNEL
    (again,) = settings.restore()
    assert str(again.refused) == str(refused.refused), "as at the stop after keepalivectl undo"


def stay(_: str) -> None:
    """Remove no record."""
    raise StateError("found.json: cannot be removed: Read-only file system")


def test_beside_a_setting_that_somebody_else_has_set_it_is_not_said_that_all_are_restored(
    kernel: Kernel, settings: SystemSettings, record: SettingsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.apply(APPLY)
    kernel.values["time"] = THEIRS
    monkeypatch.setattr(record._directory, "remove", stay)
    *_, left, refused = settings.restore()
    assert left == Outcome(ReportNotRestored({"time": THEIRS}))
    assert "all settings are restored" not in str(refused.refused)


def test_beside_a_record_of_a_later_version_settings_are_read_and_none_is_changed(
    tmp_path: Path, kernel: Kernel, record: SettingsRecord
) -> None:
    """Connections are watched all the same, and the reason is one line."""
    record.record_found(KERNEL, OURS)
    (file,) = tmp_path.glob("found*.json")
    body = {**json.loads(file.read_bytes()), "format": 3}
    del body["checksum"]
    file.write_text(json.dumps({**body, "checksum": hashlib.sha256(json.dumps(body).encode()).hexdigest()}))
    settings = SystemSettings(kernel, SettingsRecord(tmp_path, IDENTITY, kernel.ranges))
    found = settings.read(cared_for=True)
    assert found.stands == KERNEL
    assert ["written by a later version" in trouble for trouble in found.troubles] == [True]
    with pytest.raises(LaterRecord):
        settings.apply(APPLY)
    assert kernel.values == KERNEL
    assert file.exists()
