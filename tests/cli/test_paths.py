"""`keepalivectl paths` and `presets`: where an idle timeout comes from, and what depends on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from keepaliveD.cli import ctl, paths
from keepaliveD.config.catalogue import catalogue
from keepaliveD.model.errors import Exit
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
    heading, *rows = [line.split(maxsplit=12) for line in desk.types("paths").splitlines()]
    verdicts = ["CUT", "BARE", "LATE", "UNKNOWN", "SAFE"]
    assert heading == ["PATH", "TIMEOUT", "COUNTS", "KEEPALIVE", *verdicts, "DEATHS", "SAVES", "ORIGIN"]
    assert [" ".join(row) for row in rows] == [
        "default 10min packets <= 532s 0 0 0 0 1 - - guess: Google Compute Engine",
        "office 5min packets <= 266s 1 1 0 0 1 - - measured 2026-11-28",
        "proxy 1min data no help 0 1 0 0 0 - - preset aws-alb",
        f"cable never packets not needed 0 0 0 0 0 - - configured in {desk.file}",
    ]


def test_a_guess_that_the_daemon_has_shortened_is_shown_with_its_evidence_and_no_keepalive(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout that somebody wrote stays, whatever a daemon says that has another configuration."""
    evidence = {"timeout": 120.0, "source": "evidence", "detail": "3 connections died in silences of 2min or more"}
    listed = {"paths": [{"name": name, **evidence} for name in ("default", "office")]}
    monkeypatch.setattr(paths, "ask_daemon", lambda *_: listed)
    default, office, *_ = (" ".join(line.split()) for line in desk.types("paths").splitlines()[1:])
    assert default.startswith("default 2min packets measure first 0 0 0 0 1 - - evidence: 3 connections died")
    assert office.endswith("measured 2026-11-28")
    (shown, *_) = json.loads(desk.types("paths", "--json"))
    assert (shown["timeout"], shown["keepalive_within"], shown["origin"]["source"]) == (120.0, None, "evidence")


def test_what_a_daemon_has_seen_of_a_path_is_shown_with_its_advice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon may have another configuration: a path that it does not have is not known to it."""
    advice = 'path "office": idle timeout 5min is probably too long; write timeout = "2min" into its [[path]]'
    office = {"name": "office", "source": "measured", "ended": 3, "saved": 12, "advice": advice}
    default = {"name": "default", "source": "platform", "ended": 0, "saved": 0, "advice": ""}
    monkeypatch.setattr(paths, "ask_daemon", lambda *_: {"paths": [default, office]})
    *rows, last = desk.types("paths").splitlines()[1:]
    default_row, office_row, proxy_row, _ = (" ".join(row.split()) for row in rows)
    assert default_row.endswith(" 0 0 guess: Google Compute Engine")
    assert office_row.endswith(" 3 12 measured 2026-11-28")
    assert proxy_row.endswith(" - - preset aws-alb")
    assert last == f"advice: {advice}"
    default, office, proxy, _ = json.loads(desk.types("paths", "--json"))
    assert (office["ended"], office["saved"], office["advice"]) == (3, 12, advice)
    assert (default["ended"], default["saved"], default["advice"]) == (0, 0, "")
    assert (proxy["ended"], proxy["saved"], proxy["advice"]) == (None, None, None)


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
