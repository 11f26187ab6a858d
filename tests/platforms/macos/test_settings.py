"""What is odd on macOS: a sysctl in another place, and a name for the boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.errors import ConfigError, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.freebsd.settings import IDLE
from keepaliveD.platforms.macos.settings import MacOS
from tests.platforms.emulators.hosts import freebsd, macos
from tests.platforms.worlds import write


def test_milliseconds_are_written_and_read_back_as_they_are(tmp_path: Path) -> None:
    """Nothing is rounded, so one attempt is enough."""
    host = macos(tmp_path)
    write(MacOS(tmp_path), {IDLE: 1234})
    assert host.look().values[IDLE] == 1234
    assert [call for call in host.look().calls if "-w" in call] == [["sysctl", "-w", f"{IDLE}=1234"]]


def test_the_boot_is_known_by_its_session(tmp_path: Path) -> None:
    """kern.boottime moves when the clock is stepped."""
    host = macos(tmp_path)
    assert MacOS(tmp_path).identity == {"boot": host.look().boot}


def test_another_systems_sysctl_is_no_macs(tmp_path: Path) -> None:
    """It has no session, so nothing would be recorded, and nothing is set."""
    host = freebsd(tmp_path)
    host.install("usr/sbin/sysctl", "sysctl")
    with pytest.raises(Unsupported, match=r"kern.bootsessionuuid: this kernel does not have it"):
        _ = MacOS(tmp_path).identity


def test_times_that_would_overflow_are_refused(tmp_path: Path) -> None:
    """As on FreeBSD, in milliseconds."""
    with pytest.raises(ConfigError, match="this system allows 2147483s in total"):
        MacOS(tmp_path).names(Keepalive(180, 60_000, 127))
