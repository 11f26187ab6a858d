"""A real Prometheus scrapes a real daemon: it answers a query, and its alert fires and resolves."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from urllib.request import urlopen

from keepaliveD.cli.asking.asking import ask
from tests.packaging.test_prometheus import RULES
from tests.support.patience import SOON, pause, unserved
from tests.support.processes import CTL, ENABLE, SCAN, Home, arming, configuration, program
from tests.support.rig import Namespace, Rig

TIMEOUT = 600  # seconds without a packet after which the firewall forgets
EXPORTER, PROMETHEUS = "127.0.0.1:9272", "127.0.0.1:9090"
CONFIGURATION = f"""
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 500ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: keepalive
    static_configs: [{{targets: ["{EXPORTER}"]}}]
"""
UNTOUCHED = "apply = false"
SCANS, LATE = 12, 3 * SCAN  # scans that are awaited, and seconds from one to the next that are too many

Seen = TypeVar("Seen")


class Prometheus:
    """One that runs in a network namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def get(self, path: str) -> Any:
        """The data of an answer of its API; nothing as long as it does not answer."""
        with contextlib.suppress(OSError):
            return self._namespace.inside(lambda: json.load(urlopen(f"http://{PROMETHEUS}/api/v1/{path}")))["data"]
        return None

    def value(self, query: str) -> float | None:
        """What a query comes to."""
        answer = self.get(f"query?query={quote(query)}")
        return float(answer["result"][0]["value"][1]) if answer and answer["result"] else None

    def alerts(self) -> dict[str, dict[str, str]]:
        """The labels of each alert that fires, by its name."""
        answer = self.get("alerts") or {"alerts": []}
        firing = [each["labels"] for each in answer["alerts"] if each["state"] == "firing"]
        return {labels["alertname"]: labels for labels in firing}


def until(look: Callable[[], Seen]) -> Seen:
    """What is seen, once it is anything."""
    end = time.monotonic() + 2 * SOON
    while not (seen := look()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return seen


@contextlib.contextmanager
def prometheus(namespace: Namespace, directory: Path) -> Iterator[Prometheus]:
    """One that follows the rules that are shipped, without their pauses."""
    rules = re.sub(r"^ +for: .*\n", "", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (directory / "rules.yml").write_text(rules, encoding="utf-8")
    (directory / "prometheus.yml").write_text(CONFIGURATION, encoding="utf-8")
    options = (
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address={PROMETHEUS}",
        "--log.level=error",
    )
    with namespace.running("env", "GOMAXPROCS=1", "prometheus", *options):
        yield Prometheus(namespace)


def test_an_alert_fires_when_a_connection_goes_bare_and_resolves_when_it_is_armed(rig: Rig, tmp_path: Path) -> None:
    home = Home(tmp_path, configuration(UNTOUCHED, timeout=TIMEOUT))
    runtime = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with (
        home.daemon(rig.client, through=runtime) as daemon,
        rig.client.running(*runtime, *CTL, "metrics", "--listen", EXPORTER) as exporter,
        prometheus(rig.client, tmp_path) as watching,
    ):
        until(lambda: watching.value("tcp_keepalive_up") == 1)
        assert "TcpKeepaliveConnectionsAtRisk" not in watching.alerts()
        with program(rig):
            until(lambda: watching.value('sum(tcp_keepalive_connections{verdict="bare"})') == 1)
            alert = until(lambda: watching.alerts().get("TcpKeepaliveConnectionsAtRisk"))
            assert alert
            assert (alert["job"], alert["instance"]) == ("keepalive", EXPORTER)
            assert alert["unit"]
            daemon.reload(arming(ENABLE, timeout=TIMEOUT))
            daemon.expect("armed")
            until(lambda: "TcpKeepaliveConnectionsAtRisk" not in watching.alerts())
            assert until(lambda: watching.value('sum(tcp_keepalive_armings_total{result="armed"})')) == 1
            # at once, but for a scrape that a busy machine was too slow for
            until(lambda: watching.value('tcp_keepalive_connections{path="rig", verdict="safe", keepalive="on"}') == 1)
            until(lambda: not watching.alerts().keys() & {"TcpKeepaliveDown", "TcpKeepaliveScansStopped"})
        daemon.stop()
        until(lambda: "TcpKeepaliveDown" in watching.alerts())
        exporter.send_signal(signal.SIGTERM)
        assert exporter.wait(SOON) == 0


def test_clients_of_the_exporter_delay_no_scan(rig: Rig, tmp_path: Path) -> None:
    """Those that flood it: the daemon is asked at most once a second, and goes on scanning."""
    home = Home(tmp_path, configuration(UNTOUCHED, timeout=TIMEOUT))
    runtime = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    flood = "import sys, urllib.request as u\nwhile True:\n try: u.urlopen(sys.argv[1]).read()\n except OSError: pass"
    with (
        home.daemon(rig.client, through=runtime) as daemon,
        rig.client.running(*runtime, *CTL, "metrics", "--listen", EXPORTER),
        contextlib.ExitStack() as stack,
    ):
        for _ in range(4):
            stack.enter_context(rig.client.running("python3", "-c", flood, f"http://{EXPORTER}/metrics"))
        assert pace(daemon.pid, tmp_path / "control") < LATE
        daemon.stop()


def pace(daemon: int, control: Path) -> float:
    """The seconds from one scan to the next, without those for which other programs had the daemon's processor."""
    begin, first, before, overslept = time.monotonic(), scans(control), unserved(daemon), 0.0
    after, took, made = dict(before), 0.0, 0
    while made < SCANS and took < SCANS * LATE:
        overslept += pause(SCAN)
        after |= unserved(daemon)
        took = time.monotonic() - begin - max(overslept, sum(after.values()) - sum(before.values()))
        made = scans(control) - first
    return took / max(made, 1)


def scans(control: Path) -> int:
    """How many there were since the daemon started."""
    metrics = {each["name"]: each["samples"] for each in ask(control, "Metrics", patience=SOON)["metrics"]}
    return int(metrics["tcp_keepalive_scan_duration_seconds"][1]["value"])
