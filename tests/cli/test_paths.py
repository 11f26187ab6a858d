"""`keepalivectl paths` and `presets`: where an idle timeout comes from, and what depends on it."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from pathlib import Path

import pytest

from keepaliveD.cli import ctl, paths
from keepaliveD.cli.printing import table
from keepaliveD.config import load
from keepaliveD.config.catalogue import catalogue
from keepaliveD.daemon.control import interface
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import Exit
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.routes import Route, SeenByRoute
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Timer
from keepaliveD.platforms.base import Platform, Session
from tests.support.fakes import FakeArmer, FakeAtConnect, FakeOwners, FakeTuner, FakeWatcher, here
from tests.support.tables import Socket, idle

CONFIGURATION = """
    [[path]]
    name = "office"
    networks = ["10.0.0.0/8"]
    timeout = "300s"
    measured = 2026-11-28
    [[path]]
    name = "proxy"
    networks = ["198.51.100.0/24"]
    preset = "aws-alb"
    [[path]]
    name = "cable"
    interface = "eth7"
    timeout = "infinity"
"""
ON: Socket = {"timer": Timer.KEEPALIVE, "expires": 50.0}
SOCKETS: list[Socket] = [
    idle(10.0, cookie=1, remote="10.0.0.1"),
    idle(10.0, cookie=2, remote="10.0.0.2") | ON,
    idle(400.0, cookie=3, remote="10.0.0.3"),
    idle(10.0, cookie=4, remote="198.51.100.1") | ON,
    idle(10.0, cookie=5, remote="203.0.113.1") | ON,
]


@dataclasses.dataclass
class Desk:
    """Where a person sits, on a host in Google Compute Engine."""

    file: Path
    capsys: pytest.CaptureFixture[str]

    def types(self, *words: str) -> str:
        assert ctl.main([*words, "--config", str(self.file), "--state-dir", str(self.file.parent)]) == Exit.OK
        return self.capsys.readouterr().out


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    def open_session(_: Watching) -> Session:
        return Session(FakeWatcher(lambda _: SOCKETS), FakeOwners(), FakeArmer())

    platform = Platform("fake", FakeTuner(), FakeAtConnect(), open_session, cloud=lambda: "Google Compute Engine")
    monkeypatch.setattr(paths, "detect", lambda *_: platform)
    monkeypatch.setattr(paths, "in_worker", here)
    (tmp_path / "config.toml").write_text(CONFIGURATION, encoding="utf-8")
    return Desk(tmp_path / "config.toml", capsys)


def test_each_path_is_shown_with_the_origin_of_its_timeout_and_its_connections(desk: Desk) -> None:
    heading, *rows = [line.split() for line in desk.types("paths").splitlines()]
    verdicts = ["CUT", "BARE", "LATE", "UNKNOWN", "SAFE"]
    assert heading == ["PATH", "TIMEOUT", "COUNTS", "KEEPALIVE", *verdicts, "DEATHS", "SAVES", "ORIGIN"]
    assert [" ".join(row) for row in rows] == [
        "default 10min packets <= 8min 52s 0 0 0 0 1 - - guess: Google Compute Engine",
        "office 5min packets <= 4min 26s 1 1 0 0 1 - - measured 2026-11-28",
        "proxy 1min data no help 0 1 0 0 0 - - preset aws-alb",
        f"cable never packets not needed 0 0 0 0 0 - - configured in {desk.file}",
    ]


STATUS = {
    "pid": 812,
    "netns": 4026532000,
    "scan": {"ago": 3.0, "took": 0.1, "interval": 15.0},
    "unwatched": {"forbidden": 1, "surplus": 0, "hidden": False, "silent": [], "crowded": [], "incomplete": []},
}
ADVICE = 'path "office": idle timeout 5min is probably too long; write timeout = "2min" into its [[path]]'
PATHS = (
    NetworkPath("default", 120.0, Origin(Source.EVIDENCE, "3 connections died in silences of 2min or more")),
    NetworkPath("office", FOREVER, Origin(Source.CONFIGURED, "/etc/x"), (ipaddress.ip_network("fd00::/8"),), (22,)),
)


def told(path: NetworkPath, **seen: object) -> dict[str, object]:
    """What a daemon answers of a path, all of whose connections are late."""
    connections = {verdict.label: 7 * (verdict is Verdict.LATE) for verdict in Verdict}
    return {
        **interface.path(path),
        "connections": connections,
        "ended": 0,
        "saved": 0,
        "advice": "",
        "routes": [],
        **seen,
    }


def test_beside_a_daemon_its_view_is_shown_and_nothing_is_scanned(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has watched for longer: more of its verdicts are certain, and it has seen deaths, saves and evidence."""
    listed = {"paths": [told(PATHS[0]), told(PATHS[1], ended=3, saved=12, advice=ADVICE)]}
    monkeypatch.setattr(paths, "ask_daemon", lambda _, method: STATUS if method == "Status" else listed)
    monkeypatch.delattr(paths, "in_worker")
    assert ctl.main(["paths", "--state-dir", str(desk.file.parent)]) == Exit.OK
    said = capsys.readouterr()
    default, office, last = (" ".join(line.split()) for line in said.out.splitlines()[1:])
    assert default == "default 2min packets measure first 0 0 7 0 0 0 0 evidence: " + PATHS[0].origin.detail
    assert office == "office never packets not needed 0 0 7 0 0 3 12 configured in /etc/x"
    assert last == f"advice: {ADVICE}"
    warning, note = said.err.splitlines()
    assert warning.startswith("warning: ")
    assert note == "note: these are the paths as of the last scan by tcp-keepalived (process 812), 3s ago"
    assert ctl.main(["paths", "--json", "--state-dir", str(desk.file.parent)]) == Exit.OK
    shortened, other = json.loads(capsys.readouterr().out)
    assert (shortened["timeout"], shortened["keepalive_within"]) == (120.0, None)
    assert shortened["origin"]["source"] == "evidence"
    assert (other["networks"], other["ports"], other["connections"]["late"]) == (["fd00::/8"], [22], 7)
    assert (other["ended"], other["saved"], other["advice"]) == (3, 12, ADVICE)


def test_80_columns_show_how_many_connections_died(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What counts, and where the timeout is from, is left out; in 120 columns the latter is cut."""
    listed = {"paths": [told(PATHS[0]), told(PATHS[1], ended=3, saved=12)]}
    monkeypatch.setattr(paths, "ask_daemon", lambda _, method: STATUS if method == "Status" else listed)
    heads = {}
    for width in (80, 120):
        monkeypatch.setattr(table, "terminal_width", lambda width=width: width)
        assert ctl.main(["paths", "--state-dir", str(desk.file.parent)]) == Exit.OK
        head, *rows = capsys.readouterr().out.splitlines()
        assert max(map(len, (head, *rows))) <= width
        heads[width] = head.split()
        assert rows[1][head.index("DEATHS") :].split()[:2] == ["3", "12"]
    assert heads[80][-2:] == ["DEATHS", "SAVES"]
    assert heads[120][-1] == "ORIGIN"


def test_what_was_seen_by_each_of_several_uplinks_is_below_the_paths(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_radio = ADVICE.replace("office", "default")
    routes = [
        interface.by_route(SeenByRoute(Route("eth0", "192.0.2.1"), 312, 14400.0, 0, 0.0), ""),
        interface.by_route(SeenByRoute(Route("tun0"), 25, 300.0, 4, 360.0), by_radio),
    ]
    listed = {"paths": [told(PATHS[0], routes=routes), told(PATHS[1], advice=ADVICE)]}
    monkeypatch.setattr(paths, "ask_daemon", lambda _, method: STATUS if method == "Status" else listed)
    assert ctl.main(["paths", "--state-dir", str(desk.file.parent)]) == Exit.OK
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[3:]] == [
        "",
        "PATH INTERFACE NEXT HOP SURVIVED LONGEST FORGOTTEN SHORTEST",
        "default eth0 192.0.2.1 312 4h 0 -",
        "default tun0 - 25 5min 4 6min",
        f"advice: {ADVICE}",
        f"advice: {by_radio}",
    ]
    assert ctl.main(["paths", "--json", "--state-dir", str(desk.file.parent)]) == Exit.OK
    assert json.loads(capsys.readouterr().out)[0]["routes"] == routes


def test_without_a_daemon_it_says_so_and_scans(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(desk.file.parent))
    monkeypatch.setattr(paths, "load", lambda _: load(desk.file))
    assert ctl.main(["paths", "--state-dir", str(desk.file.parent)]) == Exit.OK
    said = capsys.readouterr()
    row = " ".join(said.out.splitlines()[2].split())
    assert row == "office 5min packets <= 4min 26s 1 1 0 0 1 - - measured 2026-11-28"
    assert said.err == "note: no tcp-keepalived runs here; this list is a single scan by keepalivectl (fake engine)\n"


def test_a_daemon_of_another_version_is_not_believed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    older = told(PATHS[0])
    del older["connections"]
    monkeypatch.setattr(paths, "ask_daemon", lambda _, method: STATUS if method == "Status" else {"paths": [older]})
    monkeypatch.setattr(paths, "load", lambda _: load(desk.file))
    assert ctl.main(["paths", "--state-dir", str(desk.file.parent)]) == Exit.OK
    said = capsys.readouterr()
    assert "measured 2026-11-28" in said.out
    assert "the daemon is of another version: 'connections'; this list is a single scan" in said.err


def test_with_a_configuration_of_its_own_no_daemon_is_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(paths, "ask_daemon")
    assert "measured 2026-11-28" in desk.types("paths")


def test_json_of_paths_has_numbers_and_words_for_programs(desk: Desk) -> None:
    default, office, proxy, cable = json.loads(desk.types("paths", "--json"))
    assert default["origin"] == {"source": "platform", "detail": "Google Compute Engine"}
    assert (office["timeout"], office["keepalive_within"], office["networks"]) == (300.0, 266, ["10.0.0.0/8"])
    assert office["connections"] == {"cut": 1, "bare": 1, "late": 0, "unknown": 0, "safe": 1}
    assert (proxy["counts"], proxy["keepalive_within"]) == ("data", None)
    assert (cable["timeout"], cable["interface"]) == (None, "eth7")


def test_the_catalogue_is_listed_with_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["presets"]) == Exit.OK
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["PRESET", "TIMEOUT", "COUNTS", "THEN", "PRODUCT", "SOURCE"]
    for row, (name, preset) in zip(rows, catalogue().items(), strict=True):
        assert row.startswith(f"{name} ")
        assert row.endswith(preset.source)
    (clavister,) = [row for row in rows if row.startswith("clavister ")]
    assert "3d 49min 4s" in clavister


def test_json_of_the_catalogue_has_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["presets", "--json"]) == Exit.OK
    listed = {each["preset"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed.keys() == catalogue().keys()
    assert (listed["cilium"]["timeout"], listed["aws-alb"]["counts"]) == (8000.0, "data")
