"""Programs that are missing, hang, are killed, babble or lie: an error in one line, and nothing changed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from keepaliveD.model.actions import Because, SetSystemKeepalive
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported
from tests.platforms.emulators.hosts import Fault
from tests.platforms.emulators.kernel import HANG
from tests.platforms.worlds import Emulated, emulated, performer, record_in, write
from tests.support.patience import wait_for

EACH_COMMAND = ["FreeBSD", "Solaris 11", "HP-UX", "AIX"]  # sysctl, ipadm, ndd, no


@pytest.fixture(params=EACH_COMMAND)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Emulated:
    root = tmp_path / "root"
    root.mkdir()
    return emulated(request.param, root)


@pytest.fixture
def impatient(world: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that hangs is waited for no longer than it takes to begin, and others as long as a machine is busy."""
    wait = subprocess.Popen.communicate

    def communicate(process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, bytes]:
        wait_for(lambda: process.poll() is not None or process.pid in world.host.look().hanging)
        return wait(process, timeout=timeout if process.poll() is not None else 0.0)

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)


def attempt(world: Emulated, state: Path) -> Refusal | None:
    """Apply, and say what was refused; a refusal must leave nothing behind."""
    found = world.tuner.read()
    record = record_in(state, world.tuner)
    with record.locked():
        action = SetSystemKeepalive(world.ours, found, Because.CONFIGURED)
        refused = performer(world, record).perform(action).refused
        if refused:
            assert "\n" not in str(refused)
            assert str(refused).isprintable()
            assert not record.holds_any()
            assert world.tuner.read() == found
    return refused


def nobody_left(world: Emulated) -> bool:
    """Whether every child has ended."""
    return not any(os.path.exists(f"/proc/{pid}") for pid in world.host.look().children)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("killed", "was killed by signal 9"),
        ("garbage", "set to .*, but the system reports"),
        ("language", r"cannot be set to .*: Vorgang nicht zul.*ssig"),
    ],
)
def test_a_setting_command_that_fails_oddly_is_a_named_error(
    world: Emulated, tmp_path: Path, what: str, words: str
) -> None:
    """Whatever it says, in whatever language: what counts is that the value does not stand."""
    key = [*world.ours][-1]
    world.fail(what, key)
    with pytest.raises(KernelError, match=words):
        raise attempt(world, tmp_path / "state") or AssertionError("it was not refused")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", ["hang", "late"])
def test_a_setting_command_that_hangs_is_ended_and_undone(world: Emulated, tmp_path: Path, what: str) -> None:
    """Also where it had already written before it hung."""
    world.fail(what, [*world.ours][-1])
    start = time.monotonic()
    with pytest.raises(KernelError, match="no answer within 10s, ended it"):
        raise attempt(world, tmp_path / "state") or AssertionError("it was not refused")
    assert time.monotonic() - start < HANG  # it would have hung for longer
    assert nobody_left(world)


def test_a_command_that_wrote_and_says_it_failed_has_written(world: Emulated, tmp_path: Path) -> None:
    """A status proves nothing in either direction."""
    world.fail("lying", next(iter(world.ours)))
    assert attempt(world, tmp_path / "state") is None
    assert world.tuner.read() == world.ours


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("killed", "was killed by signal 9"),
        ("garbage", "is not a number"),
        ("language", "cannot be read: Vorgang"),
        ("lying", "cannot be read: something failed"),  # a number, and a status that says it is none
    ],
)
def test_a_reading_command_that_fails_oddly_is_a_named_error(world: Emulated, what: str, words: str) -> None:
    """And no absent setting, which would be answered in another way."""
    key = next(iter(world.ours))
    found = world.host.look().values
    world.host.fail(Fault(what, "get", key))
    with pytest.raises(KernelError, match=words):
        world.tuner.read()
    with pytest.raises(KernelError, match=words):
        write(world.tuner, world.ours)
    assert world.host.look().values == found


@pytest.mark.usefixtures("impatient")
def test_a_reading_command_that_hangs_is_ended(world: Emulated) -> None:
    """A scan that fails is told, and tried again; it must not stop the daemon."""
    world.host.fail(Fault("hang", "get", next(iter(world.ours))))
    with pytest.raises(KernelError, match="no answer within 10s, ended it"):
        world.tuner.read()
    assert nobody_left(world)


def test_a_command_that_is_missing_is_unsupported(world: Emulated) -> None:
    """Said with its path, so that one sees whose it is."""
    tuner = world.tuner
    for program in world.host.programs:
        (world.host.root / program).unlink()
    with pytest.raises(Unsupported, match=f"{world.host.root}/.*: missing"):
        tuner.read()
    with pytest.raises(Unsupported, match=f"{world.host.root}/.*: missing"):
        _ = tuner.identity


def test_a_command_that_may_not_be_run_is_a_want_of_privilege(world: Emulated) -> None:
    """Root itself may not run a file without the permission."""
    tuner = world.tuner
    for program in world.host.programs:
        (world.host.root / program).chmod(0o600)
    with pytest.raises(NotPermitted, match="cannot be run: Permission denied"):
        tuner.read()


def test_a_file_that_is_no_program_is_a_named_error(world: Emulated) -> None:
    """Such as one for another machine."""
    tuner = world.tuner
    for program in world.host.programs:
        (world.host.root / program).write_bytes(b"\x7fELF\x02\x01\x01")
    with pytest.raises(KernelError, match="cannot be run: Exec format error"):
        tuner.read()


def test_the_environment_is_clean_and_english(world: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are compared, a boot time is shown in a time zone, and a session's variables are not root's business."""
    for name, value in {"LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Tokyo", "LD_PRELOAD": "", "IFS": "x"}.items():
        monkeypatch.setenv(name, value)
    write(world.tuner, world.ours)
    _ = world.tuner.identity
    for environment in world.host.look().environments:
        assert environment == {"LC_ALL": "C", "TZ": "UTC0", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
