"""Where the daemon cannot work it says so in one line, changes nothing, and ends with a status that tells why."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest

from keepaliveD.model.errors import Exit
from tests.support.processes import Home, configuration
from tests.support.rig import UNTUNED, Namespace

NOBODY = (  # may read wherever Python is installed, and nothing more
    "setpriv",
    *("--reuid=nobody", "--regid=nogroup", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
WITHOUT_NETLINK = (sys.executable, "-S", "-m", "tests.kernel.without_netlink")


def read_only(directory: Path) -> tuple[str, ...]:
    """Run what follows where this directory is read-only."""
    mount = f'mount --bind -o ro {directory} {directory} && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")


def refusal(home: Home, *surroundings: str) -> tuple[int, str]:
    """The daemon's exit status, and the one line that it says in such surroundings, having changed nothing."""
    with Namespace() as host:
        done = host.run(*surroundings, *home.command)
        assert host.keepalive == UNTUNED
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return done.returncode, line


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With a state directory."""
    home = Home(tmp_path, configuration())
    home.state.mkdir()
    return home


def test_without_root_it_may_not_write(home: Home) -> None:
    """The daemon names the setting and the cure."""
    nobody = pwd.getpwnam("nobody")
    os.chown(home.state, nobody.pw_uid, nobody.pw_gid)
    status, line = refusal(home, *NOBODY)
    assert status == Exit.NOPERM
    assert "net.ipv4.tcp_keepalive_" in line
    assert "run as root" in line
    assert not any(home.state.glob("found*"))


def test_under_a_read_only_proc_sys_it_may_not_write(home: Home) -> None:
    """A sandbox is not cured by being root."""
    status, line = refusal(home, *read_only(Path("/proc/sys")))
    assert status == Exit.NOPERM
    assert "read-only" in line
    assert not any(home.state.glob("found*"))


def test_without_netlink_its_engine_can_watch_nothing(home: Home) -> None:
    """What is missing has its name."""
    home.configure(configuration().replace("[watch]", '[watch]\nengine = "netlink"'))
    status, line = refusal(home, *WITHOUT_NETLINK)
    assert status == Exit.UNAVAILABLE
    assert "netlink" in line


def limited(limit: str) -> tuple[str, ...]:
    """Run what follows under a limit of prlimit(1)."""
    return ("prlimit", limit)


@pytest.mark.parametrize("engine", ["netlink", "auto", "bpf"])
def test_too_few_open_files_are_a_shortage_and_no_missing_engine(home: Home, engine: str) -> None:
    """A service manager tries again after 71; 69 is final for the unit."""
    home.configure(configuration().replace("[watch]", f'[watch]\nengine = "{engine}"'))
    status, line = refusal(home, *limited("--nofile=7"))
    assert status == Exit.OSERR
    assert "Too many open files" in line


def test_too_little_memory_is_a_shortage_and_no_missing_package(home: Home) -> None:
    """Without the page of advice that NumPy has."""
    status, line = refusal(home, *limited(f"--as={60 << 20}"))
    assert status == Exit.OSERR
    assert len(line) < 300
    assert "memory" in line


def test_without_a_durable_record_nothing_is_changed(home: Home) -> None:
    """The daemon could not give back what it cannot remember."""
    status, line = refusal(home, *read_only(home.state))
    assert status == Exit.IOERR
    assert str(home.state) in line
