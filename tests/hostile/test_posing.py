"""Nobody but a running daemon is taken for it: what it reads is printed, changed and reloaded by root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.loopback import Host
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
