"""What is odd on FreeBSD and DragonFly: ticks, an unchecked count, a boot id that old ones lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.errors import ConfigError, KernelError, NotPermitted, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.freebsd.settings import IDLE, INTERVAL, PROBES, FreeBSD
from tests.platforms.emulators.hosts import Fault, freebsd
from tests.platforms.worlds import write


@pytest.mark.parametrize("hz", [100, 128, 250, 300, 1000, 1024])
def test_whole_seconds_read_back_as_written_at_any_clock_rate(tmp_path: Path, hz: int) -> None:
    """The kernel keeps ticks and floors, but a whole second is a whole number of ticks."""
    freebsd(tmp_path, hz=hz)
    tuner = FreeBSD(tmp_path)
    ours = tuner.names(Keepalive(idle=181, interval=7, probes=31))
    write(tuner, ours)
    assert tuner.read() == ours


@pytest.mark.parametrize("hz", [100, 128, 250, 300, 1000])
@pytest.mark.parametrize("ticks", [1, 7, 31, 1_000_001])
def test_whatever_was_found_is_restored_to_the_tick(tmp_path: Path, hz: int, ticks: int) -> None:
    """At 300 Hz 7 ticks read 23 ms, and 23 ms written are 6 ticks."""
    host = freebsd(tmp_path, hz=hz)
    found = {IDLE: ticks, INTERVAL: ticks, PROBES: 8}
    host.change(values=found)
    tuner = FreeBSD(tmp_path)
    stood = tuner.read()
    write(tuner, tuner.names(Keepalive(180, 20, 31)))
    write(tuner, stood)
    assert host.look().values == found


def test_a_count_that_makes_no_sense_is_restored_too(tmp_path: Path) -> None:
    """The kernel does not check it, and it was there before us."""
    host = freebsd(tmp_path)
    host.change(values=host.look().values | {PROBES: -1})
    tuner = FreeBSD(tmp_path)
    stood = tuner.read()
    write(tuner, {PROBES: 31})
    write(tuner, stood)
    assert host.look().values[PROBES] == -1


@pytest.mark.parametrize(
    ("keepalive", "words"),
    [
        (Keepalive(0, 20, 8), "keepalive.idle = 0: out of range; this system allows 1 to 2147483"),
        (Keepalive(2147484, 20, 8), "keepalive.idle = 2147484: out of range; this system allows 1 to 2147483"),
        (Keepalive(180, 0, 8), "keepalive.interval = 0"),
        (Keepalive(180, 20, 0), "keepalive.probes = 0"),
        (Keepalive(180, 60_000, 127), "keepalive.idle .* = 7620180s: too long; this system allows 2147483s in total"),
    ],
)
def test_what_the_kernel_would_misunderstand_is_refused(tmp_path: Path, keepalive: Keepalive, words: str) -> None:
    """It takes any count, and sysctl(8) cuts numbers down to 32 bits without a word."""
    host = freebsd(tmp_path)
    with pytest.raises(ConfigError, match=words):
        FreeBSD(tmp_path).names(keepalive)
    assert host.look().calls == []


def test_the_reason_of_a_refusal_is_reported_and_not_the_value_printed_before_it(tmp_path: Path) -> None:
    """sysctl(8) prints the old value on standard output and complains on standard error."""
    freebsd(tmp_path)
    with pytest.raises(KernelError, match=f"{IDLE}: cannot be set to 0: sysctl: {IDLE}=0: Invalid argument$"):
        write(FreeBSD(tmp_path), {IDLE: 0})


@pytest.mark.parametrize("flags", [(), ("2008",)])
def test_a_want_of_privilege_names_its_cure(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Also where the command ends with status 0, as those of 2008 do."""
    host = freebsd(tmp_path, *flags)
    host.change(root=False)
    with pytest.raises(NotPermitted, match=r"Operation not permitted: run as root; .* a jail may not set them"):
        write(FreeBSD(tmp_path), {IDLE: 180_000})


def test_a_kernel_without_a_setting_is_unsupported(tmp_path: Path) -> None:
    """Said before anything is written."""
    host = freebsd(tmp_path)
    values = host.look().values
    del values[PROBES]
    host.change(values=values)
    with pytest.raises(Unsupported, match=f"{PROBES}: this kernel does not have it: sysctl: unknown oid"):
        FreeBSD(tmp_path).read()
    with pytest.raises(Unsupported, match=PROBES):
        write(FreeBSD(tmp_path), {IDLE: 180_000, PROBES: 31})
    assert host.look().values == values


def test_the_boot_is_known_by_its_id_and_where_there_is_none_by_its_time(tmp_path: Path) -> None:
    """kern.boottime moves when the clock is stepped, so it comes second."""
    host = freebsd(tmp_path)
    assert FreeBSD(tmp_path).identity == {"boot": "4c8609698ad1a11cdc00cf6eb7d954e1"}
    host.change(boot_time=1)
    assert FreeBSD(tmp_path).identity == {"boot": "4c8609698ad1a11cdc00cf6eb7d954e1"}
    host.change(flags=["no-boot-id"])
    assert FreeBSD(tmp_path).identity == {"boot": "1"}


def test_a_boot_that_tells_nothing_of_itself_is_unsupported(tmp_path: Path) -> None:
    """No record could be trusted."""
    host = freebsd(tmp_path)
    host.fail(Fault("garbage", "get", "kern.boot_id"))
    with pytest.raises(Unsupported, match="does not identify this boot") as refused:
        _ = FreeBSD(tmp_path).identity
    assert str(refused.value).isprintable()
