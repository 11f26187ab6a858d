"""The record of what was found: on the disk before the kernel changes, and true whatever happens."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from keepaliveD.model.errors import Busy, LaterRecord, NotPermitted, RecordDamaged, StateError
from keepaliveD.records.format import parse
from keepaliveD.records.settings import DueBack, SettingsRecord
from tests.support.examples import examples
from tests.support.unprivileged import as_nobody, reachable_directory

HERE = {"boot": "b", "netns": "net:[1]"}
FOUND = {"time": 7200, "intvl": 75, "probes": 9}
OURS = {"time": 180, "intvl": 20, "probes": 31}
RANGES = {key: range(-1, 100_000) for key in OURS}
NAME = "found-net-1.json"
HEAD = b'{"format": 2, "identity": {"boot": "b", "netns": "net:[1]"}'  # of a record


def a_record(directory: Path, identity: Mapping[str, str] = HERE) -> SettingsRecord:
    """That of a process that has just started."""
    return SettingsRecord(directory, identity, RANGES)


def record(directory: Path) -> Any:
    return json.loads((directory / NAME).read_text())


@pytest.fixture
def keeper(tmp_path: Path) -> SettingsRecord:
    """One that holds what was found, with our values written."""
    keeper = a_record(tmp_path)
    keeper.record_found(FOUND, OURS)
    keeper.confirm_set(OURS)
    return keeper


def test_a_write_that_failed_and_changed_nothing_is_not_tried_again_until_there_is_reason(
    keeper: SettingsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state directory that has become read-only is reported by whoever wants to write there, and once."""
    monkeypatch.setattr("keepaliveD.records.directory.open_new", read_only)
    said = r"^not set: time = \d+; nothing is changed without a durable record: .*: Read-only file system$"
    with pytest.raises(StateError, match=said):
        keeper.record_found({"time": 500}, {"time": OURS["time"]})
    assert not keeper.tend()


def test_where_a_record_may_not_be_written_the_setting_is_named_and_how_to_allow_it(
    tmp_path: Path, keeper: SettingsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EPERM, unlike EACCES, is also root's: of a file or directory that chattr(1) has made immutable."""
    monkeypatch.setattr("keepaliveD.records.directory.open_new", fail_with(errno.EPERM))
    with pytest.raises(NotPermitted) as refused:
        keeper.record_found({"time": 500}, {"time": OURS["time"]})
    said = str(refused.value)
    assert said.startswith(f"not set: time = {OURS['time']}; nothing is changed without a durable record: ")
    assert said.endswith(f"; if it is immutable, run as root: chattr -i {tmp_path} {tmp_path / NAME}")


def read_only(_: Path) -> int:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


# what is given back


def test_what_was_found_is_restored(tmp_path: Path, keeper: SettingsRecord) -> None:
    """The whole point: the system ends as it began, also for another process."""
    assert keeper.due_back(OURS) == DueBack(FOUND, OURS, {})
    assert a_record(tmp_path).due_back(OURS) == DueBack(FOUND, OURS, {})


def test_what_somebody_else_has_set_since_is_left_alone(keeper: SettingsRecord) -> None:
    """It is theirs; that it stays so is told."""
    stands = OURS | {"time": 600}
    due = keeper.due_back(stands)
    assert due.values == {"intvl": 75, "probes": 9}
    assert due.stands == {"intvl": 20, "probes": 31}
    assert due.left_alone == {"time": 600}


def test_what_was_put_back_by_somebody_else_is_neither_restored_nor_spoken_of(keeper: SettingsRecord) -> None:
    """All is as it was."""
    assert keeper.due_back(FOUND) == DueBack()


def test_without_a_record_nothing_is_restored(tmp_path: Path) -> None:
    """A daemon that changed nothing."""
    assert a_record(tmp_path).due_back(OURS) == DueBack()
    assert not a_record(tmp_path).holds_any()


def test_once_all_is_restored_nothing_is_held(tmp_path: Path, keeper: SettingsRecord) -> None:
    """The next start finds the system's own values."""
    assert keeper.holds_any()
    keeper.close()
    assert not a_record(tmp_path).holds_any()
    keeper.close()


# what is found


def test_a_record_is_there_before_anything_is_written(tmp_path: Path) -> None:
    """If the power fails right after the first write, the next start knows the true values."""
    a_record(tmp_path).record_found(FOUND, OURS)
    assert record(tmp_path)["settings"]["time"] == {"found": 7200, "ours": [180]}
    assert a_record(tmp_path).due_back(OURS | {"time": 7200}).values == {"intvl": 75, "probes": 9}


def test_a_start_after_a_crash_does_not_take_our_own_value_for_the_systems(
    tmp_path: Path, keeper: SettingsRecord
) -> None:
    """Or 180 s would be "given back" for ever."""
    assert keeper.holds_any()  # and then it is killed
    next_life = a_record(tmp_path)
    next_life.record_found(OURS, OURS | {"time": 300})
    next_life.confirm_set(OURS | {"time": 300})
    assert next_life.due_back(OURS | {"time": 300}).values == FOUND


def test_a_crash_between_record_and_write_leaves_both_values_ours(tmp_path: Path, keeper: SettingsRecord) -> None:
    """Whether the new value reached the kernel, nobody knows; either is ours, and neither the system's."""
    keeper.record_found({"time": 180}, {"time": 300})
    for stands in (180, 300):
        assert a_record(tmp_path).due_back(OURS | {"time": stands}).values == FOUND


def test_once_settled_only_the_value_that_stands_is_ours(keeper: SettingsRecord) -> None:
    """If somebody sets what ours was last week, it is theirs."""
    keeper.record_found({"time": 180}, {"time": 300})
    keeper.confirm_set({"time": 300})
    assert keeper.due_back(OURS).left_alone == {"time": 180}
    keeper.record_found({"time": 180}, {"time": 300})
    assert keeper.due_back(OURS | {"time": 300}).values["time"] == 180


def test_a_foreign_value_that_we_overwrite_is_what_is_restored(keeper: SettingsRecord) -> None:
    """on_drift = "reapply" promises it: theirs comes back on stop."""
    keeper.record_found({"time": 600}, {"time": 180})
    keeper.confirm_set({"time": 180})
    assert keeper.due_back(OURS).values == FOUND | {"time": 600}


def test_settings_are_kept_one_by_one(tmp_path: Path) -> None:
    """What already was as it should be is never ours."""
    one = a_record(tmp_path)
    one.record_found({"time": 7200}, {"time": 180})
    one.confirm_set({"time": 180})
    assert one.due_back(OURS).values == {"time": 7200}
    one.record_found({"intvl": 75}, {"intvl": 20})
    assert one.due_back(OURS).values == {"time": 7200, "intvl": 75}


def test_what_we_yielded_is_no_longer_restored(keeper: SettingsRecord) -> None:
    """on_drift = "yield": the setting is somebody else's, even if it comes to be what ours was."""
    keeper.release({"time": 600})
    assert keeper.due_back(OURS) == DueBack({"intvl": 75, "probes": 9}, {"intvl": 20, "probes": 31})


def test_a_write_that_failed_is_withdrawn(tmp_path: Path) -> None:
    """Nothing of ours stands, so nothing is held; and what could not be rolled back stays in the record."""
    one = a_record(tmp_path)
    one.record_found(FOUND, OURS)
    one.withdraw(FOUND | {"time": 180})
    assert set(record(tmp_path)["settings"]) == {"time"}
    one.withdraw(FOUND)
    assert not (tmp_path / NAME).exists()


def test_a_failed_reload_does_not_forget_what_was_found_at_the_start(keeper: SettingsRecord) -> None:
    """Ours of before still stands."""
    keeper.record_found(OURS, {"time": 300})
    keeper.withdraw(OURS)
    assert keeper.due_back(OURS).values == FOUND


def test_a_namespace_that_has_got_the_inode_of_an_earlier_one_is_another_system(tmp_path: Path) -> None:
    """What stood in the earlier one never stood here."""
    a_record(tmp_path, HERE | {"cookie": "7"}).record_found(FOUND, OURS)
    assert a_record(tmp_path, HERE | {"cookie": "7"}).holds_any()
    later = a_record(tmp_path, HERE | {"cookie": "8"})
    assert (later.holds_any(), later.damaged()) == (False, ())


@pytest.mark.usefixtures("keeper")
def test_a_record_of_an_earlier_version_has_no_cookie_and_still_counts(tmp_path: Path) -> None:
    assert a_record(tmp_path, HERE | {"cookie": "7"}).holds_any()


def test_a_record_counts_also_where_the_kernel_does_not_tell_the_cookie_now(tmp_path: Path) -> None:
    a_record(tmp_path, HERE | {"cookie": "7"}).record_found(FOUND, OURS)
    assert a_record(tmp_path, HERE).holds_any()


@pytest.mark.usefixtures("keeper")
def test_a_record_of_another_boot_is_obsolete(tmp_path: Path) -> None:
    """It speaks of settings that no longer exist; today's are found anew, and take its place."""
    rebooted = a_record(tmp_path, HERE | {"boot": "c"})
    assert not rebooted.holds_any()
    assert rebooted.due_back(OURS) == DueBack()
    rebooted.record_found({"time": 180}, {"time": 300})
    assert rebooted.due_back({"time": 300}).values == {"time": 180}
    assert a_record(tmp_path).due_back(OURS) == DueBack()


@pytest.mark.usefixtures("keeper")
def test_a_record_of_another_namespace_is_its_own(tmp_path: Path) -> None:
    """Each has a file, and removes no other."""
    elsewhere = a_record(tmp_path, HERE | {"netns": "net:[2]"})
    assert not elsewhere.holds_any()
    elsewhere.record_found({"time": 180}, {"time": 300})
    elsewhere.close()
    assert a_record(tmp_path).due_back(OURS) == DueBack(FOUND, OURS, {})


@pytest.mark.parametrize(("found", "ours"), [({"time": -2}, {"time": 180}), ({"backoff": 1}, {"backoff": 2})])
def test_what_this_system_cannot_hold_is_not_recorded_so_not_replaced(
    tmp_path: Path, found: dict[str, int], ours: dict[str, int]
) -> None:
    """It could not be told from damage, and so not be restored."""
    with pytest.raises(StateError, match="so nothing is changed"):
        a_record(tmp_path).record_found(found, ours)
    assert not (tmp_path / NAME).exists()


# a file that others touch while it is ours


def test_a_record_that_is_removed_is_written_again(tmp_path: Path, keeper: SettingsRecord) -> None:
    """Whoever holds the lock knows what it said."""
    (tmp_path / NAME).unlink()
    assert keeper.tend()
    assert not keeper.tend()
    assert a_record(tmp_path).due_back(OURS) == DueBack(FOUND, OURS, {})


def junk(file: Path) -> None:
    file.unlink()
    file.write_text("x")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/hostname")


def an_older_one(file: Path) -> None:
    """Whole, but not what is true now."""
    file.unlink()
    a_record(file.parent).record_found({"time": 1}, {"time": 2})


@pytest.mark.parametrize("put", [junk, cut, a_directory, a_link, an_older_one])
def test_a_record_that_is_replaced_is_written_again(
    tmp_path: Path, keeper: SettingsRecord, put: Callable[[Path], None]
) -> None:
    keeper.tend()
    put(tmp_path / NAME)
    assert keeper.tend()
    assert not keeper.tend()
    assert a_record(tmp_path).due_back(OURS) == DueBack(FOUND, OURS, {})


def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, keeper: SettingsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the file names a value too many as ours, and the same to restore."""
    keeper.record_found({"time": 180}, {"time": 300})
    with monkeypatch.context() as patch:
        failing_with(errno.ENOSPC, patch)
        keeper.confirm_set({"time": 300})
        assert a_record(tmp_path).due_back(OURS | {"time": 300}).values == FOUND
        with pytest.raises(StateError, match="No space"):
            keeper.tend()
    keeper.tend()
    assert record(tmp_path)["settings"]["time"]["ours"] == [300]


def test_a_record_that_could_not_be_removed_is_removed_later(
    tmp_path: Path, keeper: SettingsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing depends on it."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail_with(errno.EROFS))
        with pytest.raises(StateError, match="cannot be removed: Read-only"):
            keeper.close()
    assert not keeper.holds_any()
    keeper.tend()
    assert not (tmp_path / NAME).exists()


# the version before


def earlier(directory: Path, identity: Mapping[str, str] = HERE) -> Path:
    """A record as it wrote it."""
    settings = {key: {"found": FOUND[key], "ours": [OURS[key]]} for key in OURS}
    file = directory / "found.json"
    file.write_text(json.dumps({"format": 1, "identity": dict(identity), "settings": settings}, indent=1))
    return file


def test_a_record_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    """An upgrade happens while it exists."""
    file = earlier(tmp_path)
    keeper = a_record(tmp_path)
    assert keeper.due_back(OURS) == DueBack(FOUND, OURS, {})
    keeper.tend()
    assert not file.exists()
    assert a_record(tmp_path).due_back(OURS) == DueBack(FOUND, OURS, {})


def test_a_record_of_the_version_before_in_another_namespace_stays(tmp_path: Path) -> None:
    """Whoever is there needs it."""
    file = earlier(tmp_path, HERE | {"netns": "net:[2]"})
    keeper = a_record(tmp_path)
    assert not keeper.holds_any()
    keeper.record_found(FOUND, OURS)
    keeper.close()
    assert file.exists()


# the file


def test_only_one_process_keeps_a_record(tmp_path: Path) -> None:
    """Two daemons would take each other's values for the system's."""
    with a_record(tmp_path).locked(), pytest.raises(Busy, match=str(tmp_path)), a_record(tmp_path).locked():
        pytest.fail("two at once")
    with a_record(tmp_path).locked():
        pass


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    """Outside systemd nobody else does."""
    with a_record(tmp_path / "var/lib/tcp-keepalived").locked() as _:
        a_record(tmp_path / "var/lib/tcp-keepalived").record_found(FOUND, OURS)
    assert record(tmp_path / "var/lib/tcp-keepalived")["format"] == 2


def test_a_directory_that_may_not_be_written_is_refused_before_anything_is_changed() -> None:
    """With the cure: another user, or another directory."""
    with reachable_directory() as directory, as_nobody():
        if os.geteuid() == directory.stat().st_uid:
            directory.chmod(0o500)
        with pytest.raises(NotPermitted, match=f"{directory}.*--state-dir"), a_record(directory).locked():
            pytest.fail("locked nothing")
        with pytest.raises(NotPermitted, match=f"{directory}.*--state-dir"):
            a_record(directory).record_found(FOUND, OURS)


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_is_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Without a durable record nothing may be written to the kernel."""

    failing_with(code, monkeypatch)
    with pytest.raises(StateError, match=f"nothing is changed.*{tmp_path}.*{os.strerror(code)}"):
        a_record(tmp_path).record_found(FOUND, OURS)


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    """Whatever stands there, no traceback."""
    (tmp_path / "state").touch()
    with pytest.raises(StateError, match="state"), a_record(tmp_path / "state").locked():
        pytest.fail("locked nothing")
    (tmp_path / NAME).mkdir()
    with pytest.raises(StateError, match=NAME):
        a_record(tmp_path).due_back(OURS)


def test_the_bytes_are_on_the_disk_before_they_get_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round a power failure could leave an empty file under the good name."""
    steps: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name} {target.name}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    a_record(tmp_path).record_found(FOUND, OURS)
    assert steps == [f"sync {NAME}.new", f"rename {NAME}.new {NAME}", f"sync {tmp_path.name}"]


def fail_with(code: int) -> Callable[..., None]:
    """A system call that only fails."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def failing_with(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes nothing."""
    monkeypatch.setattr(os, "fsync", fail_with(code))


class PowerFailure(BaseException):
    """Nothing more is done."""


def failing_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails instead of the so manieth thing that is done to the disk."""
    done = 0

    def cut(really: Callable[..., Any]) -> Callable[..., Any]:
        def perhaps(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                raise PowerFailure
            return really(*arguments, **options)

        return perhaps

    monkeypatch.setattr(os, "fsync", cut(os.fsync))
    monkeypatch.setattr(Path, "replace", cut(Path.replace))
    monkeypatch.setattr("keepaliveD.records.directory.open", cut(open), raising=False)


@pytest.mark.parametrize("step", range(1, 5))
def test_after_a_power_failure_there_is_the_old_record_or_the_new_one(
    tmp_path: Path, keeper: SettingsRecord, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Never half of one; and a file that was left behind is in nobody's way."""
    old = record(tmp_path)
    with monkeypatch.context() as patch:
        failing_at(step, patch)
        with pytest.raises(PowerFailure):
            keeper.record_found({"time": 600}, {"time": 180})
    after = record(tmp_path)
    assert after["settings"]["time"] in (old["settings"]["time"], {"found": 600, "ours": [180]})
    assert (after == old) == (step <= 3)
    a_record(tmp_path).record_found({"time": 600}, {"time": 180})
    assert record(tmp_path)["settings"]["time"] == {"found": 600, "ours": [180]}


# a damaged file


def assert_read_or_refused(directory: Path, content: bytes) -> None:
    (directory / NAME).write_bytes(content)
    try:
        a_record(directory).due_back(OURS)
    except RecordDamaged as damaged:
        assert str(directory / NAME) in str(damaged)  # noqa: PT017
        assert "remove the file" in str(damaged)  # noqa: PT017
        assert str(damaged).isprintable()  # noqa: PT017
        assert a_record(directory).damaged() == (str(damaged),)  # noqa: PT017
    else:
        assert a_record(directory).damaged() == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"format": 3, "identity": {}, "settings": {}}',
        b'{"format": [], "identity": {}, "settings": {}}',
        HEAD + b"}",
        HEAD + b', "settings": []}',
        HEAD + b', "settings": {"time": 1}}',
        HEAD + b', "settings": {"time": {"found": 1}}}',
        HEAD + b', "settings": {"time": {"found": 1e999, "ours": []}}}',
        HEAD + b', "settings": {"time": {"found": NaN, "ours": []}}}',
        HEAD + b', "settings": {"time": {"found": 1.5, "ours": []}}}',
        HEAD + b', "settings": {"time": {"found": "x", "ours": []}}}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
)
def test_a_damaged_record_is_refused_and_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    """To guess at the system's values would be worse than to stop."""
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(RecordDamaged):
        a_record(tmp_path).due_back(OURS)
    with pytest.raises(RecordDamaged):
        a_record(tmp_path).close()
    assert_read_or_refused(tmp_path, content)
    assert (tmp_path / NAME).read_bytes() == content


@pytest.mark.usefixtures("keeper")
def test_a_record_with_any_bit_flipped_or_cut_anywhere_is_none(tmp_path: Path) -> None:
    """Not even where it would mean the same."""
    whole = (tmp_path / NAME).read_bytes()
    assert parse(whole, RANGES).settings
    flipped = (
        whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in range(8)
    )
    for damaged in (*flipped, *(whole[:length] for length in range(len(whole)))):
        with pytest.raises(ValueError):  # noqa: PT011
            parse(damaged, RANGES)


@pytest.mark.parametrize(("old", "new"), [(b'"time"', b'"tine"'), (b"7200", b"-200"), (b" 75", b"175175")])
def test_a_record_of_the_version_before_is_damaged_where_it_cannot_be_true(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    """It has no checksum: a name or a number that this system does not have is all that can be noticed."""
    file = earlier(tmp_path)
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(RecordDamaged, match=r"found\.json"):
        a_record(tmp_path).due_back(OURS)


@pytest.mark.usefixtures("keeper")
def test_a_record_under_the_name_of_another_namespace_is_damaged(tmp_path: Path) -> None:
    """Somebody copied or renamed it, and it must not be written over."""
    (tmp_path / NAME).rename(tmp_path / "found-net-2.json")
    with pytest.raises(RecordDamaged, match=r"\(it belongs to another system or network namespace: net:\[1\]\)"):
        a_record(tmp_path, HERE | {"netns": "net:[2]"}).holds_any()


def of_a_later_version(directory: Path) -> bytes:
    """Write the settings record of a later version, whole, and return it."""
    body = {"format": 3, "identity": dict(HERE), "settings": {"time": {"before": 7200}}, "new": True}
    checksum = hashlib.sha256(json.dumps(body).encode("ascii")).hexdigest()
    octets = json.dumps({**body, "checksum": checksum}, indent=1).encode("ascii")
    (directory / NAME).write_bytes(octets)
    return octets


def test_a_record_of_a_later_version_is_whole_and_stays_where_it_is(tmp_path: Path) -> None:
    """It says what to restore to whoever can read it: nothing of it is lost, and nothing is changed meanwhile."""
    octets = of_a_later_version(tmp_path)
    assert a_record(tmp_path).set_aside() == ()
    for use in (a_record(tmp_path).holds_any, a_record(tmp_path).close, a_record(tmp_path).tend):
        with pytest.raises(LaterRecord, match="written by a later version"):
            use()
    with pytest.raises(LaterRecord, match="nothing is changed"):
        a_record(tmp_path).record_found(FOUND, OURS)
    assert (tmp_path / NAME).read_bytes() == octets


def test_a_record_of_a_later_version_with_a_flipped_bit_is_damaged(tmp_path: Path) -> None:
    """As is our own where one bit makes another format of it."""
    octets = of_a_later_version(tmp_path)
    (tmp_path / NAME).write_bytes(octets.replace(b"7200", b"7201"))
    assert len(a_record(tmp_path).damaged()) == 1
    (tmp_path / NAME).unlink()
    a_record(tmp_path).record_found(FOUND, OURS)
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes().replace(b'"format": 2', b'"format": 3'))
    assert len(a_record(tmp_path).damaged()) == 1


def test_damaged_files_are_kept_aside_under_names_of_their_own(tmp_path: Path) -> None:
    """And told of as long as they are there."""
    for content in (b"one", b"two"):
        (tmp_path / NAME).write_bytes(content)
        (tmp_path / "found.json").write_bytes(content)
        a_record(tmp_path).set_aside()
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert kept == {
        f"{NAME}.damaged": b"one",
        f"{NAME}.damaged.2": b"two",
        "found.json.damaged": b"one",
        "found.json.damaged.2": b"two",
    }
    assert len(a_record(tmp_path).set_aside()) == len(kept)
    assert len(a_record(tmp_path, HERE | {"netns": "net:[2]"}).damaged()) == 2  # found.json may be anybody's
    assert not a_record(tmp_path).holds_any()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NEARLY = st.fixed_dictionaries(
    {
        "format": st.sampled_from([1, 2]) | JSON,
        "identity": st.just(HERE) | JSON,
        "settings": JSON
        | st.dictionaries(
            st.sampled_from(sorted(OURS)),
            JSON | st.fixed_dictionaries({"found": JSON, "ours": JSON | st.lists(JSON, max_size=2)}),
        ),
    }
)


@hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | NEARLY.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_a_record_or_refused(tmp_path: Path, content: bytes) -> None:
    """Disks rot, and people edit."""
    assert_read_or_refused(tmp_path, content)


# any life


class Lives(RuleBasedStateMachine):
    """A daemon that starts, crashes, reloads, drifts and stops, beside somebody else who sets things too.

    `kernel` is what stands; `without_us` is what would stand if we had never been.
    Values below 1000 are ours, others are somebody else's, so that a test can tell them apart.
    """

    keys = st.sampled_from(sorted(OURS))
    wanted = st.fixed_dictionaries({key: st.integers(1, 5) for key in OURS})

    @initialize()
    def boot(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.kernel = {"time": 7200, "intvl": 7500, "probes": 9000}
        self.without_us = dict(self.kernel)
        self.record: SettingsRecord | None = None
        self.yielded: set[str] = set()
        self.ours: dict[str, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    def _set(self, values: Mapping[str, int], crash_after: str) -> None:
        """What perform does, up to a crash."""
        assert self.record
        found = {key: self.kernel[key] for key in values if self.kernel[key] != values[key]}
        values = {key: values[key] for key in found}
        if not values:
            return
        self.record.record_found(found, values)
        if crash_after != "record":
            if crash_after == "half of the write":
                values = dict(list(values.items())[:1])
            self.kernel |= values
            if crash_after == "":
                self.record.confirm_set(values)
        if crash_after:
            self.record = None

    crashes = st.sampled_from(["", "", "", "record", "half of the write", "write"])

    @rule(wanted=wanted, crash=crashes)
    def start(self, wanted: dict[str, int], crash: str) -> None:
        """Also after a crash, with another configuration."""
        if self.record is None:
            self.record, self.ours, self.yielded = a_record(Path(self.directory.name)), wanted, set()
            self._set(wanted, crash)

    @rule(wanted=wanted, crash=crashes)
    def reload(self, wanted: dict[str, int], crash: str) -> None:
        """Settings that were yielded are asked for again."""
        if self.record is not None:
            self.ours, self.yielded = wanted, set()
            self._set(wanted, crash)

    @rule(key=keys, value=st.integers(1000, 1003))
    def somebody_sets(self, key: str, value: int) -> None:
        """sysctl(8), tuned, another admin."""
        self.kernel[key] = self.without_us[key] = value

    @rule(crash=crashes)
    def reapply(self, crash: str) -> None:
        """on_drift = "reapply"."""
        if self.record is not None:
            drifted = {key: self.ours[key] for key in self.ours.keys() - self.yielded}
            self._set(drifted, crash)

    @rule()
    def yield_to_somebody(self) -> None:
        """on_drift = "yield"."""
        if self.record is not None:
            theirs = {key: value for key, value in self.kernel.items() if value >= 1000}
            self.record.release(theirs)
            self.yielded |= theirs.keys()

    @rule(wanted=wanted, written=st.sets(keys))
    def a_write_fails(self, wanted: dict[str, int], written: set[str]) -> None:
        """And the roll back leaves some of it."""
        if self.record is not None:
            found = dict(self.kernel)
            self.record.record_found(found, wanted)
            self.kernel |= {key: wanted[key] for key in written}
            self.record.withdraw(self.kernel)

    @rule()
    def crash(self) -> None:
        """kill -9."""
        self.record = None

    @rule(by_hand=st.booleans())
    def give_back(self, *, by_hand: bool) -> None:
        """The daemon's stop, or `keepalivectl restore` after a crash: the system is as if we had never been."""
        if self.record is None and not by_hand:
            return
        keeper = a_record(Path(self.directory.name))
        due = keeper.due_back(self.kernel)
        for key, value in due.values.items():
            assert self.kernel[key] < 1000, "a foreign value was touched"
            assert self.kernel[key] == due.stands[key]
            self.kernel[key] = value
        assert all(self.kernel[key] >= 1000 for key in due.left_alone)
        keeper.close()
        self.record = None
        assert self.kernel == self.without_us

    @invariant()
    def what_is_ours_can_always_be_given_back(self) -> None:
        """Whatever happens next, even nothing."""
        if not hasattr(self, "kernel"):
            return
        due = a_record(Path(self.directory.name)).due_back(self.kernel)
        assert {**self.kernel, **due.values} == self.without_us


TestLives = Lives.TestCase
TestLives.settings = hypothesis.settings(examples(60), stateful_step_count=30)
