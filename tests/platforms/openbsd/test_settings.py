"""What is odd on OpenBSD: a unit that changed, bounds, a fixed count, an exit status that is always 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.errors import ConfigError, KernelError, NotPermitted, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.openbsd.settings import IDLE, INTERVAL, SLOWHZ, OpenBSD
from tests.platforms.emulators.hosts import Fault, openbsd
from tests.platforms.worlds import write

KEEPALIVE = Keepalive(180, 20, 31)


@pytest.mark.parametrize("flags", [(), ("forgotten",)])
def test_the_unit_is_seconds_where_the_kernel_has_no_slowhz(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Found out at each start, since the release does not say; sysctl(8) may still know the name, or not."""
    openbsd(tmp_path, *flags)
    assert OpenBSD(tmp_path).names(KEEPALIVE) == {INTERVAL: 20, IDLE: 180}


def test_the_unit_is_half_a_second_where_slowhz_says_so(tmp_path: Path) -> None:
    """180 would be 90 s there."""
    openbsd(tmp_path, "slowhz")
    assert OpenBSD(tmp_path).names(KEEPALIVE) == {INTERVAL: 40, IDLE: 360}


@pytest.mark.parametrize("what", ["killed", "garbage", "language"])
def test_a_unit_that_cannot_be_asked_for_is_not_taken_for_seconds(tmp_path: Path, what: str) -> None:
    """Only the kernel's word that there is no slowhz means seconds."""
    host = openbsd(tmp_path, "slowhz")
    host.fail(Fault(what, "get", SLOWHZ))
    with pytest.raises(KernelError, match=SLOWHZ):
        OpenBSD(tmp_path).names(KEEPALIVE)


@pytest.mark.parametrize("flags", [(), ("slowhz",)])
@pytest.mark.parametrize(("idle", "interval"), [(36_000, 225), (1, 1)])
def test_the_bounds_are_the_same_seconds_in_both_units(
    tmp_path: Path, flags: tuple[str, ...], idle: int, interval: int
) -> None:
    """What is let through here the kernel takes; one more it refuses."""
    openbsd(tmp_path, *flags)
    tuner = OpenBSD(tmp_path)
    write(tuner, tuner.names(Keepalive(idle, interval, 8)))
    with pytest.raises(ConfigError, match=r"keepalive.idle = 36001: out of range; this system allows 1 to 36000"):
        tuner.names(Keepalive(36_001, 1, 8))
    with pytest.raises(ConfigError, match=r"keepalive.interval = 226: out of range; this system allows 1 to 225"):
        tuner.names(Keepalive(300, 226, 8))
    units = 2 if flags else 1
    with pytest.raises(KernelError, match=f"{IDLE}: cannot be set to .*: Invalid argument"):
        write(tuner, {IDLE: 36_000 * units + 1})


def test_a_want_of_privilege_is_seen_though_the_status_is_0(tmp_path: Path) -> None:
    """The program warns, and exits as if all were well."""
    host = openbsd(tmp_path)
    host.change(root=False)
    with pytest.raises(NotPermitted, match="Operation not permitted: run as root"):
        write(OpenBSD(tmp_path), {IDLE: 180})


def test_a_name_that_the_kernel_lacks_is_unsupported_though_the_status_is_0(tmp_path: Path) -> None:
    """An empty standard output is no number."""
    host = openbsd(tmp_path)
    host.change(values={INTERVAL: 75})
    with pytest.raises(Unsupported, match=f"{IDLE}: this kernel does not have it: sysctl: fourth level name keepidle"):
        OpenBSD(tmp_path).read()


def test_it_says_that_the_count_is_not_applied(tmp_path: Path) -> None:
    """There is no net.inet.tcp.keepcnt."""
    assert OpenBSD(tmp_path).notes == ("keepalive.probes is not applied: the kernel always sends 8",)
