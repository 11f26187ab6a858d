"""What `keepalivectl watch` shows fits the terminal, and no name in it forges a line, a column or an escape."""

from __future__ import annotations

import dataclasses
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli.watch import frame
from keepaliveD.cli.watch.screen import _keys
from keepaliveD.model.connections import Owner, Verdict
from keepaliveD.model.sockets import Floats
from tests.support.samples import BARE

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
NONE = np.zeros(0)


def view(*names: str, left: Floats = NONE, **more: str) -> frame.View:
    shown = [dataclasses.replace(BARE, owner=Owner(7, name, name), path=name) for name in names]
    return frame.View("12:00:00", len(shown), {Verdict.BARE: len(shown)}, left, shown, **more)  # type: ignore[arg-type]


@given(NAMES, st.integers(1, 200), st.integers(1, 60))
def test_each_line_fits_whatever_the_names(name: str, width: int, height: int) -> None:
    """In columns of the terminal; and there is nothing in it that moves the cursor."""
    lines = frame.frame(view(name, name, note=name), width, height, colour=False, blocks=True)
    assert len(lines) <= height
    for line in lines:
        assert line.isprintable()
        assert sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line) <= max(width, 2)
        assert not any(unicodedata.combining(one) for one in line)


@pytest.mark.parametrize(
    "name", ["漢字", "e\u0301\u0301", "\u1100\u1161", "a\u202eb", "\ufeff", "\x1b[2J", "a  b", 'a"  "b']
)
def test_columns_stay_where_they_are(name: str) -> None:
    """A name that could be taken for two columns is in quotes."""
    heading, row = frame.frame(view(name), 300, 10, colour=False, blocks=True)[frame.ABOVE - 1 : frame.ABOVE + 1]
    assert frame.narrow(row) == row
    assert row[heading.index("REMOTE") :].startswith("10.20.0.9:10080 ")
    cell = row[heading.index("PROCESS") : heading.index("UNIT")].rstrip()
    assert cell.endswith("[7]")
    assert "  " not in cell or cell.startswith('"')


def test_on_a_narrow_terminal_the_verdict_the_time_the_unit_and_the_peer_stay() -> None:
    lines = frame.frame(view("amanda.service"), 60, 10, colour=False, blocks=True)
    assert {"VERDICT", "LEFT", "REMOTE", "UNIT"} < set(lines[frame.ABOVE - 1].split())
    assert {"bare", "58s", "10.20.0.9:10080", "amanda.service"} < set(lines[frame.ABOVE].split())


@pytest.mark.parametrize(
    ("left", "bars"),
    [
        ([], "▁▁▁▁▁▁"),
        ([0.0], "█▁▁▁▁▁"),
        ([3600.0, 1.0, 2.0], "█▁▁▁▁▅"),
        ([700.0] * 1000 + [1900.0], "▁█▁▂▁▁"),
        ([4000.0, math.nan, -5.0], "▁▁▁▁▁▁"),
    ],
)
def test_a_bar_is_as_high_as_the_number_of_cuts_in_its_part_of_the_hour(left: list[float], bars: str) -> None:
    """One cut among a thousand is seen; a thousand cuts are not taken for one."""
    soon = np.array(left)
    assert frame.sparkline(soon[(soon >= 0) & (soon <= 3600)], 6, frame.BLOCKS) == bars


def test_the_next_hour_says_how_many_and_when_the_first() -> None:
    line = frame.frame(view("a", left=np.array([65.0, 3000.0])), 100, 10, colour=False, blocks=False)[1]
    assert line.startswith("next hour #____")
    assert line.endswith("2 cuts expected, the first in 1min 5s")


def test_who_has_scanned_is_said_where_there_is_room() -> None:
    whose = "own scans; no tcp-keepalived runs here"
    wide, narrow = (
        frame.frame(view("amanda", filter=":22", whose=whose), width, 10, colour=False, blocks=True)[2]
        for width in (80, 40)
    )
    assert wide == f"filter: :22_{whose.rjust(68)}"
    assert narrow == "filter: :22_"


def test_what_is_not_certain_is_counted_apart() -> None:
    counts, presumed = {Verdict.BARE: 3, Verdict.SAFE: 4, Verdict.LATE: 1}, {Verdict.BARE: 2, Verdict.LATE: 1}
    line = frame.frame(
        frame.View("12:00:00", 8, counts, NONE, (), presumed=presumed), 100, 10, colour=False, blocks=True
    )[0]
    assert line == "12:00:00  8 connections: 1 bare, 2 bare?, 1 late?, 4 safe"


def test_what_is_not_shown_is_counted() -> None:
    shown = frame.View("12:00:00", 500, {Verdict.SAFE: 400}, NONE, view("a", "b").shown, first=7, filter="s")
    lines = frame.frame(shown, 100, 10, colour=False, blocks=True)
    assert lines[0] == "12:00:00  400 of 500 connections: 400 safe"
    assert lines[-1].startswith("8-9 of 400; type to filter")


@pytest.mark.parametrize(
    ("octets", "keys"),
    [
        (b"ab", ["a", "b"]),
        ("ü".encode(), ["ü"]),
        (b"\x1b", ["escape"]),
        (b"\x1b\x1b", ["escape", "escape"]),
        (b"\x1b[A\x1bOB", ["up", "down"]),
        (b"a\x1b[5~b", ["a", "page up", "b"]),
        (b"\x7f\x08\x15", ["backspace", "backspace", "escape"]),
        (b"\x1b[200~x\x1b[201~", ["x"]),  # pasted
        (b"\x1bx", []),  # Alt and a letter
        (b"\xff\xfe", []),
        (b"\x00\r\n\t", []),
    ],
)
def test_keys_are_read_and_nothing_else_is_taken_for_one(octets: bytes, keys: list[str]) -> None:
    assert [key for key in _keys(octets) if key] == keys
