"""keepalivectl status, why and sockets in a real terminal, narrow and wide: what a person sees on the screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.cli.asking.asking import ask
from tests.support.patience import SOON
from tests.support.processes import CTL, Home, Program, configuration, program
from tests.support.rig import Rig
from tests.support.terminal import Terminal, terminal

TIMEOUT = 600  # seconds without a packet after which the firewall forgets
WIDTHS = [80, 160]


@pytest.fixture(params=WIDTHS)
def shown(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in which keepalivectl asks a daemon beside two connections."""
    width: int = request.param
    home = Home(tmp_path, configuration("apply = false", timeout=TIMEOUT))
    with terminal(rig.client, tmp_path, width, lines=40) as shown, home.daemon(rig.client, through=reaching(tmp_path)):
        yield shown


@pytest.fixture
def bare(rig: Rig, shown: Terminal, tmp_path: Path) -> Iterator[Program]:
    """A program without keepalive, beside one that has it; the daemon has seen both."""
    del shown
    with program(rig) as bare, program(rig, keepalive=7):
        end = time.monotonic() + SOON  # the second one connects first, and then switches keepalive on
        while ask(tmp_path / "control", "Status", patience=SOON)["connections"]["safe"] != 1:
            assert time.monotonic() < end
            ask(tmp_path / "control", "Scan", patience=SOON)
        yield bare


def reaching(directory: Path) -> tuple[str, ...]:
    """How a command reaches the control socket in this directory."""
    return "env", f"RUNTIME_DIRECTORY={directory}"


def test_status_shows_what_is_at_risk(shown: Terminal, bare: Program, tmp_path: Path) -> None:
    shown.run(*reaching(tmp_path), *CTL, "status", f"--state-dir={tmp_path}/state")
    shown.shows(r"^daemon       tcp-keepalived \S+, running for ")
    shown.shows(r"^settings     left alone \(keepalive.apply = false\)$")
    shown.shows(r"^engine       \S")
    shown.shows(r"^last scan    \S+ ago, took ")
    shown.shows(r"^connections  2: 1 bare, 1 safe$")
    shown.shows(r"^at risk      .*1 bare, the first in [^;]*;(\n {12})? keepalivectl sockets --at-risk --user 0$")
    assert bare.process.poll() is None


def test_why_shows_what_becomes_of_a_connection_and_what_would_help(
    shown: Terminal, bare: Program, tmp_path: Path
) -> None:
    shown.run(*reaching(tmp_path), *CTL, "why", str(bare.pid), f"--state-dir={tmp_path}/state")
    shown.shows(rf"^process {bare.pid}: 1 connection: 1 bare$")
    shown.shows(r"^  BARE: the path forgets this connection in [^,]*, and no packet is due\s+before\s+its program")
    shown.shows(r"^  keepalive    off: its program has not switched it on$")
    shown.shows(r"^  next packet  none, until its program or the peer sends data$")
    shown.shows(r"^  path         rig, forgets after 10min without a packet \(configured in\b")
    shown.shows(r"^    \[\[arm\]\]\n    process = .*\n    action = \"enable\"\n    idle = \"auto\"$")


def test_paths_count_what_status_counts(shown: Terminal, bare: Program, tmp_path: Path) -> None:
    shown.run(*reaching(tmp_path), *CTL, "paths", f"--state-dir={tmp_path}/state")
    """And in both widths how many died, and how many silences were survived."""
    head = shown.shows(r"^PATH +TIMEOUT +(COUNTS +)?KEEPALIVE +CUT +BARE +LATE +UNKNOWN +SAFE +DEATHS +SAVES\b.*$")[0]
    shown.shows(r"^rig +10min +(packets +)?<= 8min 52s +0 +1 +0 +0 +1 +0 +0\b")
    shown.shows(r"^note: these are the paths as of the last scan by tcp-keepalived \(process ")
    assert len(head) <= int(shown.about("pane_width"))
    is_wide = int(shown.about("pane_width")) == max(WIDTHS)
    assert ("COUNTS" in head, "ORIGIN" in head) == (is_wide, is_wide)
    assert bare.process.poll() is None


def test_a_table_of_connections_fits_the_terminal(shown: Terminal, bare: Program, tmp_path: Path) -> None:
    """What is needed is there in both widths: the verdict, how long it lives, and to whom it belongs."""
    shown.run(*reaching(tmp_path), *CTL, "sockets", "--each", f"--state-dir={tmp_path}/state")
    head = shown.shows(r"^VERDICT +LEFT .*REMOTE +PROCESS.*$")[0]
    row = shown.shows(rf"^bare +\S.*\[{bare.pid}\].*$")[0]
    width = int(shown.about("pane_width"))
    assert len(head) <= width
    assert len(row) <= width
    assert str(bare.endpoints["KEEPALIVE_REMOTE_PORT"]) in row
    assert ("LOCAL" in head) == (width == max(WIDTHS))
