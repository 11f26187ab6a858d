"""What is measured, as metrics: of a daemon, or of one scan without one. It asks nobody.

No label has a value for each connection. Units and paths are at most MOST, the rest is "other": of gauges those with
the most connections, of counters those that were there first, because a counter must not go back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from keepaliveD import __version__
from keepaliveD.model.autopsy import Tally
from keepaliveD.model.causes import ONLY_BESIDE, Cause, Foretold
from keepaliveD.model.connections import AT_RISK, Verdict
from keepaliveD.model.metric import Metric, Sample
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.snapshot import LEFT, AtRisk, Kind, Setting, Snapshot, Totals

PREFIX = "tcp_keepalive_"
MOST = 20  # values of a label that names a unit or a path
OTHER = "other"
FORESEEABLE = (Cause.MIDDLEBOX_IDLE, Cause.SILENT_AFTER_IDLE)
PERHAPS_FORESEEN = (*FORESEEABLE, Cause.UNKNOWN_TO_PEER, Cause.LOCAL_FIREWALL)
FORETOLD, MISSED, APART = "yes", "no", "not foreseeable"


def of_daemon(snapshot: Snapshot) -> list[Metric]:
    """Return all that a daemon has to say; nothing of connections before its first scan."""
    return [
        _metric("build_info", "gauge", "Version of the daemon.", [Sample(1, {"version": __version__})]),
        _one("start_time_seconds", "gauge", "When the daemon started.", round(snapshot.now - snapshot.running)),
        _one("problems", "gauge", "Problems that keepalivectl status lists.", len(snapshot.problems)),
        *(of_scan(snapshot.totals, snapshot.at_risk) if snapshot.scan else ()),
        *_scans(snapshot),
        *of_settings(snapshot.settings),
        _one("drifts_total", "counter", "Settings found changed by someone else.", snapshot.tried.drifts),
        _metric(
            "armings_total",
            "counter",
            "Sockets that were to be armed, by what became of them.",
            [Sample(snapshot.results.get(result, 0), {"result": result.value}) for result in ArmingResult],
        ),
        *_ends(snapshot),
        *_probes(snapshot.probes_sent),
    ]


def of_scan(totals: Totals, at_risk: Sequence[AtRisk]) -> list[Metric]:
    """Return what one scan shows; `at_risk` are the connections at risk by unit."""
    return [
        _metric(
            "connections", "gauge", "Connections by path, verdict and keepalive.", list(_connections(totals.by_kind))
        ),
        _metric(
            "unit_connections_at_risk",
            "gauge",
            "Connections at risk by unit, or by user where there is no unit.",
            list(_units(totals.by_kind, at_risk)),
        ),
        _metric(
            "left_seconds",
            "histogram",
            "Time until paths forget the connections that are at risk now; 0 for those that are cut.",
            list(_left(totals)),
        ),
        _one("namespaces", "gauge", "Network namespaces that were scanned.", totals.namespaces),
        _one("scan_complete", "gauge", "Whether the last scan has seen all connections.", totals.complete),
    ]


def of_settings(settings: Sequence[Setting]) -> list[Metric]:
    """Return the system's settings: what stands, and what the configuration wants."""
    return [
        _metric(
            "setting",
            "gauge",
            "Keepalive settings of the system, in the kernel's units.",
            [Sample(one.stands, {"setting": one.name}) for one in settings if one.stands is not None],
        ),
        _metric(
            "setting_wanted",
            "gauge",
            "Keepalive settings that the configuration wants.",
            [Sample(one.wanted, {"setting": one.name}) for one in settings],
        ),
    ]


def _metric(name: str, kind: str, help_: str, samples: Sequence[Sample]) -> Metric:
    return Metric(PREFIX + name, kind, help_, samples)


def _one(name: str, kind: str, help_: str, value: float) -> Metric:
    return _metric(name, kind, help_, [Sample(value)])


def _connections(by_kind: Mapping[Kind, int]) -> Iterator[Sample]:
    """Yield each combination of the paths with the most connections, also those that nothing has."""
    sizes: Counter[str] = Counter()
    for kind, number in by_kind.items():
        sizes[kind.path] += number
    named = {path for path, _ in sizes.most_common(MOST)}
    rows: Counter[Kind] = Counter()
    for kind, number in by_kind.items():
        rows[kind if kind.path in named else kind._replace(path=OTHER)] += number
    for (path, verdict, keepalive), number in rows.items():
        yield Sample(number, {"path": path, "verdict": verdict.label, "keepalive": keepalive.value})


def _units(by_kind: Mapping[Kind, int], at_risk: Sequence[AtRisk]) -> Iterator[Sample]:
    """Yield the units with the most connections at risk; what the daemon has not named is "other" as well.

    Users get the room that units leave: there may be any number of users.
    """
    sizes: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for one in at_risk:
        sizes[not one.unit][_whose(one)] += one.count
    named = set([whose for each in sizes for whose, _ in each.most_common(MOST)][:MOST])
    rows: Counter[tuple[str, Verdict]] = Counter()
    for one in at_risk:
        rows[_whose(one) if _whose(one) in named else OTHER, one.verdict] += one.count
    for verdict in sorted(AT_RISK):
        told = sum(number for (_, its), number in rows.items() if its is verdict)
        total = sum(number for kind, number in by_kind.items() if kind.verdict is verdict)
        if total > told:
            rows[OTHER, verdict] += total - told
    for (unit, verdict), number in rows.items():
        yield Sample(number, {"unit": unit, "verdict": verdict.label})


def _whose(one: AtRisk) -> str:
    return one.unit or f"uid {one.user}"


def _left(totals: Totals) -> Iterator[Sample]:
    left = totals.left
    for bound, number in zip((*LEFT, math.inf), (*left.within, left.number), strict=True):
        yield Sample(number, {"le": "+Inf" if bound == math.inf else str(bound)}, "_bucket")
    yield Sample(left.seconds, suffix="_sum")
    yield Sample(left.number, suffix="_count")


def _scans(snapshot: Snapshot) -> Iterator[Metric]:
    tried = snapshot.tried
    took = [Sample(round(tried.scanning, 6), suffix="_sum"), Sample(tried.scans, suffix="_count")]
    yield _metric("scan_duration_seconds", "summary", "How long scans took.", took)
    if scan := snapshot.scan:
        yield _one("scan_interval_seconds", "gauge", "How often there is a scan, at least.", scan.interval)
        ended = round(snapshot.now - scan.ago, 1)
        yield _one("last_scan_timestamp_seconds", "gauge", "When the last scan ended.", ended)


def _ends(snapshot: Snapshot) -> list[Metric]:
    """Return what became of connections. Each label is there from the start: a rate needs a number to begin with."""
    tally = snapshot.tally
    on_path = (*(path for path, *_ in tally.foretold), *(path for path, _ in tally.saved))
    named = _first((*(path.name for path in snapshot.paths), *on_path))
    return [
        _metric(
            "deaths_total",
            "counter",
            "Connections that did not end by an ordinary close, by cause, and whether a warning had foretold that.",
            [
                Sample(number, {"cause": cause.key, "foretold": said})
                for (cause, said), number in _by_cause(tally).items()
            ],
        ),
        _metric(
            "path_deaths_total",
            "counter",
            "Connections that did not end by an ordinary close, by path, and whether a warning had foretold that.",
            [
                Sample(number, {"path": path, "foretold": said})
                for (path, said), number in _by_path(tally, named).items()
            ],
        ),
        _metric(
            "saves_total",
            "counter",
            "Times without data, longer than the path's idle timeout, that connections armed by the daemon survived.",
            [Sample(number, {"path": path}) for path, number in _saves(tally, named).items()],
        ),
        _one("closes_total", "counter", "Connections that ended by an ordinary close.", tally.ordinary),
        _one(
            "measured_ends_total",
            "counter",
            "Connections of keepalivectl measure that ended otherwise; no other number has them.",
            tally.measured,
        ),
        _one("death_records_lost_total", "counter", "Ends of connections whose record was dropped.", tally.lost),
    ]


def _by_cause(tally: Tally) -> Counter[tuple[Cause, str]]:
    causes = [cause for cause in Cause if cause not in ONLY_BESIDE]
    counts = Counter({(cause, said): 0 for cause in causes for said in _may_be_said(cause)})
    for (cause, foretold), number in tally.by_cause.items():
        counts[cause, _said(foretold)] += number
    return counts


def _by_path(tally: Tally, named: Sequence[str]) -> Counter[tuple[str, str]]:
    counts = Counter({(path, said): 0 for path in named for said in (FORETOLD, MISSED, APART)})
    for (path, _, foretold), number in tally.foretold.items():
        counts[path if path in named else OTHER, _said(foretold)] += number
    return counts


def _saves(tally: Tally, named: Sequence[str]) -> Counter[str]:
    counts = Counter(dict.fromkeys(named, 0))
    for (path, _), number in tally.saved.items():
        counts[path if path in named else OTHER] += number
    return counts


def _first(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))[:MOST]


def _may_be_said(cause: Cause) -> tuple[str, ...]:
    if cause in FORESEEABLE:
        return FORETOLD, MISSED
    return (FORETOLD, APART) if cause in PERHAPS_FORESEEN else (APART,)


def _said(foretold: Foretold) -> str:
    if foretold is Foretold.NOT_FORESEEABLE:
        return APART
    return FORETOLD if foretold is Foretold.FORETOLD else MISSED


def _probes(sent: int | None) -> Iterator[Metric]:
    if sent is not None:
        help_ = "Keepalive probes that the kernel has sent in the daemon's network namespace, of all sockets."
        yield _one("probes_sent_total", "counter", help_, sent)
