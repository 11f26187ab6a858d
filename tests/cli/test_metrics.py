"""keepalivectl metrics: the text format of Prometheus, and a bounded number of series."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli import exposition, metrics
from keepaliveD.cli.ctl import main
from keepaliveD.cli.exposition import MOST, Metric
from keepaliveD.model.connections import Connection, Owner
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.rules import Watching
from keepaliveD.model.snapshot import Setting
from keepaliveD.model.sockets import TcpState, Timer
from keepaliveD.platforms.base import Opener, Platform, Session
from keepaliveD.platforms.requests import Steps, directly
from keepaliveD.policy.activity import nothing_known
from keepaliveD.policy.connections import by_urgency
from keepaliveD.policy.judge import Judgement, judge
from tests.support import samples
from tests.support.fakes import FakeArmer, FakeAtConnect, FakeOwners, FakeTuner, FakeWatcher
from tests.support.tables import Socket, idle, table

SERIES = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
SOCKETS: list[Socket] = [
    idle(10.0, cookie=1),
    idle(400.0, cookie=2),
    idle(1.0, cookie=3, timer=Timer.KEEPALIVE, expires=100.0),
    idle(5.0, cookie=4, state=TcpState.CLOSE_WAIT),
]
DAEMON = {"running": 3600.5, "problems": ["one"], "arming": [{"result": "armed", "count": 3}]}


def judged(*sockets: Socket, paths: int = 1) -> Judgement:
    origin = Origin(Source.CONFIGURED, "f")
    return judge(
        table(1000.0, *sockets), nothing_known(), [NetworkPath(f"p{n}", 300.0, origin) for n in range(paths)], []
    )


def parsed(text: str) -> dict[tuple[str, str], str]:
    """Every series with its value; fails where the text is not what Prometheus reads, or a series is there twice."""
    series: dict[tuple[str, str], str] = {}
    declared = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            declared = line.split()[2]
        elif not line.startswith(f"# TYPE {declared} "):
            found = SERIES.fullmatch(line)
            assert found, line
            assert found[1].startswith(declared)
            assert (found[1], found[2] or "") not in series, line
            series[found[1], found[2] or ""] = found[3]
    return series


def of(judgement: Judgement) -> dict[tuple[str, str], str]:
    at_risk = by_urgency(judgement, at_risk_only=True)
    return parsed(exposition.text(exposition.of_scan(judgement, at_risk, 0.0125)))


def test_what_a_scan_shows() -> None:
    series = of(judged(*SOCKETS))
    assert [series["tcp_keepalive_connections", f'verdict="{verdict}"'] for verdict in ("bare", "cut", "safe")] == [
        "1",
        "1",
        "1",
    ]
    assert series["tcp_keepalive_path_connections", 'path="p0",verdict="bare"'] == "1"
    assert series["tcp_keepalive_unit_connections_at_risk", 'unit="uid 1000"'] == "2"
    assert series["tcp_keepalive_sockets", 'keepalive="on"'] == "1"
    assert series["tcp_keepalive_left_seconds_bucket", 'le="0"'] == "1"
    assert series["tcp_keepalive_left_seconds_bucket", 'le="300"'] == "2"
    assert series["tcp_keepalive_left_seconds_bucket", 'le="+Inf"'] == series["tcp_keepalive_left_seconds_count", ""]
    assert series["tcp_keepalive_scan_duration_seconds", ""] == "0.0125"
    assert series["tcp_keepalive_scan_complete", ""] == "1"


def test_without_connections_there_are_zeros() -> None:
    """A series that goes away raises no alert."""
    series = of(judged())
    assert series["tcp_keepalive_connections", 'verdict="bare"'] == "0"
    assert series["tcp_keepalive_left_seconds_sum", ""] == "0"


def test_units_and_paths_are_bounded() -> None:
    """10,000 units are as many series as 20."""
    judgement = judged(*SOCKETS, paths=100)
    units = [unit_of(f"{number}.service") for number in range(1000)] + [unit_of("other")] * 2
    series = parsed(exposition.text(exposition.of_scan(judgement, units, 0.0)))
    assert sum(name == "tcp_keepalive_unit_connections_at_risk" for name, _ in series) <= MOST + 1
    assert sum(name == "tcp_keepalive_path_connections" for name, _ in series) <= 5 * (MOST + 1)
    assert series["tcp_keepalive_unit_connections_at_risk", 'unit="other"'] == str(1000 - (MOST - 1) + 2)


def unit_of(name: str) -> Connection:
    return dataclasses.replace(samples.BARE, owner=Owner(1, "p", name))


def test_settings_and_the_daemon() -> None:
    settings = [Setting("net.ipv4.tcp_keepalive_time", 180, 7200), Setting("gone", 1)]
    series = parsed(exposition.text([*exposition.of_settings(settings), *exposition.of_daemon(DAEMON)]))
    assert series["tcp_keepalive_setting", 'setting="net.ipv4.tcp_keepalive_time"'] == "7200"
    assert series["tcp_keepalive_setting_wanted", 'setting="gone"'] == "1"
    assert ("tcp_keepalive_setting", 'setting="gone"') not in series
    assert series["tcp_keepalive_daemon_up", ""] == "1"
    assert series["tcp_keepalive_daemon_running_seconds", ""] == "3600.5"
    assert series["tcp_keepalive_daemon_armings_total", 'result="armed"'] == "3"
    assert parsed(exposition.text(exposition.of_daemon(None))) == {("tcp_keepalive_daemon_up", ""): "0"}


@given(st.text())
def test_no_name_forges_a_series(name: str) -> None:
    metric = Metric("connections", "gauge", "Help.", [("", {"unit": name}, 1)])
    (line,) = re.findall(r"^tcp.*\Z", exposition.text([metric]).removesuffix("\n"), re.MULTILINE | re.DOTALL)
    found = SERIES.fullmatch(line)
    assert found
    assert found[3] == "1"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    platform = Platform(
        "fake",
        FakeTuner(),
        FakeAtConnect(),
        lambda _: Session(FakeWatcher(lambda _: SOCKETS), FakeOwners(), FakeArmer()),
    )

    @contextlib.contextmanager
    def here(opener: Opener, watching: Watching) -> Iterator[Callable[[Steps[Any]], Any]]:
        session = opener(watching)
        yield lambda steps: directly(steps, session)

    monkeypatch.setattr(metrics, "detect", lambda **_: platform)
    monkeypatch.setattr(metrics, "in_worker", here)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "config.toml").touch()
    return tmp_path


def test_the_command_prints_all_of_it(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--config", str(desk / "config.toml")]) == 0
    series = parsed(capsys.readouterr().out)
    assert series["tcp_keepalive_unit_connections_at_risk", 'unit="backup.service"'] == "2"
    assert series["tcp_keepalive_daemon_up", ""] == "0"


def test_a_file_is_written_whole_and_for_everybody_to_read(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """node_exporter runs as a user of its own."""
    file = desk / "keepalive.prom"
    assert main(["metrics", "--output", str(file), "--config", str(desk / "config.toml")]) == 0
    assert capsys.readouterr() == ("", "")
    assert parsed(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o644
    assert sorted(each.name for each in desk.iterdir()) == ["config.toml", "keepalive.prom"]


def test_a_file_that_cannot_be_written_is_one_line_and_status_74(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = desk / "missing/keepalive.prom"
    assert main(["metrics", "--output", str(file), "--config", str(desk / "config.toml")]) == 74
    assert capsys.readouterr() == ("", f"keepalivectl: {file}: cannot be written: No such file or directory\n")
