"""Connections as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli import table
from keepaliveD.cli.table import as_json, for_people, render
from keepaliveD.model.connections import Connection, Due, Endpoint, Owner, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Shown
from tests.support import samples

BARE = dataclasses.replace(samples.BARE, cookie=2**64 - 1, remote=Endpoint("2001:db8::9", 10080))
SAFE = dataclasses.replace(
    BARE,
    verdict=Verdict.SAFE,
    due=Due.KEEPALIVE,
    due_in=20.25,
    keepalive=Shown.ON,
    left=178.0,
    idle=61.96,
    path="default",
    owner=Owner(),
)
CUT = dataclasses.replace(BARE, verdict=Verdict.CUT, left=-12.0, idle=312.0, confirmed=False)
UNKNOWN = dataclasses.replace(
    BARE, verdict=Verdict.UNKNOWN, left=math.nan, timeout=math.nan, due=Due.ZERO_WINDOW, due_in=-0.5, owner=Owner()
)
ENDS = ("10.1.2.3:40000", "[2001:db8::9]:10080")
ALL = [BARE, SAFE, CUT, UNKNOWN]
CONNECTIONS = st.builds(
    dataclasses.replace,
    st.sampled_from(ALL),
    verdict=st.sampled_from(Verdict),
    due=st.sampled_from(Due),
    due_in=st.floats(-10, 1e6) | st.just(FOREVER),
    idle=st.floats(0, 1e6),
    left=st.floats(-1e6, 1e6) | st.sampled_from([FOREVER, math.nan]),
    keepidle=st.floats(0, 1e6) | st.just(math.nan),
    timeout=st.floats(0, 1e6) | st.sampled_from([FOREVER, math.nan]),
    confirmed=st.booleans(),
    owner=st.builds(Owner, st.integers(0, 9), st.text(), st.just("")),
)


def plain(*connections: Connection, width: float = FOREVER) -> list[str]:
    return render(connections, width, colour=False).split("\n")


def test_a_connection_that_its_kernel_gives_up_shows_when_it_ends() -> None:
    ending = dataclasses.replace(SAFE, verdict=Verdict.LATE, due=Due.END, due_in=3.0, confirmed=False)
    assert "none: ends in 3s" in plain(ending)[1]
    assert json.loads(as_json([ending]))[0]["due"] == "end"


def test_a_subflow_that_cannot_be_armed_is_marked() -> None:
    assert "off (MPTCP)" in plain(dataclasses.replace(BARE, subflow=True))[1]


def test_an_idle_time_that_is_not_known_is_a_dash_and_null() -> None:
    """As on systems that tell no ages, at the first look."""
    unknown = dataclasses.replace(BARE, verdict=Verdict.UNKNOWN, idle=math.nan, left=math.nan)
    assert render([unknown], math.inf, colour=False).splitlines()[1].split()[:3] == ["unknown", "-", "-"]
    assert json.loads(as_json([unknown]))[0]["idle"] is None


def test_a_table_says_what_comes_first_the_packet_or_the_cut() -> None:
    """One line a connection, in the order they are given."""
    assert [re.split("  +", line) for line in plain(*ALL)] == [
        list(table.HEADINGS),
        ["bare", "58s", "4min 2s", "none", "off", *ENDS, "amandad[812]", "amanda@backup.service", "office firewall"],
        ["safe", "2min 58s", "1min 2s", "keepalive in 20s", "on", *ENDS, "-", "-", "default"],
        ["cut?", "-12s", "5min 12s", "none", "off", *ENDS, "amandad[812]", "amanda@backup.service", "office firewall"],
        ["unknown", "-", "4min 2s", "zero-window probe in 0s", "off", *ENDS, "-", "-", "office firewall"],
    ]


def test_every_column_begins_below_its_heading() -> None:
    """However long the cells are."""
    heading, *lines = plain(*ALL)
    for name in table.HEADINGS[1:]:
        at = heading.index(f"  {name}") + 2
        assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines), name


def test_no_line_ends_in_spaces() -> None:
    """They would wrap in a narrow terminal."""
    assert all(line == line.rstrip() for line in plain(*ALL))


def test_without_connections_there_are_only_the_headings() -> None:
    """Then it is clear that the command has worked."""
    (line,) = plain()
    assert line.split("  ") == list(table.HEADINGS)


@pytest.mark.parametrize("width", [1, 10, 80, 120])
def test_a_line_is_cut_at_the_terminals_width_and_says_so(width: int) -> None:
    """A wrapped table cannot be read."""
    full = plain(*ALL)
    for line, whole in zip(plain(*ALL, width=width), full, strict=True):
        assert line == (whole if len(whole) <= width else whole[: width - 1] + ">")


def test_a_line_that_just_fits_is_left_whole() -> None:
    """The last column counts."""
    longest = max(map(len, plain(*ALL)))
    assert plain(*ALL, width=longest) == plain(*ALL)


def test_only_the_verdict_is_coloured_and_only_if_asked() -> None:
    """Escapes in a pipe or a file are rubbish."""
    assert "\x1b" not in render(ALL, FOREVER, colour=False)
    _, bare, safe, cut, unknown = render(ALL, FOREVER, colour=True).split("\n")
    assert bare.startswith("\x1b[33mbare\x1b[0m ")
    assert safe.startswith("\x1b[32msafe\x1b[0m ")
    assert cut.startswith("\x1b[31mcut?\x1b[0m ")
    assert "\x1b" not in unknown
    uncoloured = [line.replace("\x1b[0m", "") for line in (bare, safe, cut)]
    assert [line[5:] for line in uncoloured] == plain(*ALL)[1:4]


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_colour_and_width_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, no_color: bool, coloured: bool
) -> None:
    """And NO_COLOR (no-color.org) is respected."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "")
    made = for_people(ALL)
    assert ("\x1b" in made) == coloured
    lines = made.replace("\x1b[0m", "").split("\n")
    assert (len(lines[0]) == 40) == terminal


@given(st.lists(CONNECTIONS, max_size=4), st.integers(1, 200))
def test_any_connections_make_a_table_of_that_many_lines(connections: list[Connection], width: int) -> None:
    """A process's name cannot add one, nor move the cursor."""
    lines = plain(*connections, width=width)
    assert len(lines) == len(connections) + 1
    assert all(line.isprintable() and len(line) <= width for line in lines)


def refuse(constant: str) -> None:
    pytest.fail(f"{constant} is no JSON")


@given(st.lists(CONNECTIONS, max_size=4))
def test_json_is_json(connections: list[Connection]) -> None:
    """NaN and Infinity are not, though Python writes them."""
    made = json.loads(as_json(connections), parse_constant=refuse)
    assert len(made) == len(connections)


def test_json_has_null_for_what_is_never_or_unknown() -> None:
    """And numbers for all else; seconds, to the millisecond."""
    bare, safe, cut, unknown = json.loads(as_json(ALL))
    assert (bare["due_in"], bare["keepidle"], bare["left"]) == (None, None, 58.0)
    assert (unknown["left"], unknown["timeout"]) == (None, None)
    assert (safe["due_in"], safe["idle"]) == (20.25, 61.96)
    assert (cut["left"], cut["confirmed"]) == (-12.0, False)


def test_json_has_every_fact_under_its_own_name() -> None:
    """A program reads words, not numbers of ours; a cookie keeps all its 64 bits."""
    (made,) = json.loads(as_json([BARE]))
    assert made.keys() == {field.name for field in dataclasses.fields(Connection)}
    assert (made["verdict"], made["due"], made["keepalive"]) == ("bare", "nothing", "off")
    assert made["local"] == {"address": "10.1.2.3", "port": 40000}
    assert made["remote"] == {"address": "2001:db8::9", "port": 10080}
    assert made["owner"] == {"pid": 812, "process": "amandad", "unit": "amanda@backup.service", "container": ""}
    assert made["origin"] == {"source": "configured", "detail": "/etc/tcp-keepalived/config.toml"}
    assert made["cookie"] == 2**64 - 1


def test_json_of_nothing_is_an_empty_array() -> None:
    """Not nothing at all."""
    assert json.loads(as_json([])) == []
