"""Root writes only into files of the directory, whatever the directory's owner has put in their place."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD.model.errors import Busy, Exit, StateError
from keepaliveD.model.keepalive import Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.records.arming import LARGEST, ArmingRecord
from keepaliveD.records.directory import StateDirectory
from keepaliveD.records.files import NOT_PLAIN
from keepaliveD.records.settings import SettingsRecord

NOBODY = 65534
ON = SocketKeepalive(True, Keepalive(180, 20, 31))
ARMED = Armed(SocketKeepalive(False, Keepalive(7200, 75, 9)), ON, Own(0))
CTL = "from keepaliveD.__main__ import ctl; ctl()"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may write what another user owns")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of root's, elsewhere."""
    file = tmp_path / "precious"
    file.write_text("precious data of root")
    return file


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that belongs to the service's user."""
    directory = tmp_path / "state"
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)
    return directory


def link(file: Path, target: Path) -> None:
    file.symlink_to(target)


def dangle(file: Path, target: Path) -> None:
    file.symlink_to(target.with_name("nowhere"))


def second_name(file: Path, target: Path) -> None:
    file.hardlink_to(target)


def fifo(file: Path, _: Path) -> None:
    os.mkfifo(file)


def directory(file: Path, _: Path) -> None:
    file.mkdir()


STRANGE = f"{NOT_PLAIN}|it has [23] names; keep this one and remove the rest"
STRANGERS = [link, dangle, second_name, fifo, directory]

in_its_place = pytest.mark.parametrize("put", STRANGERS)


@as_root
@in_its_place
def test_the_arming_record_goes_into_no_stranger(
    state: Path, precious: Path, put: Callable[[Path, Path], None]
) -> None:
    put(state / "armed", precious)
    with pytest.raises(StateError, match=STRANGE):
        ArmingRecord(state, "boot").write({5: ARMED})
    assert precious.read_text() == "precious data of root"
    assert not precious.with_name("nowhere").exists()


@as_root
@in_its_place
def test_a_new_file_replaces_a_stranger_that_waits_for_it(
    state: Path, precious: Path, put: Callable[[Path, Path], None]
) -> None:
    """Except a directory, which is nobody's record."""
    put(state / "found.json.new", precious)
    if put is directory:
        with pytest.raises(StateError):
            StateDirectory(state).replace("found.json", b"record")
    else:
        StateDirectory(state).replace("found.json", b"record")
        assert not (state / "found.json").is_symlink()
        assert (state / "found.json").read_bytes() == b"record"
    assert precious.read_text() == "precious data of root"


@as_root
@in_its_place
def test_no_stranger_is_read_or_locked(state: Path, precious: Path, put: Callable[[Path, Path], None]) -> None:
    put(state / "found.json", precious)
    with pytest.raises(StateError, match=STRANGE):
        StateDirectory(state).read("found.json")
    put(state / "lock", precious)
    with pytest.raises(StateError, match=STRANGE), StateDirectory(state).locked():
        pass


@as_root
def test_what_root_makes_is_the_directorys_owners(state: Path) -> None:
    """Else the daemon could arm nothing after `keepalivectl arm`."""
    ArmingRecord(state, "boot").write({5: ARMED})
    StateDirectory(state).replace("found.json", b"record")
    with StateDirectory(state).locked():
        assert {file.stat().st_uid for file in state.iterdir()} == {NOBODY}


def test_a_record_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "armed").touch()
    os.truncate(tmp_path / "armed", LARGEST + 1)
    with pytest.raises(StateError, match=f"it has {LARGEST + 1} octets"):
        ArmingRecord(tmp_path, "boot").armed()


@pytest.mark.parametrize("name", ["armed", "lock", "found.json"])
@pytest.mark.parametrize("command", ["disarm", "restore"])
def test_a_fifo_in_place_of_a_record_does_not_hang_what_a_person_types(tmp_path: Path, command: str, name: str) -> None:
    """Nor the removal of the package, which calls restore."""
    os.mkfifo(tmp_path / name)
    run = [sys.executable, "-c", CTL, command, f"--state-dir={tmp_path}"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {Exit.OK, Exit.IOERR}
    assert done.stderr == "" or NOT_PLAIN in done.stderr


def test_a_record_with_a_second_name_or_another_owner_is_refused_with_what_keeps_its_content(tmp_path: Path) -> None:
    """As a backup of hard links makes it; removing the record would lose how to disarm."""
    ArmingRecord(tmp_path, "boot").write({5: ARMED})
    copy = tmp_path / "backup"
    copy.hardlink_to(tmp_path / "armed")
    with pytest.raises(StateError, match="it has 2 names") as refused:
        ArmingRecord(tmp_path, "boot").armed()
    command = re.search("to list them: (find .*?);", str(refused.value))
    assert command
    listed = subprocess.run(shlex.split(command[1]), capture_output=True, text=True, check=False).stdout
    assert set(listed.splitlines()) == {str(tmp_path / "armed"), str(copy)}
    copy.unlink()
    assert ArmingRecord(tmp_path, "boot").armed() == {5: ARMED}


@as_root
def test_a_record_of_another_owner_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    ArmingRecord(tmp_path, "boot").write({5: ARMED})
    os.chown(tmp_path / "armed", NOBODY, NOBODY)
    with pytest.raises(StateError, match=f"it belongs to user {NOBODY}") as refused:
        ArmingRecord(tmp_path, "boot").armed()
    command = re.search("run as root: (chown .*?);", str(refused.value))
    assert command
    subprocess.run(shlex.split(command[1]), check=True)
    assert ArmingRecord(tmp_path, "boot").armed() == {5: ARMED}


def second_name_of_the_record(file: Path) -> None:
    file.with_name("backup").hardlink_to(file)


def another_owner(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)


@as_root
@pytest.mark.parametrize("change", [second_name_of_the_record, another_owner])
@pytest.mark.parametrize("by", ["tend", "write"])
def test_whoever_knows_the_record_makes_it_readable_again(
    tmp_path: Path, change: Callable[[Path], None], by: str
) -> None:
    """The daemon does so at each scan; what others have added since is in it, too."""
    keeper = ArmingRecord(tmp_path, "boot")
    keeper.write({5: ARMED})
    ArmingRecord(tmp_path, "boot").write({6: ARMED})
    change(tmp_path / "armed")
    assert set(keeper.armed()) == {5, 6}
    if by == "tend":
        assert keeper.tend() == "got a second name or another owner"
    else:
        keeper.write({7: ARMED})
    assert ArmingRecord(tmp_path, "boot").armed() == keeper.armed()
    assert keeper.tend() == ""


@as_root
@pytest.mark.parametrize("change", [second_name_of_the_record, another_owner])
def test_the_daemon_makes_a_settings_record_readable_again(tmp_path: Path, change: Callable[[Path], None]) -> None:
    def record() -> SettingsRecord:
        return SettingsRecord(tmp_path, {"system": "test"}, {"idle": range(1, 9999)})

    keeper = record()
    with keeper.locked():
        keeper.record_found({"idle": 7200}, {"idle": 240})
        change(next(tmp_path.glob("found*.json")))
        with pytest.raises(StateError):
            record().holds_any()
        assert keeper.tend()
        assert record().due_back({"idle": 240}).values == {"idle": 7200}
        assert not keeper.tend()


@as_root
@pytest.mark.parametrize("change", [second_name_of_the_record, another_owner])
def test_a_backup_of_hard_links_does_not_keep_the_next_daemon_from_starting(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """It has the lock's name, too."""
    directory = StateDirectory(tmp_path)
    with directory.locked():
        change(tmp_path / "lock")
        directory.keep_lock()
        with pytest.raises(Busy), StateDirectory(tmp_path).locked():
            pass
    with StateDirectory(tmp_path).locked():
        pass
