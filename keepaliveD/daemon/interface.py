"""The interface of the control socket: its description, and the answers to its methods."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping

from keepaliveD import __version__
from keepaliveD.daemon.metrics import of_daemon
from keepaliveD.daemon.varlink import Method, Parameters, Service
from keepaliveD.log.entries import Entry
from keepaliveD.model.causes import Foretold
from keepaliveD.model.connections import Verdict
from keepaliveD.model.metric import Metric
from keepaliveD.model.rules import Path
from keepaliveD.model.snapshot import AtRisk, Snapshot
from keepaliveD.places import INTERFACE

MOST_ENDS = 100  # paths and units whose ends are told
MONITOR = f"{INTERFACE}.Monitor"

DESCRIPTION = """\
# How tcp-keepalived is, and what it does. Durations are seconds; null means unknown or never.
interface internal.tcp-keepalived

# Connections by verdict; see keepalivectl(1)
type Connections (
  total: int,
  namespaces: int,
  unknown: int,
  safe: int,
  late: int,
  bare: int,
  cut: int
)

# A setting of the system, by the kernel's name: what the configuration wants, what stands, and what stood before
type Setting (name: string, wanted: int, stands: ?int, before: ?int)

# The last scan of all sockets: how long ago it ended, and how long it took
type Scan (ago: float, took: float, interval: float)

# What became of sockets that were to be armed, since the start
type Arming (result: string, count: int)

# Connections of a path and unit that ended since the start: foretold by a warning, not foretold, and not foreseeable;
# and silences that armed connections survived although they were longer than the idle timeout of the path
type Ends (path: string, unit: string, foretold: int, missed: int, unforeseeable: int, saved: int)

# Connections at risk of a unit, or of a user where the unit is not known (then it is ""), by the last scan. The path
# forgets the first in so many seconds, or did so if negative; sure is false where a packet may have gone by unseen.
type AtRisk (unit: string, user: int, verdict: string, count: int, sure: bool, left: ?float)

# The network between this host and peers, with its idle timeout; source is configured, measured, preset, guess, ...
type Path (
  name: string,
  timeout: ?float,
  source: string,
  detail: string,
  networks: []string,
  ports: []int,
  interface: string
)

# Say how the daemon is. Without a problem, problems is empty; at_risk begins with the most urgent; restores says
# whether a stop restores the settings.
method Status() -> (
  version: string,
  pid: int,
  running: float,
  applied: bool,
  settings: []Setting,
  engine: string,
  connections: Connections,
  scan: ?Scan,
  arming: []Arming,
  ends: []Ends,
  at_risk: []AtRisk,
  restores: bool,
  problems: []string
)

# List the paths, the default one first
method ListPaths() -> (paths: []Path)

# A number of a metric; suffix goes on its name, such as _bucket
type Sample (value: float, labels: [string]string, suffix: string)

# A metric for Prometheus; kind is gauge, counter, summary or histogram
type Metric (name: string, kind: string, help: string, samples: []Sample)

# Return what there is to measure; see keepalivectl metrics
method Metrics() -> (metrics: []Metric)

# Send each entry of the log as it comes; call it with more. Fields are those that the journal gets.
method Monitor() -> (event: string, priority: int, message: string, fields: object)
"""


def service(snapshot: Callable[[], Snapshot]) -> Service:
    """Return what the control socket offers; `snapshot` says how the daemon is at that moment."""
    return Service(
        vendor="keepaliveD",
        product="tcp-keepalived",
        version=__version__,
        url="man:tcp-keepalived(8)",
        descriptions={INTERFACE: DESCRIPTION},
        methods={
            f"{INTERFACE}.Status": Method(lambda _: status(snapshot())),
            f"{INTERFACE}.ListPaths": Method(lambda _: {"paths": [path(each) for each in snapshot().paths]}),
            f"{INTERFACE}.Metrics": Method(lambda _: {"metrics": [metric(each) for each in of_daemon(snapshot())]}),
            MONITOR: Method(lambda _: None, streams=True),
        },
    )


def status(snapshot: Snapshot) -> dict[str, object]:
    """Return the answer to Status."""
    counts = snapshot.counts
    by_verdict = {verdict.label: counts.by_verdict.get(verdict, 0) for verdict in Verdict}
    scan = snapshot.scan
    return {
        "version": __version__,
        "pid": snapshot.pid,
        "running": round(snapshot.running, 3),
        "applied": snapshot.applied,
        "settings": [
            {"name": one.name, "wanted": one.wanted, "stands": one.stands, "before": one.before}
            for one in snapshot.settings
        ],
        "engine": snapshot.engine,
        "connections": {"total": counts.total, "namespaces": counts.namespaces, **by_verdict},
        "scan": scan and {name: round(value, 3) for name, value in scan._asdict().items()},
        "arming": [{"result": result.value, "count": count} for result, count in snapshot.results.items() if count],
        "ends": [ends(*one) for one in snapshot.tally.by_path_and_unit()[:MOST_ENDS]],
        "at_risk": [at_risk(one) for one in snapshot.at_risk],
        "restores": snapshot.restores,
        "problems": list(snapshot.problems),
    }


def ends(path: str, unit: str, foretold: Counter[Foretold], saved: int) -> dict[str, object]:
    """Return what became of the connections of a path and unit, as Status answers it."""
    told, apart = foretold[Foretold.FORETOLD], foretold[Foretold.NOT_FORESEEABLE]
    counts = {"foretold": told, "missed": foretold.total() - told - apart, "unforeseeable": apart, "saved": saved}
    return {"path": path, "unit": unit, **counts}


def at_risk(one: AtRisk) -> dict[str, object]:
    """Return connections at risk as Status answers them."""
    return {**dataclasses.asdict(one), "verdict": one.verdict.label, "left": known(one.left)}


def known(seconds: float) -> float | None:
    """Return a time as it is answered: null for what is not known, or never."""
    return round(seconds, 3) if math.isfinite(seconds) else None


def path(one: Path) -> dict[str, object]:
    """Return a path as ListPaths answers it."""
    return {
        "name": one.name,
        "timeout": known(one.timeout),
        "source": one.origin.source.value,
        "detail": one.origin.detail,
        "networks": [str(network) for network in one.networks],
        "ports": list(one.ports),
        "interface": one.interface,
    }


def metric(one: Metric) -> dict[str, object]:
    """Return a metric as Metrics answers it."""
    samples = [sample._asdict() for sample in one.samples]
    return {"name": one.name, "kind": one.kind, "help": one.help, "samples": samples}


def entry(said: Entry) -> Parameters:
    """Return an entry of the log as Monitor answers it."""
    fields: Mapping[str, object] = said.fields
    return {"event": said.event, "priority": said.priority, "message": said.message, "fields": dict(fields)}
