"""keepalivectl metrics: the text format of Prometheus, with a daemon and without one."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli.ctl import main
from keepaliveD.cli.metrics import exposition, metrics
from keepaliveD.cli.status import without_daemon
from keepaliveD.model.errors import NotPermitted
from keepaliveD.model.metric import Metric, Sample
from keepaliveD.model.sockets import Timer
from keepaliveD.platforms.base import Platform, Session
from tests.daemon.control.test_metrics import SNAPSHOT
from tests.support.fakes import FakeArmer, FakeAtConnect, FakeOwners, FakeTuner, FakeWatcher, here
from tests.support.host import NOW, FakeHost, serving
from tests.support.tables import Socket, idle

SERIES = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
SOCKETS: list[Socket] = [idle(10.0, cookie=1), idle(1.0, cookie=3, timer=Timer.KEEPALIVE, expires=100.0)]


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


@given(st.text(st.characters()))
def test_no_name_forges_a_series(name: str) -> None:
    metric = Metric("connections", "gauge", "Help.", [Sample(1, {"unit": name})])
    (line,) = re.findall(r"^conn.*\Z", exposition.text([metric]).removesuffix("\n"), re.MULTILINE | re.DOTALL)
    found = SERIES.fullmatch(line)
    assert found
    assert found[3] == "1"
    assert line.encode("utf-8")


def answering(directory: Path) -> AbstractContextManager[None]:
    """A daemon that answers there."""
    return serving(directory, FakeHost(SNAPSHOT), lambda: NOW)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    watcher = FakeWatcher(lambda _: SOCKETS)
    session = Session(watcher, FakeOwners(), FakeArmer())
    platform = Platform("fake", FakeTuner(), FakeAtConnect(), lambda _: session)

    monkeypatch.setattr(without_daemon, "detect", lambda **_: platform)
    monkeypatch.setattr(without_daemon, "in_worker", here)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "config.toml").touch()
    return tmp_path


def test_a_daemon_is_asked(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(desk):
        assert main(["metrics"]) == 0
    series = parsed(capsys.readouterr().out)
    assert series["tcp_keepalive_up", ""] == "1"
    assert series["tcp_keepalive_connections", 'path="office",verdict="safe",keepalive="on"'] == "40"
    assert series["tcp_keepalive_left_seconds_bucket", 'le="+Inf"'] == "2"
    assert series["tcp_keepalive_scan_duration_seconds_sum", ""] == "4.25"


def test_without_a_daemon_one_scan_is_told(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--config", str(desk / "config.toml")]) == 0
    series = parsed(capsys.readouterr().out)
    assert series["tcp_keepalive_up", ""] == "0"
    assert series["tcp_keepalive_unit_connections_at_risk", 'unit="backup.service",verdict="bare"'] == "1"
    assert series["tcp_keepalive_connections", 'path="default",verdict="safe",keepalive="on"'] == "1"
    assert series["tcp_keepalive_setting", 'setting="time"'] == "7200"


def test_a_daemon_that_may_not_be_asked_is_not_taken_for_none(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotPermitted("control: Permission denied; run as root")

    monkeypatch.setattr(metrics, "ask", refuse)
    assert main(["metrics", "--config", str(desk / "config.toml")]) == 77
    assert capsys.readouterr() == ("", "keepalivectl: control: Permission denied; run as root\n")


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


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("here", "'here' is no place to listen; write ADDRESS:PORT such as 127.0.0.1:9272, the path of a Unix socket"),
        ("9272", "'' is not an address; write 127.0.0.1:9272 or [::1]:9272"),
        ("127.0.0.1:0", "'127.0.0.1:0' is no place to listen; write ADDRESS:PORT such"),
        ("127.0.0.1:99999", "is no place to listen"),
        ("localhost:9272", "'localhost' is not an address; write 127.0.0.1:9272 or [::1]:9272"),
        ("0.0.0.0:9272", "0.0.0.0 is not a loopback address; for other hosts see docs/monitoring.md"),
        ("[::]:9272", ":: is not a loopback address"),
        ("192.0.2.1:9272", "192.0.2.1 is not a loopback address"),
    ],
)
def test_it_listens_for_this_host_alone(where: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["metrics", "--listen", where])
    assert left.value.code == 64
    assert said in capsys.readouterr().err


def test_without_a_socket_unit_it_says_what_to_start(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del desk
    assert main(["metrics", "--listen", "systemd"]) == 64
    assert "no socket was handed over; start tcp-keepalived-metrics.socket instead" in capsys.readouterr().err


def test_what_listens_reads_no_configuration(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--listen", "127.0.0.1:9272", "--config", str(desk / "config.toml")]) == 64
    assert "--config: only the daemon is asked with --listen; leave it out" in capsys.readouterr().err
