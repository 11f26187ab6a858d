"""What is odd on NetBSD: ticks, and a kernel that checks nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.errors import ConfigError, KernelError, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.netbsd.settings import IDLE, INTERVAL, PROBES, SLOWHZ, NetBSD
from tests.platforms.emulators.hosts import Fault, netbsd
from tests.platforms.worlds import write


def test_the_unit_is_asked_for(tmp_path: Path) -> None:
    """slowhz ticks are a second."""
    netbsd(tmp_path)
    assert NetBSD(tmp_path).names(Keepalive(180, 20, 31)) == {INTERVAL: 40, PROBES: 31, IDLE: 360}


@pytest.mark.parametrize("what", ["killed", "garbage", "language"])
def test_without_its_unit_nothing_is_known(tmp_path: Path, what: str) -> None:
    """No default is better than a wrong one."""
    netbsd(tmp_path).fail(Fault(what, "get", SLOWHZ))
    with pytest.raises(KernelError, match=SLOWHZ):
        NetBSD(tmp_path).names(Keepalive(180, 20, 31))


def test_a_unit_that_is_no_unit_is_refused(tmp_path: Path) -> None:
    """All times would be 0."""
    host = netbsd(tmp_path)
    host.change(values=host.look().values | {SLOWHZ: 0})
    with pytest.raises(KernelError, match=f"{SLOWHZ}: is 0"):
        NetBSD(tmp_path).names(Keepalive(180, 20, 31))


@pytest.mark.parametrize(
    ("keepalive", "words"),
    [
        (Keepalive(0, 20, 8), "keepalive.idle = 0: out of range; this system allows 1 to 1073741823"),
        (Keepalive(180, 20, 0), "keepalive.probes = 0"),
        (Keepalive(180, 60_000, 20_000), "this system allows 1073741823s in total"),
    ],
)
def test_what_the_kernel_would_take_and_misunderstand_is_refused(
    tmp_path: Path, keepalive: Keepalive, words: str
) -> None:
    """It stores anything, and multiplies."""
    netbsd(tmp_path)
    with pytest.raises(ConfigError, match=words):
        NetBSD(tmp_path).names(keepalive)


def test_the_words_of_success_are_not_believed(tmp_path: Path) -> None:
    """sysctl(8) prints the value that was asked for as the one that stands."""
    host = netbsd(tmp_path)
    host.fail(Fault("silent"))
    with pytest.raises(KernelError, match=f"{IDLE}: set to 360, but the system reports 14400"):
        write(NetBSD(tmp_path), {IDLE: 360})


def test_a_name_that_the_kernel_lacks_is_unsupported(tmp_path: Path) -> None:
    """Said before anything is written."""
    netbsd(tmp_path).change(values={})
    with pytest.raises(Unsupported, match=f"{INTERVAL}: this kernel does not have it: sysctl: fourth level name"):
        NetBSD(tmp_path).read()
