"""What is shipped for Prometheus and Grafana: promtool accepts it, and all that it names is there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.cli.metrics import exposition
from keepaliveD.daemon.control.metrics import of_daemon
from keepaliveD.model.causes import Cause
from keepaliveD.model.results import ArmingResult
from tests.daemon.control.test_metrics import SNAPSHOT

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = PACKAGING / "prometheus/tcp-keepalived.rules.yml"
RULES_TEST = PACKAGING / "prometheus/tcp-keepalived.test.yml"
DASHBOARD = PACKAGING / "grafana/tcp-keepalived.json"
UNIT_FILES = sorted((PACKAGING.parent / "systemd").glob("tcp-keepalived-metrics.*"))
METRIC = re.compile(r"\btcp_keepalive_\w+")
METRICS = exposition.text([exposition.up(answers=True), *of_daemon(SNAPSHOT)])


def promtool(*words: str | Path, given: str = "") -> str:
    """What it says of these files; it must be content."""
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def expressions() -> Iterator[str]:
    """Each expression of the dashboard, with its variables filled in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$job", ".*").replace("$instance", ".*")


def test_the_metrics_follow_the_conventions() -> None:
    assert promtool("check", "metrics", given=METRICS) == ""


def test_the_rules_are_valid_and_each_alert_fires_and_goes_away() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", RULES_TEST)


def test_every_rule_is_tested() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8"))
    fired = re.findall(r"alertname: (\w+)\n +exp_alerts", RULES_TEST.read_text(encoding="utf-8"))
    assert len(alerts) == len(set(alerts))
    assert set(alerts) == set(fired)


def test_the_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    """As rules, which promtool can check."""
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions())]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize(
    "text", ["\n".join(expressions()), RULES.read_text(encoding="utf-8")], ids=["dashboard", "rules"]
)
def test_nothing_is_asked_that_is_not_exported(text: str) -> None:
    exported = {found[0] for line in METRICS.splitlines() if (found := METRIC.match(line))}
    assert set(METRIC.findall(text)) <= exported


def test_every_metric_is_in_the_dashboard_or_the_rules() -> None:
    """What nobody looks at need not be exported; how many namespaces there are, or ends measured, is for who asks."""
    shown = "\n".join(expressions()) + RULES.read_text(encoding="utf-8")
    exported = set(re.findall(r"^# TYPE (\w+)", METRICS, re.MULTILINE))
    unseen = {name for name in exported if name not in shown}
    for_who_asks = ("namespaces", "closes_total", "measured_ends_total", "start_time_seconds")
    assert unseen <= {f"tcp_keepalive_{name}" for name in for_who_asks}


def test_the_rules_name_causes_and_results_that_there_are() -> None:
    text = RULES.read_text(encoding="utf-8")
    for label, known in (("cause", {each.key for each in Cause}), ("result", {each.value for each in ArmingResult})):
        for words in re.findall(rf'{label}=~"([^"]+)"', text):
            assert set(words.split("|")) <= known


def test_each_panel_of_the_dashboard_has_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    assert len(UNIT_FILES) == 2
    for file in UNIT_FILES:
        text = file.read_text(encoding="utf-8").replace("/usr/bin/keepalivectl", "/bin/true")
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / file.name for file in UNIT_FILES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
