"""keepalivectl undo, on the real kernel: what it restores stays restored beside the daemon that had set it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keepaliveD.cli.asking.asking import ask
from tests.kernel.test_why import settings
from tests.support.patience import SOON
from tests.support.processes import CTL, ENABLE, REARM, SCAN, TUNED, WARNING_TIME, Home, arming, configuration, program
from tests.support.rig import INTERVAL, PROBES, TIME, UNTUNED, Rig

OFF, ON = 0, 1
TIMEOUT = 600  # seconds without a packet after which the firewall forgets: none does so here


def undo(rig: Rig, home: Home, target: object, *, asked: Path | None = None) -> tuple[int, str, str]:
    """Status and output of `keepalivectl undo` there; `asked` is the runtime directory of the daemon."""
    through = ("env", f"RUNTIME_DIRECTORY={asked}") if asked else ()
    done = rig.client.run(*through, *CTL, "undo", str(target), f"--state-dir={home.state}")
    return done.returncode, done.stdout, done.stderr


def test_an_armed_socket_that_was_undone_stays_so_beside_the_daemon(rig: Rig, tmp_path: Path) -> None:
    """Others are armed meanwhile; and the command that is shown arms it again."""
    home = Home(tmp_path, arming(ENABLE, timeout=TIMEOUT))
    with home.daemon(rig.client) as daemon, program(rig) as asked:
        daemon.expect("armed", **asked.endpoints)
        armed = settings(asked)
        assert armed[0] == ON
        end = f"{asked.endpoints['KEEPALIVE_LOCAL_ADDRESS']}:{asked.endpoints['KEEPALIVE_LOCAL_PORT']}"
        status, said, beside = undo(rig, home, end)
        assert status == 0
        assert "it does not arm these connections again" in beside
        assert settings(asked)[0] == OFF
        with program(rig) as other:
            daemon.expect("armed", **other.endpoints)  # at a scan that has seen the first one, too
        assert settings(asked)[0] == OFF
        (again,) = re.findall("^redo: keepalivectl (.*)$", said, re.MULTILINE)
        done = rig.client.run(*CTL, *again.split(), f"--state-dir={home.state}", f"--config={home.file}")
        assert done.returncode == 0, done.stderr
        assert settings(asked)[:3] == armed[:3]  # with as many probes as an outage requires
        daemon.stop()


def test_a_daemon_that_would_set_it_again_is_not_fought_with(rig: Rig, tmp_path: Path) -> None:
    home = Home(tmp_path, configuration())
    with home.daemon(rig.client) as daemon:
        status, said, refused = undo(rig, home, TIME)
        assert (status, said) == (75, "")
        assert f"tcp-keepalived (process {daemon.pid}) would set it again at its next scan" in refused
        assert rig.client.keepalive == TUNED
        (line,) = re.findall("write (keepalive.idle = .*) into its configuration", refused)
        daemon.reload(configuration().replace(f'idle = "{TUNED[TIME]}s"', line.removeprefix("keepalive.")))
        daemon.expect("reloaded")
        daemon.expect("applied", KEEPALIVE_SYSCTL=TIME, KEEPALIVE_VALUE=UNTUNED[TIME])
        assert rig.client.keepalive == {**TUNED, TIME: UNTUNED[TIME]}
        daemon.stop()
    assert rig.client.keepalive == UNTUNED


@pytest.mark.parametrize("drift", ["reapply", "yield", "warn"])
def test_all_is_undone_by_the_daemon_itself_and_it_leaves_it_so(rig: Rig, tmp_path: Path, drift: str) -> None:
    """Whatever it does about others who set them: it says who has asked for it, and speaks of nobody else."""
    home = Home(tmp_path, configuration(f'on_drift = "{drift}"'))
    with home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={tmp_path}")) as daemon:
        assert rig.client.keepalive == TUNED
        status, said, refused = undo(rig, home, TIME, asked=tmp_path)
        assert (status, refused) == (0, "")
        assert rig.client.keepalive == {**TUNED, TIME: UNTUNED[TIME]}
        status, said, _ = undo(rig, home, "all", asked=tmp_path)
        assert status == 0, said
        until = "until its next reload or start"
        assert said.endswith(f"the daemon leaves what was restored {until}; redo: kill -HUP {daemon.pid}\n")
        assert ask(tmp_path / "control", "Scan", patience=SOON) == {}  # with a look at what stands
        assert rig.client.keepalive == UNTUNED
        assert daemon.expect("restored", KEEPALIVE_SYSCTL=INTERVAL)["KEEPALIVE_BY_UID"] == 0
        assert not daemon.heard("drift")
        assert ask(tmp_path / "control", "Reload", patience=SOON) == {}
        assert rig.client.keepalive == TUNED
        daemon.stop()
    assert rig.client.keepalive == UNTUNED


def test_why_says_what_undo_restores(rig: Rig, tmp_path: Path) -> None:
    """Also where a setting of the system was undone since: what stood in the socket then is not what it gets now."""
    home = Home(tmp_path, configuration(timeout=TIMEOUT) + f"\n[[arm]]\n{REARM}\n")
    with home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={tmp_path}")) as daemon:
        assert undo(rig, home, TIME, asked=tmp_path)[0] == 0
        assert rig.client.keepalive == {**TUNED, TIME: UNTUNED[TIME]}
        with program(rig, keepalive=0) as asked:
            daemon.expect("armed", **asked.endpoints)
            for through in (("env", f"RUNTIME_DIRECTORY={tmp_path}"), ()):  # by the daemon, and by a scan
                options = (
                    (f"--state-dir={home.state}",) if through else ("--config", home.file, "--state-dir", home.state)
                )
                said = rig.client.run(*through, *CTL, "why", str(asked.pid), *map(str, options)).stdout
                (promised,) = re.findall(
                    r"^  armed +yes; keepalivectl disarm restores [^:]*: (.*)$", said, re.MULTILINE
                )
                assert promised == "idle 2h, interval 1min 15s, probes 9"  # UNTUNED
            assert undo(rig, home, asked.pid, asked=tmp_path)[0] == 0
            assert settings(asked) == (ON, UNTUNED[TIME], UNTUNED[INTERVAL], UNTUNED[PROBES])
            said = rig.client.run(*through, *CTL, "why", str(asked.pid), *map(str, options)).stdout
            assert "(its program's)" not in said  # which has chosen none of them
        daemon.stop()


def test_what_was_undone_by_hand_is_seen_at_once(rig: Rig, tmp_path: Path) -> None:
    """Although the daemon would scan minutes later."""
    slow = arming(ENABLE, timeout=TIMEOUT).replace(f'"{SCAN}s"', '"5min"').replace(f'"{WARNING_TIME}s"', '"5min"')
    home = Home(tmp_path, slow)
    with program(rig) as asked, home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={tmp_path}")) as daemon:
        daemon.expect("armed", **asked.endpoints)
        ask(tmp_path / "control", "Scan", patience=SOON)
        assert ask(tmp_path / "control", "Status", patience=SOON)["connections"]["safe"] == 1
        status, *_ = undo(rig, home, asked.pid, asked=tmp_path)
        assert status == 0
        assert ask(tmp_path / "control", "Status", patience=SOON)["connections"]["bare"] == 1
        daemon.stop()


def test_a_setting_that_was_undone_stays_so_where_the_daemon_yields(rig: Rig, tmp_path: Path) -> None:
    """Until it is told to reload, as the command says."""
    home = Home(tmp_path, configuration('on_drift = "yield"'))
    with home.daemon(rig.client) as daemon:
        status, said, refused = undo(rig, home, TIME)
        assert (status, refused) == (0, "")
        assert "until its next reload or start" in said
        daemon.expect("drift", KEEPALIVE_SYSCTL=TIME)
        assert rig.client.keepalive == {**TUNED, TIME: UNTUNED[TIME]}
        daemon.reload(configuration('on_drift = "yield"', idle=3))
        daemon.expect("applied", KEEPALIVE_SYSCTL=TIME, KEEPALIVE_FOUND=UNTUNED[TIME], KEEPALIVE_VALUE=3)
        assert rig.client.keepalive == {**TUNED, TIME: 3}
        daemon.stop()
    assert rig.client.keepalive == UNTUNED


def test_where_no_setting_may_be_written_sockets_are_disarmed_all_the_same(rig: Rig, tmp_path: Path) -> None:
    """With a read-only /proc/sys, as in a container."""
    home = Home(tmp_path, configuration(timeout=TIMEOUT) + f"\n[[arm]]\n{REARM}\n")
    with program(rig, keepalive=0) as asked:
        with home.daemon(rig.client) as daemon:
            daemon.expect("armed", **asked.endpoints)
            daemon.kill()
        read_only = ("unshare", "--mount", "sh", "-c", 'mount --bind -o ro /proc/sys /proc/sys && exec "$@"', "sh")
        done = rig.client.run(*read_only, *CTL, "undo", "all", f"--state-dir={home.state}")
        assert done.returncode != 0
        assert "disarmed" in done.stdout
        assert f"keepalivectl: {INTERVAL}" in done.stderr
        assert rig.client.keepalive == TUNED
    assert undo(rig, home, "all")[0] == 0
    assert rig.client.keepalive == UNTUNED


def test_after_a_kill_one_setting_is_restored_and_then_the_rest(rig: Rig, tmp_path: Path) -> None:
    home = Home(tmp_path, configuration())
    with home.daemon(rig.client) as daemon:
        daemon.kill()
    status, said, refused = undo(rig, home, "keepalive.idle")
    assert (status, refused) == (0, "")
    assert said.startswith(f"{TIME}: found {TUNED[TIME]}, restored to {UNTUNED[TIME]}\n")
    assert rig.client.keepalive == {**TUNED, TIME: UNTUNED[TIME]}
    status, said, refused = undo(rig, home, "all")
    assert (status, refused) == (0, "")
    assert [line.partition(":")[0] for line in said.splitlines()[:2]] == sorted([INTERVAL, PROBES])
    assert rig.client.keepalive == UNTUNED
    assert not list(home.state.glob("found*"))
