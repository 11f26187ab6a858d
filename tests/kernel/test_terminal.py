"""What people see of keepalivectl in a real terminal, narrow and wide, beside a daemon."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import CTL, Home, Program, configuration, program
from tests.support.rig import Rig
from tests.support.terminal import PROMPT, Terminal, terminal

TIMEOUT = 600  # seconds without a packet after which the firewall forgets
LINES = 60  # of the terminal: all of what a command prints
LABELLED = re.compile(r"\S.{12}\S| {13}\S")  # a line of status, or what goes on below it
EXPLAINED = re.compile(r"  [A-Z]{3,}|  \S.{12}\S| {15}\S")  # the same of why


@dataclass
class Desk:
    """Where a person sits: a bare and a safe connection of two programs, a daemon, and a terminal."""

    shown: Terminal
    width: int
    bare: Program
    safe: Program
    daemon: int

    def ask(self, *words: str) -> list[str]:
        """What is on the screen after this command, line by line."""
        self.shown.run("clear")
        self.shown.shows(rf"\A{PROMPT.strip()}\s*\Z")
        self.shown.type(f"./ask {shlex.join(words)}; echo 'that was' all")
        self.shown.press("Enter")
        self.shown.shows("^that was all$")
        lines = self.shown.lines
        assert all(len(line) <= self.width for line in lines)
        return lines[1 : lines.index("that was all")]


@pytest.fixture(params=[80, 160])
def desk(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Desk]:
    home = Home(tmp_path, configuration("apply = false", timeout=TIMEOUT))
    surroundings = ("env", f"RUNTIME_DIRECTORY={tmp_path}", f"STATE_DIRECTORY={home.state}")
    script = tmp_path / "ask"
    script.write_text(f'#!/bin/sh\nexec {shlex.join((*surroundings, *CTL))} "$@"\n')
    script.chmod(0o755)
    with (
        program(rig) as bare,
        program(rig, keepalive=7) as safe,
        home.daemon(rig.client, through=surroundings) as daemon,
        terminal(rig.client, tmp_path, request.param, LINES) as shown,
    ):
        shown.run("cd", str(tmp_path))
        yield Desk(shown, request.param, bare, safe, daemon.pid)
        daemon.stop()


def test_status_fits_and_its_commands_can_be_copied(desk: Desk) -> None:
    lines = desk.ask("status")
    assert lines[0].startswith("daemon       tcp-keepalived ")
    assert f"(process {desk.daemon})" in lines[0]
    assert "connections  2: 1 bare, 1 safe" in lines
    assert any("1 bare, the first in 9min" in line for line in lines)
    assert any(line.endswith("keepalivectl sockets --at-risk --user 0") for line in lines)
    assert not [line for line in lines if not LABELLED.match(line)]


def test_why_fits_and_breaks_no_word(desk: Desk) -> None:
    said = desk.ask("why", str(desk.bare.pid))
    page = said[: said.index("", 2)]  # what follows is to be pasted, and stays as it is

    def fits(line: str) -> bool:
        """Whether a line is not one that the terminal has broken: the name of a file may be wider."""
        return len(line) < desk.width

    assert page[0] == f"process {desk.bare.pid}: 1 connection: 1 bare"
    assert page[2].endswith(f"{desk.bare.name}[{desk.bare.pid}]")
    whole = " ".join(line.strip() for line in page[3:])
    assert "no packet is due before its program sends data." in whole
    assert "keepalive    off: its program has not switched it on" in whole
    assert 'armed        no: rule keepalive.arm says "observe"' in whole
    broken = [line for before, line in itertools.pairwise(page[2:]) if not EXPLAINED.match(line) and fits(before)]
    assert not broken
    assert '    action = "enable"' in said


def test_what_one_needs_of_sockets_is_there(desk: Desk) -> None:
    """Verdict, time left, peer and path in a narrow terminal; in a wide one also what comes next."""
    heading, bare, safe, *_ = desk.ask("sockets", "--each")
    assert {"VERDICT", "LEFT", "REMOTE", "PROCESS", "UNIT"} <= set(heading.split())
    assert ("NEXT PACKET" in heading) == (desk.width == 160)
    assert bare.startswith("bare ")
    assert f"10.99.2.2:{desk.bare.endpoints['KEEPALIVE_REMOTE_PORT']}  " in bare
    assert f"{desk.bare.name}[{desk.bare.pid}]" in bare
    assert safe.startswith("safe ")
    grouped = desk.ask("sockets")
    assert grouped[1].split()[:2] == ["bare", "1"]
    assert any("as tcp-keepalived (process " in line for line in grouped)


def test_paths_are_counted_by_verdict_as_status_does(desk: Desk) -> None:
    heading, _, rig, *_ = desk.ask("paths")
    assert heading.split()[:9] == ["PATH", "TIMEOUT", "COUNTS", "KEEPALIVE", "CUT", "BARE", "LATE", "UNKNOWN", "SAFE"]
    assert rig.split()[:10] == ["rig", "10min", "packets", "<=", "532s", "0", "1", "0", "0", "1"]
    assert ("ORIGIN" in heading) == (desk.width == 160)
