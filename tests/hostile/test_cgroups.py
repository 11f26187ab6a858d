"""Whoever makes cgroups below his own, as he likes, neither hides another's unit nor becomes one."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.kernel.test_connect import ARMED, MINE, RULES, Guest, cgroup, guest
from tests.support.attacks import USER
from tests.support.loopback import ATTACKS
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL, next_line, tell
from tests.support.versions import ITERATOR, since

__all__ = ["cgroup", "guest"]
pytestmark = since(ITERATOR)

SESSION = "user.slice/user-4711.slice/session-1.scope"
FILES = ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")  # as systemd delegates
BACKUP = RULES.format(survive="false").replace("[[arm]]", '[[arm]]\nunit = "backup*.service"')
LATE = "system.slice/system-a.slice/system-a-b.slice/system-a-b-c.slice/backup-late.service"  # deeper than the many
MANY, DEEP = 16_384, 1_100  # as many as the program in the kernel knows; more than Python 3.11 can recurse


def remove(top: Path) -> None:
    """Remove a cgroup and all below it, however deep they are."""
    below, seen = [top], []
    while below:
        seen.append(below.pop())
        with os.scandir(seen[-1]) as entries:
            below += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for each in reversed(seen):
        each.rmdir()


@pytest.fixture
def session(guest: Guest) -> Iterator[Path]:
    """The cgroup of a user's session, in which he may make others."""
    path = guest.outside / SESSION
    path.mkdir(parents=True)
    guest.outside.chmod(0o755)
    for file in FILES:
        os.chown(path / file, USER, USER)
    try:
        yield path
    finally:
        remove(guest.outside / "user.slice")


@contextlib.contextmanager
def attacked(guest: Guest, session: Path, attack: str, *arguments: str) -> Iterator[Popen[str]]:
    """One of the attacks in attacks.py, by a user without privileges, from within this session."""
    inside = guest.cgroups / session.relative_to(guest.outside)
    enter = f'echo $$ > {inside}/cgroup.procs && exec "$@"'
    command = guest.command("sh", "-c", enter, "sh", sys.executable, "-S", ATTACKS, attack, str(inside), *arguments)
    with Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.communicate()  # the end of its input is its own


@contextlib.contextmanager
def unit(guest: Guest, name: str) -> Iterator[None]:
    """The cgroup of a unit."""
    (guest.outside / name).mkdir(parents=True)
    try:
        yield
    finally:
        remove(guest.outside / name.partition("/")[0])


def test_very_many_and_very_deep_cgroups_hide_no_unit_that_comes_later(guest: Guest, session: Path) -> None:
    """What is armed at connect is known by cgroup, and there is room for 16,384."""
    guest.home.configure(BACKUP)
    with attacked(guest, session, "cgroups", str(MANY), str(DEEP)) as attacker:
        assert next_line(attacker) == "made\n"
        with guest.daemon() as daemon, unit(guest, LATE):
            wait_for(lambda: guest.opened(LATE) == [ARMED, ARMED])
            daemon.expect("armed", within=SOON, KEEPALIVE_UNIT="backup-late.service")
            daemon.stop()


def test_a_cgroup_named_like_a_unit_below_the_users_own_is_not_that_unit(guest: Guest, session: Path) -> None:
    """Neither while it connects, nor for a scan, nor in the log."""
    guest.home.configure(BACKUP)
    with unit(guest, "backup.service"), guest.daemon() as daemon:
        with attacked(guest, session, "false_unit", "backup@home.service", MINE) as attacker:
            assert next_line(attacker) == "False\n"
            sockets = ("sockets", "--json", "--all", "--scan", "--peer", MINE, f"--config={guest.home.file}")
            listed = json.loads(guest.run(*CTL, *sockets))
            assert {one["owner"]["unit"] for one in listed["connections"]} == {"session-1.scope"}
            assert guest.opened("backup.service") == [ARMED, ARMED]
            daemon.expect("armed", within=SOON, KEEPALIVE_UNIT="backup.service")
            tell(attacker)
            assert next_line(attacker) == "False\n"
        assert not daemon.heard("armed", KEEPALIVE_UNIT="backup@home.service")
        daemon.stop()
