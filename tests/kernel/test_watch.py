"""keepalivectl watch in a real terminal: what is on the screen, and the terminal afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.test_control import until
from tests.kernel.test_own_firewall import let_peer_probe
from tests.support.patience import has_ended
from tests.support.processes import CTL, Home, configuration, program
from tests.support.rig import Rig
from tests.support.terminal import Terminal, terminal

TIMEOUT = 600  # seconds without a packet after which the firewall forgets
CONFIGURATION = configuration("apply = false", timeout=TIMEOUT)
FORGED = 'cut\x1b[2J 0s  "'  # a process's name, 15 octets at most: it would clear the screen, and be a row
HELP = "Ctrl-C ends"  # the end of the last line


@pytest.fixture(params=[80, 160])
def shown(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Terminal]:
    width: int = request.param
    with terminal(rig.client, tmp_path, width) as shown:
        yield shown


@pytest.fixture
def narrow(rig: Rig, tmp_path: Path) -> Iterator[Terminal]:
    with terminal(rig.client, tmp_path, 80) as shown:
        yield shown


def watch(shown: Terminal, directory: Path) -> None:
    home = Home(directory, CONFIGURATION)
    shown.run(*CTL, "watch", f"--config={home.file}")
    shown.shows(HELP)


def test_each_connection_is_a_line_with_its_seconds_left(rig: Rig, shown: Terminal, tmp_path: Path) -> None:
    """The seconds become fewer; what is about to be cut is at the top, and in the next hour's bars.

    No rhythm of the peer can have shown yet, so that bare is not certain.
    """
    with program(rig) as bare, program(rig, keepalive=7) as safe:
        watch(shown, tmp_path)
        port, other = (asked.endpoints["KEEPALIVE_REMOTE_PORT"] for asked in (bare, safe))
        first = shown.shows(rf"^bare\? +(\S+(?: \S+)?)  .*10\.99\.2\.2:{port}\b")
        shown.shows(r"^\d\d:\d\d:\d\d  2 connections: 1 bare[?], 1 safe")
        shown.shows(r"^next hour \S*█\S* 1 cut expected")
        shown.shows(rf"^VERDICT.*\nbare.*\nsafe.*{other}")  # one look may come in the midst of a frame
        shown.is_rid_of(rf"^bare\?? +{re.escape(first[1])}  ")
        assert all(len(line) <= int(shown.about("pane_width")) for line in shown.lines)


def test_it_says_whose_scans_these_are(rig: Rig, shown: Terminal, tmp_path: Path) -> None:
    """Also beside a daemon they are its own, but it judges them by what the daemon knows."""
    home = Home(tmp_path, CONFIGURATION)
    directories = f"RUNTIME_DIRECTORY={tmp_path}", f"STATE_DIRECTORY={home.state}"
    with program(rig):
        shown.run("env", *directories, *CTL, "watch")
        shown.shows("^filter: _ .* own scans; no tcp-keepalived runs here$")
        shown.press("C-c")
        shown.is_as_before()
        with home.daemon(rig.client, through=("env", *directories)) as daemon:
            shown.run("env", *directories, *CTL, "watch")
            shown.shows(f"^filter: _ .* own scans, judged by what the daemon .process {daemon.pid}. knows$")
            shown.shows(r"^bare\?? .* rig")
            shown.press("C-c")
            daemon.stop()


def test_beside_a_daemon_it_knows_from_the_start_what_the_daemon_has_learnt(
    rig: Rig, shown: Terminal, tmp_path: Path
) -> None:
    """A peer that probes keeps the connection: the daemon has seen its rhythm, and watch has seen nothing yet."""
    home = Home(tmp_path, CONFIGURATION)
    directories = f"RUNTIME_DIRECTORY={tmp_path}", f"STATE_DIRECTORY={home.state}"
    with program(rig) as served, home.daemon(rig.client, through=("env", *directories)) as daemon:
        let_peer_probe(served)
        until(tmp_path / "control", lambda status: status["connections"]["safe"] == 1)
        shown.run("env", *directories, *CTL, "watch")
        assert shown.shows(r"^(safe|late|bare|cut|unknown)\?? ")[0] == "safe "
        shown.shows("  1 connection: 1 safe$")
        with program(rig):  # new since the daemon's last scan, or not
            shown.shows("^bare .*10[.]99[.]2[.]2:.*\n^safe ")
            shown.shows("  2 connections: 1 bare, 1 safe$")
        daemon.stop()
        shown.shows(rf"own scans; the daemon .process {daemon.pid}. can no longer be asked$")
        shown.press("C-c")


def test_what_is_typed_filters_at_once(rig: Rig, shown: Terminal, tmp_path: Path) -> None:
    with program(rig) as one, program(rig, keepalive=7):
        watch(shown, tmp_path)
        shown.shows(r"^safe\?? ")
        shown.type(f"/:{one.endpoints['KEEPALIVE_LOCAL_PORT']}")  # the slash as in less
        shown.shows(rf"^filter: :{one.endpoints['KEEPALIVE_LOCAL_PORT']}_")
        shown.is_rid_of(r"^safe\?? ")
        shown.shows("1 of 2 connections: 1 bare")
        shown.press("Escape")
        shown.shows(r"^safe\?? ")
        shown.type("!bare")
        shown.is_rid_of(r"^bare\?? ")
        shown.shows(r"^safe\?? ")
        for _ in "!bare":
            shown.press("BSpace")
        shown.type(one.name[:4])
        shown.shows(rf"^bare\?? .*{re.escape(one.name[:4])}")
        shown.type("-nobody")
        shown.shows("no connection matches the filter")


@pytest.mark.parametrize("size", [(40, 24), (160, 50), (20, 6), (4, 2), (80, 24)])
def test_another_size_is_obeyed(rig: Rig, narrow: Terminal, tmp_path: Path, size: tuple[int, int]) -> None:
    """Whatever is narrower shows less, and no line of it is wrapped."""
    with program(rig):
        watch(narrow, tmp_path)
        narrow.shows(r"^bare\?? ")
        narrow.resize(*size)
        width, height = size
        if height > 4 and width >= 20:
            narrow.shows(r"^bare\?? .*\d" if width >= 40 else r"^bare\?? ")
        assert all(len(line) <= width for line in narrow.lines)
        narrow.resize(80, 24)
        narrow.shows(r"\A\S+  1 connection.*\nnext hour .*\nfilter: _\nVERDICT.*\nbare")
        narrow.shows(HELP)
        narrow.shows_once("VERDICT")


def test_a_line_as_wide_as_the_terminal_is_shown_to_its_end(rig: Rig, narrow: Terminal, tmp_path: Path) -> None:
    with program(rig):
        watch(narrow, tmp_path)
        narrow.shows(r"^next hour .* 1 cut expected, in \d+(s|min( \d+s)?)$")


def test_a_name_forges_no_line_and_no_escape(rig: Rig, narrow: Terminal, tmp_path: Path) -> None:
    forged = tmp_path / FORGED
    forged.symlink_to(sys.executable)
    with program(rig, interpreter=str(forged)) as asked:
        assert asked.name == FORGED.strip()
        watch(narrow, tmp_path)
        narrow.resize(200, 24)
        narrow.shows(r'^bare\?? .*"cut\\\\x1b\[2J 0s  \\""\[')
        narrow.shows("  1 connection: 1 bare[?]$")
        assert not [line for line in narrow.lines if line.startswith("cut")]


@pytest.mark.parametrize(
    ("by", "status"),
    [("C-c", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGINT, 130)],
)
def test_whatever_ends_it_the_terminal_is_as_before(
    rig: Rig, narrow: Terminal, tmp_path: Path, by: str | signal.Signals, status: int
) -> None:
    before = narrow.modes
    with program(rig):
        watch(narrow, tmp_path)
        assert narrow.modes != before
        assert narrow.about("alternate_on") == "1"
        if isinstance(by, str):
            narrow.press(by)
        else:
            os.kill(watching(narrow), by)
        narrow.is_as_before()
        narrow.type("echo the status was $?")
        narrow.press("Enter")
        narrow.shows(f"the status was {status}$")
        assert narrow.modes == before


def test_a_pause_gives_the_terminal_back_and_goes_on_after_it(rig: Rig, narrow: Terminal, tmp_path: Path) -> None:
    """Ctrl-Z and fg."""
    before = narrow.modes
    with program(rig):
        watch(narrow, tmp_path)
        narrow.press("C-z")
        narrow.is_as_before()
        narrow.shows("Stopped")
        assert narrow.modes == before
        narrow.run("fg")
        narrow.shows(HELP)
        narrow.shows(r"^bare\?? ")
        assert narrow.about("alternate_on") == "1"
        narrow.press("C-c")
        narrow.is_as_before()
        assert narrow.modes == before


def test_it_ends_when_its_shell_is_killed(rig: Rig, narrow: Terminal, tmp_path: Path) -> None:
    """No process is left without a terminal."""
    narrow.tmux("set-option", "-g", "remain-on-exit", "on")
    with program(rig):
        watch(narrow, tmp_path)
        its = os.pidfd_open(watching(narrow))
        os.kill(int(narrow.about("pane_pid")), signal.SIGKILL)
        assert has_ended(its)


def test_without_a_terminal_it_is_one_line_and_status_64(rig: Rig, tmp_path: Path) -> None:
    home = Home(tmp_path, CONFIGURATION)
    done = rig.client.run(*CTL, "watch", f"--config={home.file}")
    assert (done.returncode, done.stdout) == (64, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("keepalivectl: watch requires a terminal")


def watching(shown: Terminal) -> int:
    """The process that watches: the child of the pane's shell."""
    shell = shown.about("pane_pid")
    return int(subprocess.run(["pgrep", "-P", shell], capture_output=True, text=True, check=True).stdout.split()[0])
