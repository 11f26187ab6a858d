"""The system's keepalive settings: applied, defended as configured, and restored."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from keepaliveD.cli.asking.asking import ask
from tests.support.patience import SOON
from tests.support.processes import SCAN, TUNED, Home, configuration
from tests.support.rig import INTERVAL, PROBES, TIME, UNTUNED, Namespace

FOUND = {TIME: 7001, INTERVAL: 71, PROBES: 8}  # by nobody's default
THREE_SCANS = 3 * SCAN


def test_ours_is_reapplied_within_one_scan_over_what_somebody_else_wrote(tmp_path: Path) -> None:
    """The log names what was found and what stands again; what was found last is what is given back."""
    asked = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with Namespace() as host, Home(tmp_path, configuration()).daemon(host, through=asked) as daemon:
        host.set_sysctl(TIME, 99)
        assert ask(tmp_path / "control", "Scan", patience=SOON) == {}  # it is answered after one
        assert host.keepalive == TUNED
        drift = daemon.expect("drift", KEEPALIVE_FOUND=99)
        assert (drift["KEEPALIVE_SYSCTL"], drift["KEEPALIVE_VALUE"]) == (TIME, TUNED[TIME])
        host.set_sysctl(TIME, 98)
        assert ask(tmp_path / "control", "Scan", patience=SOON) == {}
        assert host.keepalive == TUNED
        daemon.stop()
        assert host.keepalive == UNTUNED | {TIME: 98}


def test_yield_leaves_a_setting_for_good_to_whoever_wrote_it(tmp_path: Path) -> None:
    """It is told once, and not given back even when they set it to our value; the others are."""
    with Namespace() as host, Home(tmp_path, configuration('on_drift = "yield"')).daemon(host) as daemon:
        host.set_sysctl(TIME, 99)
        drift = daemon.expect("drift", KEEPALIVE_FOUND=99)
        assert (drift["KEEPALIVE_SYSCTL"], drift["KEEPALIVE_VALUE"]) == (TIME, TUNED[TIME])
        host.set_sysctl(TIME, 98)
        assert not daemon.heard("drift", "applied", within=THREE_SCANS, KEEPALIVE_FOUND=98)
        assert host.keepalive == TUNED | {TIME: 98}
        host.set_sysctl(TIME, TUNED[TIME])
        daemon.stop()
        assert host.keepalive == UNTUNED | {TIME: TUNED[TIME]}


def test_warn_tells_of_a_change_and_leaves_it(tmp_path: Path) -> None:
    """It is not given back either: it is no longer ours."""
    with Namespace() as host, Home(tmp_path, configuration('on_drift = "warn"')).daemon(host) as daemon:
        for setting in (TIME, INTERVAL):
            host.set_sysctl(setting, 99)
            drift = daemon.expect("drift", KEEPALIVE_SYSCTL=setting)
            assert (drift["KEEPALIVE_FOUND"], drift["KEEPALIVE_VALUE"]) == (99, TUNED[setting])
        assert host.keepalive == TUNED | {TIME: 99, INTERVAL: 99}
        daemon.stop()
        assert host.keepalive == UNTUNED | {TIME: 99, INTERVAL: 99}
        assert "not restored" in daemon.heard("drift")[-1]["MESSAGE"]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_ends_the_daemon_restores_exactly_what_was_found(by: signal.Signals, tmp_path: Path) -> None:
    """Not the kernel's defaults, but what stood there."""
    with Namespace() as host:
        host.keepalive = FOUND
        home = Home(tmp_path, configuration())
        with home.daemon(host) as daemon:
            assert host.keepalive == TUNED
            daemon.stop(by)
            assert host.keepalive == FOUND
            assert {e["KEEPALIVE_SYSCTL"]: e["KEEPALIVE_VALUE"] for e in daemon.heard("restored")} == FOUND


def test_a_reload_that_finds_a_fifo_in_the_configurations_place_keeps_the_old_one(tmp_path: Path) -> None:
    """It does not wait for somebody who writes into it."""
    home = Home(tmp_path, configuration())
    with Namespace() as host, home.daemon(host) as daemon:
        home.file.unlink()
        os.mkfifo(home.file)
        daemon.send(signal.SIGHUP)
        assert "config.toml: cannot be read: it is not a regular file" in daemon.expect("reload-failed")["MESSAGE"]
        assert host.keepalive == TUNED
        daemon.stop()
        assert host.keepalive == UNTUNED


def test_a_reload_applies_the_new_settings_and_the_end_restores_the_oldest(tmp_path: Path) -> None:
    """What was ours before the reload is nothing that was found."""
    with Namespace() as host:
        host.keepalive = FOUND
        with Home(tmp_path, configuration()).daemon(host) as daemon:
            daemon.reload(configuration(idle=4))
            daemon.expect("applied", KEEPALIVE_FOUND=TUNED[TIME], KEEPALIVE_VALUE=4)
            assert host.keepalive == TUNED | {TIME: 4}
            daemon.stop()
            assert host.keepalive == FOUND


def test_a_signal_in_the_midst_of_work_is_not_lost_and_kills_nothing(tmp_path: Path) -> None:
    """Whichever of the process's threads the kernel hands it to."""
    with Namespace() as host:
        host.keepalive = FOUND
        for milliseconds in range(6):
            with Home(tmp_path, configuration()).daemon(host) as daemon:
                daemon.reload(configuration(idle=4))
                time.sleep(milliseconds / 1000)
                daemon.stop()
                assert host.keepalive == FOUND


def test_restore_restores_what_restore_on_stop_false_left(tmp_path: Path) -> None:
    """Also when a second run came after the first."""
    home = Home(tmp_path, configuration("restore_on_stop = false"))
    with Namespace() as host:
        host.keepalive = FOUND
        for _ in range(2):
            with home.daemon(host) as daemon:
                daemon.stop()
                assert host.keepalive == TUNED
        home.restore(host)
        assert host.keepalive == FOUND
