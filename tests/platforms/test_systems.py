"""The whole program on every system: one configuration in seconds, each kernel's own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platforms import programs
from tests.platforms.emulators import wire
from tests.platforms.worlds import HOSTS, Emulated, emulated

CONFIGURATION = """
[keepalive]
idle = "180s"
interval = "20s"
probes = 31
"""


@pytest.fixture(params=HOSTS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Emulated:
    root = tmp_path / "root"
    root.mkdir()
    return emulated(request.param, root)


@pytest.fixture
def arguments(world: Emulated, tmp_path: Path) -> list[str]:
    """What each run is started with."""
    file = tmp_path / "config.toml"
    file.write_text(CONFIGURATION)
    return ["--config", str(file), "--state-dir", str(tmp_path / "state"), "--platform", world.name]


def test_one_run_finds_applies_reads_back_and_restores(world: Emulated, arguments: list[str]) -> None:
    """Found, applied, read back, restored: told line by line, and true in the kernel."""
    found, stood = world.tuner.read(), world.host.look().values
    run = programs.run("tcp-keepalived", world.host.root, "--once", *arguments)
    assert run.returncode == 0, run.stderr
    for key, value in world.ours.items():
        assert f"{key}: found {found[key]}, set to {value}\n" in run.stderr
        assert f"{key}: found {value}, restored to {found[key]}\n" in run.stderr
    for note in world.notes:
        assert run.stderr.count(f"{world.name}: {note}\n") == 1
    assert world.host.look().values == stood


@pytest.mark.parametrize("world", ["FreeBSD"], indirect=True)
def test_a_dry_run_writes_nothing(world: Emulated, arguments: list[str]) -> None:
    """It says what would be."""
    stood = world.host.look().values
    run = programs.run("tcp-keepalived", world.host.root, "--once", "--dry-run", *arguments)
    assert run.returncode == 0, run.stderr
    for key, value in world.ours.items():
        assert f"would be set to {value}" in run.stderr
        assert not any(f"{key}={value}" in call or "-set" in call for call in world.host.look().calls)
    assert world.host.look().values == stood


@pytest.mark.parametrize("world", ["Solaris 11"], indirect=True)
def test_what_a_killed_daemon_left_is_restored_by_keepalivectl(
    world: Emulated, arguments: list[str], tmp_path: Path
) -> None:
    """The same record, by the same commands."""
    stood = world.host.look().values
    run = programs.run("tcp-keepalived", world.host.root, "--once", *arguments, killed_before_stop=True)
    assert run.returncode == -9, run.stderr
    assert world.tuner.read() == world.ours
    restore = ["restore", "--state-dir", str(tmp_path / "state"), "--platform", world.name]
    run = programs.run("keepalivectl", world.host.root, *restore)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(", restored to ") == len(world.ours)
    assert world.host.look().values == stood


@pytest.mark.parametrize("world", ["Solaris 10", "Solaris 11", "illumos"], indirect=True)
def test_servers_that_keep_to_the_old_settings_are_named(world: Emulated, arguments: list[str]) -> None:
    """What they accept from now on keeps to them, too: only a restart helps."""
    listening = [
        wire.Connection(local="0.0.0.0", local_port=22, remote="0.0.0.0", remote_port=0, state="LISTEN"),
        wire.Connection(local="::1", local_port=25, remote="::", remote_port=0, state="LISTEN"),
        wire.Connection(),
    ]
    wire.change(world.host.root, connections=[vars(each) for each in listening])
    run = programs.run("tcp-keepalived", world.host.root, "--once", *arguments)
    assert run.returncode == 0, run.stderr
    assert "restart the services listening on *.22, ::1.25: they still use the old settings\n" in run.stderr
    again = programs.run("tcp-keepalived", world.host.root, "--once", "--dry-run", *arguments)
    assert "restart the services" not in again.stderr
