"""The interface of the control socket: its methods, and the answers that need nothing but a look.

Values go in, plain objects come out; what they mean is in description.py.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from keepaliveD import __version__
from keepaliveD.daemon.control import orders
from keepaliveD.daemon.control.description import DESCRIPTION
from keepaliveD.daemon.control.metrics import of_daemon
from keepaliveD.daemon.control.selecting import FILTERS, selection
from keepaliveD.daemon.control.varlink import Method, Parameters, Refused, Replies, Service
from keepaliveD.log.entries import Entry
from keepaliveD.log.entries.evidence import of_evidence
from keepaliveD.model.autopsy import Death
from keepaliveD.model.causes import Cause, Foretold
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.metric import Metric
from keepaliveD.model.plain import from_now, known, plain, plain_endpoint, plain_origin, plain_owner
from keepaliveD.model.routes import SeenByRoute
from keepaliveD.model.rules import Path
from keepaliveD.model.snapshot import AtRisk, Ended, Snapshot
from keepaliveD.model.sockets import ALL_WATCHED, OWN, Unwatched
from keepaliveD.places import INTERFACE
from keepaliveD.policy.answers.listing import Listed, Selection, page
from keepaliveD.policy.answers.remembered import some_remembered

MOST_ENDS = 100  # paths and units whose ends are told
FEW = 256  # namespaces in a reply
MOST_NAMED = 100  # namespaces that are not watched and told by inode
MONITOR = f"{INTERFACE}.Monitor"


class Host(Protocol):
    """Whoever says how things are at that moment: the daemon. None of it waits for anything."""

    def snapshot(self) -> Snapshot:
        """Return how the daemon is."""

    def listed(self) -> Listed:
        """Return the last scan."""

    def namespaces(self) -> Sequence[tuple[int, Counts]]:
        """Return the network namespaces of the last scan, by inode."""

    def ended(self) -> Ended:
        """Return what is kept of connections that ended."""


def service(host: Callable[[], Host]) -> Service:
    """Return what the control socket offers; `host` is asked how things are."""
    return Service(
        vendor="keepaliveD",
        product="tcp-keepalived",
        version=__version__,
        url="man:tcp-keepalived(8)",
        descriptions={INTERFACE: DESCRIPTION},
        methods={
            f"{INTERFACE}.Status": Method(lambda _: status(host().snapshot())),
            f"{INTERFACE}.ListPaths": Method(lambda _: paths(host().snapshot())),
            f"{INTERFACE}.ListConnections": Method(lambda given: connections(host, given), FILTERS, streams=True),
            f"{INTERFACE}.ListMemory": Method(lambda _: memory(host), streams=True),
            f"{INTERFACE}.ListNamespaces": Method(lambda _: namespaces(host), streams=True),
            f"{INTERFACE}.ListDeaths": Method(lambda _: deaths(host().ended())),
            f"{INTERFACE}.Metrics": Method(lambda _: metrics(host().snapshot())),
            MONITOR: Method(lambda _: None, streams=True),
            **orders.METHODS,
        },
    )


def connections(host: Callable[[], Host], parameters: Parameters) -> Replies:
    """Yield the connections that are wanted, some at a time; None while there are none among those looked at."""
    wanted, after = selection(parameters), None
    while True:
        reply, after = _some_connections(host().listed(), wanted, after)
        if after is None:
            return reply
        yield reply if reply["connections"] else None


def _some_connections(listed: Listed, wanted: Selection, after: int | None) -> tuple[dict[str, Any], int | None]:
    """Return a reply and the cookie after which to go on: whoever waits between two of them keeps no scan."""
    if wanted.units and listed.units is None:
        raise Refused(f"{INTERFACE}.UnitsNotKnown")
    if not listed.judgement.table.engine_description:
        return {"age": None, "connections": []}, None  # nothing was scanned yet
    found, after = page(listed, wanted, after)
    return {"age": round(listed.age, 3), "connections": [plain(from_now(one, listed.age)) for one in found]}, after


def memory(host: Callable[[], Host]) -> Replies:
    """Yield what is remembered of the sockets of the last scan, some at a time."""
    after = None
    while True:
        told, after = _some_memory(host().listed(), after)
        if after is None:
            return told
        yield told


def _some_memory(listed: Listed, after: int | None) -> tuple[dict[str, Any], int | None]:
    """Return a reply and the cookie after which to go on, as _some_connections() does."""
    if not listed.judgement.table.engine_description:
        return {"scanned_at": None, "columns": {}}, None  # nothing was scanned yet
    return some_remembered(listed, after)


def namespaces(host: Callable[[], Host]) -> Replies:
    """Yield the network namespaces, some at a time."""
    after = -1
    while True:
        left = [each for each in host().namespaces() if each[0] > after]
        reply = {"namespaces": [{"inode": inode, **by_verdict(counts)} for inode, counts in left[:FEW]]}
        if len(left) <= FEW:
            return reply
        after = left[FEW - 1][0]
        yield reply


def by_verdict(counts: Counts) -> dict[str, int]:
    """Return how many connections there are, by verdict."""
    return {"total": counts.total, **verdicts(counts.by_verdict)}


def verdicts(counts: Mapping[Verdict, int]) -> dict[str, int]:
    """Return how many connections there are of each verdict."""
    return {verdict.label: counts.get(verdict, 0) for verdict in Verdict}


def deaths(ended: Ended) -> dict[str, object]:
    """Return the answer to ListDeaths."""
    causes: Counter[Cause] = Counter()
    for (cause, _), count in ended.tally.by_cause.items():
        causes[cause] += count
    return {
        "causes": [{"cause": cause.key, "count": count} for cause, count in causes.most_common()],
        "ordinary": ended.tally.ordinary,
        "measured": ended.tally.measured,
        "lost": ended.tally.lost,
        "deaths": [death(one, count, ended.now) for count, one in reversed(ended.deaths)],
    }


def death(one: Death, count: int, now: float) -> dict[str, object]:
    """Return a connection that ended as ListDeaths answers it."""
    return {
        "ago": round(now - one.ended_at, 3),
        "count": count,
        "cookie": one.cookie,
        "netns": one.netns,
        "uid": one.uid,
        "local": plain_endpoint(one.local),
        "remote": plain_endpoint(one.remote),
        "owner": plain_owner(one.owner),
        "cause": one.cause.key,
        "confidence": one.confidence,
        "others": [cause.key for cause in one.others],
        "silence": known(one.silence),
        "path": one.path,
        "timeout": known(one.timeout),
        "origin": plain_origin(one.origin),
        "foretold": one.hindsight.foretold.key,
        "warned": known(one.hindsight.warned_before),
        "signal": one.signal,
        "closer": one.closer,
        "closer_pid": one.closer_pid,
        "evidence": list(one.evidence),
    }


def status(snapshot: Snapshot) -> dict[str, object]:
    """Return the answer to Status."""
    counts, scan = snapshot.counts, snapshot.scan
    return {
        "version": __version__,
        "pid": snapshot.pid,
        "netns": snapshot.netns,
        "running": round(snapshot.running, 3),
        "applied": snapshot.applied,
        "settings": [one._asdict() for one in snapshot.settings],
        "engine": snapshot.engine,
        "unseen": snapshot.unseen,
        "connections": {"namespaces": counts.namespaces, **by_verdict(counts), "guessed": counts.guessed},
        "scan": scan and {name: round(value, 6) for name, value in scan._asdict().items()},
        "arming": [{"result": result.value, "count": count} for result, count in snapshot.results.items() if count],
        "ends": [ends(*one) for one in snapshot.tally.by_path_and_unit()[:MOST_ENDS]],
        "at_risk": [at_risk(one) for one in snapshot.at_risk],
        "restores": snapshot.restores,
        "unwatched": unwatched(snapshot.unwatched or ALL_WATCHED, snapshot.netns),
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


def unwatched(those: Unwatched, own: int) -> dict[str, object]:
    """Return which network namespaces are not watched, as Status answers it.

    `own` is the daemon's, and comes first: anybody can make so many others that not all are named.
    """
    named = ("silent", "crowded", "incomplete")
    own_first = {name: sorted(getattr(those, name), key=lambda netns: netns not in (own, OWN)) for name in named}
    return {**those._asdict(), **{name: inodes[:MOST_NAMED] for name, inodes in own_first.items()}}


def paths(snapshot: Snapshot) -> dict[str, object]:
    """Return the answer to ListPaths."""
    counts, (ended, saved) = snapshot.totals.by_path(), snapshot.tally.by_path()
    advice = {(each.path.name, each.route): said.message for each in snapshot.findings for said in of_evidence((each,))}
    default = snapshot.paths[0].name if snapshot.paths else ""
    routes = [by_route(one, advice.get((default, one.route), "")) for one in snapshot.by_route]
    return {
        "paths": [
            {
                **path(one),
                "connections": verdicts(counts.get(one.name, Counter())),
                "ended": ended[one.name],
                "saved": saved[one.name],
                "advice": advice.get((one.name, None), ""),
                "routes": routes if one.name == default else [],
            }
            for one in snapshot.paths
        ]
    }


def by_route(one: SeenByRoute, advice: str) -> dict[str, object]:
    """Return what was seen by one route as ListPaths answers it."""
    return {
        "interface": one.route.interface,
        "next_hop": one.route.next_hop,
        "survived": one.survived,
        "longest": round(one.longest, 3),
        "died": one.deaths,
        "shortest": round(one.shortest, 3),
        "advice": advice,
    }


def path(one: Path) -> dict[str, object]:
    """Return a path as ListPaths answers it, without its connections."""
    return {
        "name": one.name,
        "timeout": known(one.timeout),
        "source": one.origin.source.value,
        "detail": one.origin.detail,
        "networks": [str(network) for network in one.networks],
        "ports": list(one.ports),
        "interface": one.interface,
        "counts": one.counts.value,
    }


def metrics(snapshot: Snapshot) -> dict[str, object]:
    """Return the answer to Metrics."""
    return {"metrics": [metric(each) for each in of_daemon(snapshot)]}


def metric(one: Metric) -> dict[str, object]:
    """Return a metric as Metrics answers it."""
    samples = [sample._asdict() for sample in one.samples]
    return {"name": one.name, "kind": one.kind, "help": one.help, "samples": samples}


def entry(said: Entry) -> Parameters:
    """Return an entry of the log as Monitor answers it."""
    fields: Mapping[str, object] = said.fields
    return {"event": said.event, "priority": said.priority, "message": said.text, "fields": dict(fields)}
