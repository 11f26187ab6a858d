"""Lines for people fit the terminal, and a command in them can be copied whole."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli.printing.fitting import LEAST, continued, wrapped
from keepaliveD.model.duration import FOREVER

AT_RISK = "at risk      uid 0: 1 bare, the first in 9min 58s; keepalivectl sockets --at-risk --user 0"
NOTE = "these are the connections as tcp-keepalived (process 812) saw them 7.9s ago; --scan scans now"
LINES = st.text(st.sampled_from("ab ;,"), max_size=200)


def test_a_line_goes_on_below_between_words() -> None:
    line = "  BARE: the path forgets this connection in 9min 55s, and no packet is due before its program sends data."
    assert list(wrapped([line, "short"], 80, 15)) == [
        "  BARE: the path forgets this connection in 9min 55s, and no packet is due",
        "               before its program sends data.",
        "short",
    ]


def test_a_command_stays_in_one_piece() -> None:
    assert list(wrapped([AT_RISK], 80, 13)) == [
        "at risk      uid 0: 1 bare, the first in 9min 58s;",
        "             keepalivectl sockets --at-risk --user 0",
    ]


def test_a_command_that_is_wider_than_the_terminal_is_broken_between_words() -> None:
    assert list(wrapped(["keepalivectl deaths --explain ID shows all that was seen of an entry"], 40, 2)) == [
        "keepalivectl deaths --explain ID shows",
        "  all that was seen of an entry",
    ]


def test_a_command_to_be_pasted_goes_on_below_as_a_shell_reads_it() -> None:
    """Pasted in two lines, the first of them alone would arm with other times."""
    command = "redo: keepalivectl arm 10.99.1.2:40001 --idle 180s --interval 20s --probes 31"
    assert continued(command, 80) == command
    narrow = continued(command, 60)
    assert narrow.splitlines() == [
        "redo: keepalivectl arm 10.99.1.2:40001 --idle 180s \\",
        "    --interval 20s --probes 31",
    ]
    shell = ["sh", "-c", f"printf '%s ' {narrow}"]
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split() == command.split()
    assert continued(command, FOREVER) == command


TOLD = f"from keepaliveD.cli.printing.fitting import tell; tell('note', {NOTE!r})"
REFUSED = f"""
from keepaliveD.cli.arguments import run
from keepaliveD.model.errors import NoInput
def work():
    raise NoInput({NOTE!r})
run("note", work)
"""


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("saying", [TOLD, REFUSED], ids=["note", "refusal"])
def test_what_is_said_on_standard_error_fits_the_terminal(saying: str, columns: int) -> None:
    """Also where standard output leads elsewhere."""
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        with open(theirs, "w", encoding="utf-8") as terminal:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
            command = [sys.executable, "-c", saying]
            unset = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=terminal, env=unset, timeout=60, check=True)
        lines = everything(screen).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= columns for line in lines)
    assert " ".join(line.strip() for line in lines) == f"note: {NOTE}"


def everything(screen: io.FileIO) -> str:
    """All that was written to a terminal which nobody has open any more; the kernel hands it over piece by piece."""
    written = b""
    with contextlib.suppress(OSError):  # there is no more
        while octets := screen.read(1 << 12):
            written += octets
    return written.decode()


def test_outside_of_a_terminal_and_in_a_very_narrow_one_lines_stay_as_they_are() -> None:
    for width in (FOREVER, LEAST - 1):
        assert list(wrapped([AT_RISK], width, 13)) == [AT_RISK]


@given(LINES, st.integers(LEAST, 120))
def test_nothing_is_lost_but_the_spaces_between_lines(line: str, width: int) -> None:
    parts = list(wrapped([line], width, 13))
    assert "".join(parts).replace(" ", "") == line.replace(" ", "")
    assert all(len(part) <= width or " " not in part.strip() for part in parts)
