"""Nobody but a running daemon is taken for it: what it reads is printed, changed and reloaded by root."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.places import LOCK
from tests.support.loopback import Host, forgetful
from tests.support.patience import SOON
from tests.support.processes import CTL, next_line
from tests.support.rig import DIE_WITH_US

# a small file system, whose inodes have small numbers, with a configuration that anybody might have written
PLACE = """
mount -t tmpfs x "$0" && mkdir "$0/state" "$0/evil" && touch "$0/state/lock" "$0/evil/config.toml" && echo && cat
"""
OVERLAY = """
mount -t tmpfs x "$0" && mkdir "$0/lower" "$0/upper" "$0/work" "$0/state" &&
mount -t overlay x -o "lowerdir=/etc:$0/lower,upperdir=$0/upper,workdir=$0/work" "$0/state" && echo && cat
"""
# a list of locks as slow as the kernel's where somebody holds very many: its end never comes
LISTED = """
mkfifo "$0" && exec 3<> "$0" && mount --bind "$0" /proc/locks && echo &&
while echo "1: POSIX  ADVISORY  WRITE 1 00:01:4 0 1" >&3; do sleep 0.01; done
"""


@pytest.mark.parametrize("whose", ["user", "container"])
def test_a_file_of_the_same_inode_on_another_file_system_makes_nobody_the_daemon(host: Host, whose: str) -> None:
    """Not even a process of root's, with a command line that names a configuration."""
    place = host.directory / "place"
    place.mkdir()
    with host.namespace.running("unshare", "--mount", "sh", "-c", PLACE, str(place)) as mounted:
        assert next_line(mounted) == "\n"
        there = ("nsenter", f"--target={mounted.pid}", "--mount", *DIE_WITH_US)
        words = (f"{place}/state/lock", whose, f"--config={place}/evil/config.toml")
        with host.attacked("false_holder", *words, through=there) as attacker:
            assert next_line(attacker).strip().isdecimal()
            ask = (*there, "env", f"STATE_DIRECTORY={place}/state", f"RUNTIME_DIRECTORY={place}/run", *CTL)
            checked = host.namespace.run(*ask, "check")
            assert checked.returncode == 0
            assert "daemon" not in checked.stderr
            status = host.namespace.run(*ask, "status")
            assert not re.search(r"process \d+", status.stdout + status.stderr)


@pytest.mark.parametrize("script", [PLACE, OVERLAY], ids=["tmpfs", "overlay"])
def test_whoever_holds_the_lock_is_found_on_each_kind_of_file_system(tmp_path: Path, host: Host, script: str) -> None:
    """stat(2) tells another device than the kernel's lock where file systems lie above each other."""
    with host.namespace.running("unshare", "--mount", "sh", "-c", script, str(tmp_path)) as mounted:
        assert next_line(mounted) == "\n"
        there = ("nsenter", f"--target={mounted.pid}", "--mount", *DIE_WITH_US)
        ask = (*CTL, "engine", f"--state-dir={tmp_path}/state")
        said = host.namespace.run(*there, "flock", f"{tmp_path}/state/lock", *ask)
        assert re.search(r"tcp-keepalived is running \(process \d+\)", said.stderr), said


@pytest.fixture
def ask(host: Host) -> Iterator[tuple[str, ...]]:
    """What runs keepalivectl, if it ends soon, where very many locks are held."""
    with host.namespace.running("unshare", "--mount", "sh", "-c", LISTED, str(host.directory / "locks")) as listing:
        assert next_line(listing) == "\n"
        places = (f"STATE_DIRECTORY={host.directory}/state", f"RUNTIME_DIRECTORY={host.directory}/run")
        there = ("nsenter", f"--target={listing.pid}", "--mount", *DIE_WITH_US)
        yield (*there, "env", *places, "timeout", str(SOON), *CTL)


def test_very_many_locks_of_others_hide_no_daemon_and_keep_no_command_waiting(host: Host, ask: tuple[str, ...]) -> None:
    """Anybody may hold hundreds of thousands by fcntl(2), which the kernel takes minutes to list."""
    (host.directory / "run").mkdir()
    with host.daemon(forgetful(), through=("env", f"RUNTIME_DIRECTORY={host.directory}/run")) as daemon:
        engine = host.namespace.run(*ask, "engine")
        assert engine.returncode == 0, engine
        assert f"tcp-keepalived is running (process {daemon.pid})" in engine.stderr
        checked = host.namespace.run(*ask, "check")
        assert checked.returncode == 0, checked
        assert f"this is the file of the running daemon (process {daemon.pid})" in checked.stderr


def test_beside_very_many_locks_of_others_a_daemon_that_cannot_be_found_is_not_denied(
    host: Host, ask: tuple[str, ...]
) -> None:
    (host.directory / "state").mkdir()
    (host.directory / "state" / LOCK).touch()
    checked = host.namespace.run(*ask, "check")
    assert checked.returncode == 0, checked
    assert "daemon" not in checked.stderr
    with host.namespace.running("flock", str(host.directory / "state" / LOCK), "sh", "-c", "echo; exec cat") as holder:
        assert next_line(holder) == "\n"
        checked = host.namespace.run(*ask, "check")
    assert checked.returncode == 71, checked
    assert f"state/{LOCK} is locked by a process that cannot be found: /proc/locks is too long" in checked.stderr
