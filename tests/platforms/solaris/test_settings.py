"""What is odd on Solaris and illumos: two programs, no count, a range that changed, nothing that outlives the boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.errors import ConfigError, KernelError, NotPermitted, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.solaris.settings import Solaris
from tests.platforms.emulators.hosts import Fault, Host, sunos
from tests.platforms.worlds import write

KEEPALIVE = Keepalive(180, 20, 31)


@pytest.fixture
def illumos(tmp_path: Path) -> Host:
    return sunos(tmp_path, "illumos", "one-second", ipadm=True)


def test_interval_and_probes_become_the_time_after_which_a_peer_is_given_up(illumos: Host) -> None:
    """20 s, 31 times, are 620 s."""
    names = Solaris(illumos.root).names(KEEPALIVE)
    assert names == {"_keepalive_abort_interval": 620_000, "_keepalive_interval": 180_000}
    assert "the system has no probe count" in Solaris.notes[0]


def test_it_says_that_old_sockets_and_listeners_keep_the_old_values() -> None:
    """The one fact that makes a tuned server look untuned."""
    assert "restart servers that were listening before" in Solaris.notes[1]


def test_nothing_that_is_set_outlives_the_boot(illumos: Host) -> None:
    """Without -t ipadm writes the value for the next boot too, where no record would give it back."""
    tuner = Solaris(illumos.root)
    found = tuner.read()
    write(tuner, tuner.names(KEEPALIVE))
    write(tuner, found)
    assert not any(key.startswith("persistent") for key in illumos.look().values)


@pytest.mark.parametrize(("flags", "lowest"), [(("one-second",), 1), ((), 10)])
def test_the_range_is_the_kernels_own(tmp_path: Path, flags: tuple[str, ...], lowest: int) -> None:
    """It went from 10 s to 1 s, so it is asked for; what is let through is taken."""
    sunos(tmp_path, "illumos", *flags, ipadm=True)
    tuner = Solaris(tmp_path)
    write(tuner, tuner.names(Keepalive(lowest, 1, 1)))
    with pytest.raises(
        ConfigError, match=f"keepalive.idle = {lowest - 1}: out of range; this system allows {lowest} to 864000"
    ):
        tuner.names(Keepalive(lowest - 1, 1, 1))
    with pytest.raises(ConfigError, match=r"keepalive.interval x keepalive.probes = 8323072: .* 1 to 4294967"):
        tuner.names(Keepalive(180, 65_536, 127))


@pytest.mark.parametrize("what", ["garbage", "language"])
def test_a_range_that_cannot_be_read_is_a_named_error(illumos: Host, what: str) -> None:
    """Nothing is guessed."""
    illumos.fail(Fault(what, "get", "_keepalive_interval"))
    with pytest.raises(KernelError, match="_keepalive_interval: its range cannot be read") as refused:
        Solaris(illumos.root).names(KEEPALIVE)
    assert str(refused.value).isprintable()


def test_solaris_10_takes_10_seconds_to_10_days(tmp_path: Path) -> None:
    """ndd(1M) tells no range, tcp(7P) does."""
    sunos(tmp_path, "solaris10", ipadm=False)
    tuner = Solaris(tmp_path, with_ipadm=False)
    write(tuner, tuner.names(Keepalive(10, 1, 1)))
    write(tuner, tuner.names(Keepalive(864_000, 1, 1)))
    for idle in (9, 864_001):
        with pytest.raises(
            ConfigError, match=f"keepalive.idle = {idle}: out of range; this system allows 10 to 864000"
        ):
            tuner.names(Keepalive(idle, 1, 1))


def test_ndd_does_it_where_there_is_no_ipadm(tmp_path: Path) -> None:
    """Under the names that it has there."""
    host = sunos(tmp_path, "solaris11", ipadm=False)
    tuner = Solaris(tmp_path)
    write(tuner, tuner.names(KEEPALIVE))
    assert tuner.read() == {"tcp_keepalive_abort_interval": 620_000, "tcp_keepalive_interval": 180_000}
    assert host.look().values == {"_keepalive_abort_interval": 620_000, "_keepalive_interval": 180_000}


@pytest.mark.parametrize(
    ("system", "ipadm", "words"),
    [
        ("solaris10", False, "operation failed: Invalid argument"),  # on standard output
        ("illumos", False, "operation failed: Value is outside the allowed range"),
        ("illumos", True, "ipadm: set-prop: .*: Value is outside the allowed range"),
    ],
)
def test_the_reason_of_a_refusal_is_read_from_either_stream(
    tmp_path: Path, system: str, ipadm: bool, words: str
) -> None:
    """The old ndd complains on standard output, the others on standard error."""
    sunos(tmp_path, system, ipadm=ipadm)
    key = "_keepalive_interval" if ipadm else "tcp_keepalive_interval"
    with pytest.raises(KernelError, match=f"{key}: cannot be set to 1: {words}$"):
        write(Solaris(tmp_path), {key: 1})


@pytest.mark.parametrize(
    ("system", "ipadm", "words"),
    [
        ("solaris10", False, "Not owner: run as root, on Solaris with the privilege sys_ip_config"),
        ("illumos", True, "Insufficient user authorizations: .* solaris.network.interface.config .* sys_ip_config"),
    ],
)
def test_a_want_of_privilege_names_its_cure(tmp_path: Path, system: str, ipadm: bool, words: str) -> None:
    """An authorization and a privilege, both."""
    host = sunos(tmp_path, system, ipadm=ipadm)
    host.change(root=False)
    with pytest.raises(NotPermitted, match=words):
        write(Solaris(tmp_path), {("_" if ipadm else "tcp_") + "keepalive_interval": 180_000})


@pytest.mark.parametrize(
    ("system", "ipadm", "words"),
    [
        ("solaris10", False, "name is non-existent for this module for a list"),
        ("illumos", False, "operation failed: Unknown property"),
        ("illumos", True, "cannot get property '_keepalive_abort_interval' for 'tcp'Unknown property"),
    ],
)
def test_a_kernel_without_a_parameter_is_unsupported(tmp_path: Path, system: str, ipadm: bool, words: str) -> None:
    """In each program's words."""
    sunos(tmp_path, system, ipadm=ipadm).change(values={})
    with pytest.raises(Unsupported, match=f"this kernel does not have it: .*{words}"):
        Solaris(tmp_path).read()


@pytest.mark.parametrize("what", ["garbage", "language"])
def test_a_boot_that_tells_nothing_of_itself_is_unsupported(illumos: Host, what: str) -> None:
    """No record could be trusted."""
    illumos.fail(Fault(what, "get", "boot"))
    with pytest.raises(Unsupported, match="who -b: does not identify this boot") as refused:
        _ = Solaris(illumos.root).identity
    assert str(refused.value).isprintable()


def test_the_boot_reads_the_same_in_every_time_zone(illumos: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon and keepalivectl are started from different sessions."""
    here = Solaris(illumos.root).identity
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert Solaris(illumos.root).identity == here
