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

from keepaliveD.cli.printing.columns import EACH, GROUPS, MORE, grouped
from keepaliveD.cli.printing.table import as_json, columns, for_people, render, shown
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
    return render(connections, EACH, width, colour=False).split("\n")


def test_a_connection_that_its_kernel_gives_up_shows_when_it_ends() -> None:
    ending = dataclasses.replace(SAFE, verdict=Verdict.LATE, due=Due.END, due_in=3.0, confirmed=False)
    assert "unanswered: ends in 3s" in plain(ending)[1]
    assert json.loads(as_json([ending]))["connections"][0]["due"] == "end"


@pytest.mark.parametrize(("verdict", "left"), [(Verdict.SAFE, "0s"), (Verdict.CUT, "-19s")])
def test_only_what_is_lost_has_less_than_no_time_left(verdict: Verdict, left: str) -> None:
    """A daemon knows of no packet that was sent since its last scan."""
    old = dataclasses.replace(SAFE, verdict=verdict, left=-19.0, due_in=-10.0)
    assert re.split("  +", plain(old)[1])[1] == left
    assert re.split("  +", render(grouped([old]), GROUPS, FOREVER, colour=False).split("\n")[1])[2] == left


def test_a_subflow_that_cannot_be_armed_is_marked() -> None:
    assert "off (MPTCP)" in plain(dataclasses.replace(BARE, subflow=True))[1]


def test_an_idle_time_that_is_not_known_is_a_dash_and_null() -> None:
    """As on systems that tell no ages, at the first look."""
    unknown = dataclasses.replace(BARE, verdict=Verdict.UNKNOWN, idle=math.nan, left=math.nan)
    assert render([unknown], EACH, math.inf, colour=False).splitlines()[1].split()[:3] == ["unknown", "-", "-"]
    assert json.loads(as_json([unknown]))["connections"][0]["idle"] is None


def test_a_table_says_what_comes_first_the_packet_or_the_cut() -> None:
    """One line a connection, in the order they are given."""
    assert [re.split("  +", line) for line in plain(*ALL)] == [
        [column.heading for column in EACH],
        ["bare", "58s", "4min 2s", "none", "off", *ENDS, "amandad[812]", "amanda@backup.service", "office firewall"],
        ["safe", "2min 58s", "1min 2s", "keepalive in 20s", "on", *ENDS, "-", "-", "default"],
        ["cut?", "-12s", "5min 12s", "none", "off", *ENDS, "amandad[812]", "amanda@backup.service", "office firewall"],
        ["unknown", "-", "4min 2s", "zero-window probe in 0s", "off", *ENDS, "-", "-", "office firewall"],
    ]


def test_a_program_forges_no_columns_by_its_name() -> None:
    """Anybody may call a program and a container anything."""
    one = dataclasses.replace(BARE, owner=Owner(7, "sshd[1]  amanda", "", "my box"))
    (line,) = plain(one)[1:]
    assert '"sshd[1]  amanda"[7]' in line
    assert '  container "my box"  ' in render(grouped([one]), GROUPS, FOREVER, colour=False).split("\n")[1]


def test_every_column_begins_below_its_heading() -> None:
    """However long the cells are."""
    heading, *lines = plain(*ALL)
    for name in [column.heading for column in EACH[1:]]:
        at = heading.index(f"  {name}") + 2
        assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines), name


def test_no_line_ends_in_spaces() -> None:
    """They would wrap in a narrow terminal."""
    assert all(line == line.rstrip() for line in plain(*ALL))


def test_without_connections_there_are_only_the_headings() -> None:
    """Then it is clear that the command has worked."""
    (line,) = plain()
    assert line.split("  ") == [column.heading for column in EACH]


@pytest.mark.parametrize("width", [1, 10, 80, 120, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """A wrapped table cannot be read."""
    assert all(len(line) <= width for line in plain(*ALL, width=width))


def test_what_one_needs_survives_at_80_columns() -> None:
    """The verdict, the time left, the unit and the peer; what is too long says that it is cut."""
    heading, bare, *_ = plain(*ALL, width=80)
    assert heading.split("  ")[0] == "VERDICT"
    for name in ("LEFT", "REMOTE", "UNIT", "KEEPALIVE"):
        assert name in heading
    assert "LOCAL" not in heading
    assert "[2001:db8::9]:10080" in bare
    assert "amanda@backup.service" in bare


def test_a_table_that_just_fits_is_left_whole() -> None:
    """The last column counts."""
    longest = max(map(len, plain(*ALL)))
    assert plain(*ALL, width=longest) == plain(*ALL)
    assert plain(*ALL, width=longest - 1) != plain(*ALL)


def test_a_name_that_is_too_long_is_shortened_before_a_column_is_left_out() -> None:
    container = dataclasses.replace(BARE, owner=Owner(1, "nginx", f"docker-{'0123456789abcdef' * 4}.scope"))
    heading, line = plain(container, width=120)
    assert "docker-0123456789" in line
    assert ">" in line
    assert heading.endswith("PATH")


def test_columns_that_were_asked_for_are_all_there() -> None:
    chosen = [column for column in (*EACH, *MORE) if column.name in ("local", "remote", "cookie")]
    lines = render(ALL, chosen, 40, colour=True, chosen=True).split("\n")
    assert lines[0] == "LOCAL           REMOTE               CO>"
    assert not any("\x1b" in line for line in lines)


def test_connections_of_one_unit_with_one_verdict_are_one_line() -> None:
    """With the most urgent of them; what differs says how many others there are."""
    other = dataclasses.replace(BARE, left=70.0, remote=Endpoint("2001:db8::8", 22))
    groups = grouped([BARE, other, BARE, SAFE, CUT])
    amanda, peer = "amanda@backup.service", "[2001:db8::9]:10080"
    assert [re.split("  +", line) for line in render(groups, GROUPS, FOREVER, colour=False).split("\n")[1:]] == [
        ["bare", "3", "58s", "4min 2s", "none", amanda, "off", f"{peer} +1", "office firewall"],
        ["safe", "1", "2min 58s", "1min 2s", "keepalive in 20s", "uid 1000", "on", peer, "default"],
        ["cut?", "1", "-12s", "5min 12s", "none", amanda, "off", peer, "office firewall"],
    ]


def test_a_process_or_container_that_is_called_like_a_unit_shares_no_line_with_it() -> None:
    """Nor with a process of another user: whoever looks for the unit would see somebody else's connections."""
    name = BARE.owner.unit
    owners = [(Owner(8, name), 1000), (Owner(9, name), 1001), (Owner(8, name), 1000), (Owner(1, "x", "", name), 1000)]
    posing = [dataclasses.replace(BARE, owner=owner, uid=uid) for owner, uid in owners]
    lines = render(grouped([BARE, *posing]), GROUPS, FOREVER, colour=False).split("\n")[1:]
    assert [(cells[1], cells[5]) for cells in (re.split("  +", line) for line in lines)] == [
        ("1", name),
        ("2", f"{name} (uid 1000)"),
        ("1", f"{name} (uid 1001)"),
        ("1", f"container {name}"),
    ]


def test_a_login_session_is_its_users() -> None:
    """As in the log and in status: a user may have any number of them."""
    sessions = [dataclasses.replace(BARE, owner=Owner(n, "ssh", f"session-{n}.scope")) for n in (1, 2)]
    (line,) = render(grouped(sessions), GROUPS, FOREVER, colour=False).split("\n")[1:]
    assert re.split("  +", line)[1:6:4] == ["2", "ssh (uid 1000)"]


def test_a_group_shows_at_80_columns_whose_it_is_and_how_many() -> None:
    heading, line = render(grouped([BARE]), GROUPS, 80, colour=False).split("\n")
    assert re.split("  +", heading) == ["VERDICT", "COUNT", "LEFT", "UNIT", "REMOTE", "PATH"]
    assert re.split("  +", line)[:4] == ["bare", "1", "58s", "amanda@backup.service"]


def test_only_the_verdict_is_coloured_and_only_if_asked() -> None:
    """Escapes in a pipe or a file are rubbish."""
    assert "\x1b" not in render(ALL, EACH, FOREVER, colour=False)
    _, bare, safe, cut, unknown = render(ALL, EACH, FOREVER, colour=True).split("\n")
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
    lines = re.sub("\x1b\\[[0-9]*m", "", made).split("\n")
    assert (max(map(len, lines)) <= 40) == terminal


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.usefixtures("narrow")
def test_which_columns_a_terminal_leaves_out_is_said_once_below_the_table() -> None:
    *rows, left_out, how = shown(ALL, EACH, option="--wide").split("\n")
    assert rows == plain(*ALL, width=80)
    assert f"{left_out} {how.lstrip()}" == (
        "columns left out: IDLE, NEXT PACKET, LOCAL, PROCESS, PATH; a wider terminal shows them, and so does --wide"
    )
    assert len(left_out) <= 80


@pytest.mark.usefixtures("narrow")
def test_where_no_column_is_left_out_nothing_is_said() -> None:
    """Neither of a table that fits, nor of one that is not cut, nor of columns that were chosen."""
    assert len(shown(ALL, EACH[:3]).split("\n")) == len(ALL) + 1
    assert shown(ALL, EACH, whole=True) == render(ALL, EACH, FOREVER, colour=False)
    assert shown(ALL, EACH, chosen=True) == render(ALL, EACH, 80, colour=False, chosen=True)


def test_in_a_pipe_a_table_has_all_columns_and_nothing_below_it() -> None:
    assert shown(ALL, EACH, option="--wide") == render(ALL, EACH, FOREVER, colour=False)


@pytest.mark.usefixtures("narrow")
def test_any_table_says_which_columns_it_leaves_out() -> None:
    made = columns(("A", "B", "C"), [("a" * 30, "b" * 30, "c" * 30)], (2, 0, 1), option="--json").split("\n")
    assert made[1:] == [
        f"{'a' * 30}  {'c' * 30}",
        "column left out: B; a wider terminal shows it, and so does --json",
    ]
    assert columns(("A", "B"), [("a" * 50, "b" * 50)], (1, 0)).split("\n")[2:] == [
        "column left out: B; a wider terminal shows it"
    ]


@given(st.lists(CONNECTIONS, max_size=4), st.integers(1, 200))
def test_any_connections_make_a_table_of_that_many_lines(connections: list[Connection], width: int) -> None:
    """A process's name cannot add one, nor move the cursor."""
    lines = plain(*connections, width=width)
    assert len(lines) == len(connections) + 1
    assert all(line.isprintable() and len(line) <= width for line in lines)


def refuse(constant: str) -> None:
    pytest.fail(f"{constant} is no JSON")


@given(st.lists(CONNECTIONS, max_size=4))
def test_the_json_of_connections_can_be_parsed(connections: list[Connection]) -> None:
    """NaN and Infinity are not, though Python writes them."""
    made = json.loads(as_json(connections), parse_constant=refuse)["connections"]
    assert len(made) == len(connections)


def test_json_has_null_for_what_is_never_or_unknown() -> None:
    """And numbers for all else; seconds, to the millisecond."""
    bare, safe, cut, unknown = json.loads(as_json(ALL))["connections"]
    assert (bare["due_in"], bare["keepidle"], bare["left"]) == (None, None, 58.0)
    assert (unknown["left"], unknown["timeout"]) == (None, None)
    assert (safe["due_in"], safe["idle"]) == (20.25, 61.96)
    assert (cut["left"], cut["confirmed"]) == (-12.0, False)


def test_json_has_every_fact_under_its_own_name() -> None:
    """A program reads words, not numbers of ours; a cookie keeps all its 64 bits."""
    (made,) = json.loads(as_json([BARE]))["connections"]
    assert made.keys() == {field.name for field in dataclasses.fields(Connection)}
    assert (made["verdict"], made["due"], made["keepalive"]) == ("bare", "nothing", "off")
    assert made["local"] == {"address": "10.1.2.3", "port": 40000}
    assert made["remote"] == {"address": "2001:db8::9", "port": 10080}
    assert made["owner"] == {"pid": 812, "process": "amandad", "unit": "amanda@backup.service", "container": ""}
    assert made["origin"] == {"source": "configured", "detail": "/etc/tcp-keepalived/config.toml"}
    assert made["cookie"] == 2**64 - 1


def test_json_of_nothing_is_an_empty_array() -> None:
    """Not nothing at all."""
    assert json.loads(as_json([])) == {"version": 1, "connections": []}
