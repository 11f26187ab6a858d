"""What /proc says of a daemon: its configuration, and how it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.cli.asking.process import configuration, how_to_reload, how_to_stop


@pytest.mark.parametrize(
    ("command", "cgroup", "stop"),
    [
        ("python3\0-m\0keepaliveD\0", "0::/user.slice/session-1.scope\n", "kill 812"),
        ("/usr/bin/tcp-keepalived\0", "0::/system.slice/tcp-keepalived.service\n", "systemctl stop tcp-keepalived"),
        ("/sbin/init\0", "0::/init.scope\n", "systemctl stop tcp-keepalived"),  # the daemon is in a container
    ],
)
def test_a_daemon_outside_of_its_unit_is_stopped_by_a_signal(
    tmp_path: Path, command: str, cgroup: str, stop: str
) -> None:
    assert how_to_stop(812, tmp_path) == "systemctl stop tcp-keepalived"
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/812/cmdline").write_text(command)
    (tmp_path / "proc/812/cgroup").write_text(cgroup)
    assert how_to_stop(812, tmp_path) == stop
    assert how_to_reload(812, tmp_path) == ("kill -HUP 812" if "kill" in stop else "systemctl reload tcp-keepalived")


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["--config", "/srv/its.toml"], Path("/srv/its.toml")),
        (["--config=/srv/its.toml"], Path("/srv/its.toml")),
        ([], Path("/etc/tcp-keepalived/config.toml")),
        (["--config", "its.toml"], None),
    ],
)
def test_only_a_relative_name_hides_the_configuration_of_a_daemon(
    tmp_path: Path, words: list[str], file: Path | None
) -> None:
    """Where a process works, only root sees; what it was called with, everybody."""
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/812/cmdline").write_bytes(b"".join(f"{word}\0".encode() for word in ["tcp-keepalived", *words]))
    assert configuration(812, tmp_path) == file
