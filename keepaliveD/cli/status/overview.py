"""How a host is, in plain words: text of what a daemon answers, or of what its records and the kernel say."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from keepaliveD.cli.asking import unwatched
from keepaliveD.model.connections import AT_RISK, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import span
from keepaliveD.model.plain import known
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.snapshot import AtRisk, Setting
from keepaliveD.model.text import printable, quoted

LABEL = 13  # columns of what a line is about
WORST = ("cut", "bare", "late", "unknown", "safe")
SET = (ArmingResult.ARMED.value, ArmingResult.ARMED_AT_CONNECT.value)
FEW = 8  # units that are listed
FORMAT = 1  # of the JSON; another number means that a key has another meaning, or is gone
NO_ARMING = "no socket by the daemon since its start"
OF_DAEMON = ("version", "pid", "running")
KEPT_BY_DAEMON = ("scan", "arming", "ends")  # what only a daemon knows, by the names of its answer


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of a host. `daemon` is its answer to Status, None if none could be asked; `why` is why not.

    `process` is one that runs and could not be asked, 0 if none does; `stop` is the command that stops the daemon.
    `settings` are those that the configuration wants, `pinned` what arms new connections without a daemon.
    `at_risk` are the connections at risk, the most urgent first.
    """

    daemon: Mapping[str, Any] | None
    why: str
    settings: Sequence[Setting]
    applied: bool
    engine: str
    at_risk: Sequence[AtRisk]
    connections: Mapping[str, int]  # the total, the number of namespaces, and how many of each verdict
    unwatched: Mapping[str, Any]  # as in the answer to Status
    netns: int = 0  # of who has scanned
    pinned: str = ""
    restores: bool = True  # whether a stop restores the settings
    problems: Sequence[str] = ()
    process: int = 0
    stop: str = ""
    reload: str = ""  # the command with which the daemon reads its configuration again
    unseen: str = ""  # what the daemon cannot see of ends of connections


def of_daemon(daemon: Mapping[str, Any], stop: str, reload: str = "") -> Host:
    """Return what a daemon answers, and how to stop and reload it; an older one leaves something out."""
    return Host(
        daemon=daemon,
        why="",
        settings=tuple(Setting(*map(one.get, Setting._fields)) for one in daemon["settings"]),
        applied=daemon["applied"],
        engine=daemon["engine"],
        at_risk=[_at_risk(one) for one in daemon.get("at_risk", ())],
        connections=daemon["connections"],
        unwatched=daemon["unwatched"],
        netns=daemon["netns"],
        restores=daemon.get("restores", True),
        stop=stop,
        reload=reload,
        unseen=daemon.get("unseen", ""),
    )


def _at_risk(one: Mapping[str, Any]) -> AtRisk:
    left = math.nan if one["left"] is None else one["left"]
    return AtRisk(**{**one, "verdict": Verdict[one["verdict"].upper()], "left": left})


def overview(host: Host) -> Iterator[str]:
    """Yield the lines."""
    for label, words in _facts(host):
        yield f"{label.ljust(LABEL)}{printable(words)}"


def as_json(host: Host) -> str:
    """Return the same as an object, for programs; what only a daemon knows is null without one."""
    daemon = host.daemon
    told = {
        "version": FORMAT,
        "daemon": daemon and {name: daemon[name] for name in OF_DAEMON},
        "process": host.process or None,
        "why": host.why,
        "stop": host.stop,
        "applied": host.applied,
        "settings": [one._asdict() for one in host.settings],
        "restores": host.restores,
        "engine": host.engine,
        "unseen": host.unseen,
        "connections": dict(host.connections),
        "unwatched": dict(host.unwatched),
        "at_risk": [{**asdict(one), "verdict": one.verdict.label, "left": known(one.left)} for one in host.at_risk],
        **{name: daemon and daemon.get(name) for name in KEPT_BY_DAEMON},
        "pinned": host.pinned,
        "problems": _problems(host),
    }
    return json.dumps(told, indent=1)


def _problems(host: Host) -> list[str]:
    return [*(host.daemon["problems"] if host.daemon else ()), *host.problems]


def _facts(host: Host) -> Iterator[tuple[str, str]]:
    daemon = host.daemon
    yield "daemon", _daemon(host)
    yield from _settings(host)
    if host.engine:
        yield "engine", host.engine
    scan = daemon.get("scan") if daemon else None
    if scan:
        took, interval = f"{1000 * scan['took']:.0f}ms", span(scan["interval"])
        yield "last scan", f"{span(scan['ago'])} ago, took {took}; one every {interval} or sooner"
    if daemon and not scan:
        yield "connections", "not known before the first scan"
    else:
        yield "connections", _connections(host)
    if missing := unwatched.summary(host.unwatched, host.netns):
        yield "not watched", f"{missing}; keepalivectl sockets says why"
    yield from _units(host)
    if daemon:
        armed = ", ".join(f"{each['count']} {each['result']}" for each in daemon["arming"])
        undo = (
            "; keepalivectl disarm restores those that are still armed"
            if any(each["result"] in SET for each in daemon["arming"])
            else ""
        )
        yield "arming", f"{armed} (by the daemon since its start){undo}" if armed else NO_ARMING
        yield from _ends(daemon.get("ends", ()))
    if host.unseen:
        yield "ends", host.unseen
    if host.pinned and host.process:
        end = f"keepalivectl disarm removes it after {host.stop}"
        yield "at connect", f"{host.pinned} arms new connections, also once the daemon has ended; {end}"
    elif host.pinned:
        yield "at connect", f"{host.pinned} arms new connections without a daemon; keepalivectl disarm removes it"
    for problem in _problems(host):
        yield "problem", problem


def _daemon(host: Host) -> str:
    if host.daemon is None:
        return host.why
    version, pid, running = (host.daemon[key] for key in ("version", "pid", "running"))
    return f"tcp-keepalived {version}, running for {span(running)} (process {pid})"


def _settings(host: Host) -> Iterator[tuple[str, str]]:
    """Yield what stands in the system, what stood there before ours, and how that is restored."""
    if not host.applied:
        yield "settings", "left alone (keepalive.apply = false)"
    width = max((len(one.name) for one in host.settings), default=0)
    label = "settings"
    for one in host.settings if host.applied else ():
        yield label, f"{one.name.ljust(width)}  {_setting(one, host)}"
        label = ""
    if any(one.before is not None for one in host.settings):
        yield "undo", _undo(host)
    if host.applied and host.reload and any(map(_is_not_ours, host.settings)):
        yield "redo", f"if keepalivectl undo restored a setting, this sets it again: {host.reload}"


def _is_not_ours(one: Setting) -> bool:
    """Return whether a daemon has left a setting that it would set: not because what stands is stricter."""
    if one.note or one.before is not None or one.stands is None or one.stands == one.wanted:
        return False
    return one.stands > one.wanted or one.name.endswith("probes")


def _undo(host: Host) -> str:
    """Return what restores the settings."""
    if not host.stop:
        return "keepalivectl restore"
    return host.stop if host.restores else f"{host.stop}; keepalivectl restore (keepalive.restore_on_stop = false)"


def _setting(one: Setting, host: Host) -> str:
    if one.stands is None:
        return f"unknown; the configuration wants {one.wanted}"
    words = [str(one.stands)]
    if one.before is not None:
        by = f"set by process {host.process}" if host.process else "left behind by a daemon"
        words += [f"{one.before} stood before"] if host.daemon is not None else [by, f"{one.before} stood before"]
    if one.stands != one.wanted:
        words += filter(None, [f"the configuration wants {one.wanted}", one.note])
    return "; ".join(words)


def _connections(host: Host) -> str:
    counts = Counter(host.connections)
    by_verdict = ", ".join(f"{counts[verdict]} {verdict}" for verdict in WORST if counts[verdict])
    if guessed := counts["guessed"]:  # the safe ones are the last
        by_verdict += " by a guess" if guessed == counts["safe"] else f" ({guessed} by a guess)"
    namespaces = f" in {counts['namespaces']} namespaces" if counts["namespaces"] > 1 else ""
    hidden = " that were seen" if unwatched.blind(host.unwatched, host.netns) else ""
    once = " (by a single scan)" if host.daemon is None else ""
    said = f"{counts['total']}{namespaces}{hidden}"
    return f"{said}: {by_verdict}{once}" if by_verdict else f"{said}{once}"


def _units(host: Host) -> Iterator[tuple[str, str]]:
    """Yield the units with connections at risk, the worst first. Connections of no unit are grouped by their user."""
    groups = host.at_risk
    units: dict[tuple[str, int], list[str]] = {}
    for one in groups:
        risk = f"{one.count} {one.verdict.label}{'' if one.sure else '?'}{_first(one.left)}"
        units.setdefault((one.unit, 0 if one.unit else one.user), []).append(risk)
    label = "at risk"
    for (unit, user), risks in list(units.items())[:FEW]:
        name, command = unit, f"keepalivectl why {unit}"
        if not unit:
            name, command = f"uid {user}", f"keepalivectl sockets --at-risk --user {user}"
        yield label, "; ".join([f"{name}: {risks[0]}", *risks[1:], command])
        label = ""
    if len(units) > FEW:
        not_all = sum(one.count for one in groups) < sum(host.connections.get(each.label, 0) for each in AT_RISK)
        number = f"{'at least ' if not_all else ''}{len(units) - FEW}"
        yield "", f"and {number} others: keepalivectl sockets --at-risk"


def _first(left: float) -> str:
    """Return when the path forgets the first of several."""
    if math.isnan(left):
        return ""
    return f", the first in {span(left)}" if left >= 0 else f", the first {span(-left)} ago"


def _ends(ends: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what became of connections since the start, by path and unit."""
    kinds = {"foretold": "foretold", "missed": "not foretold", "unforeseeable": "not foreseeable"}
    label = "ended"
    for one in ends[:FEW]:
        ended = ", ".join(f"{one[key]} {words}" for key, words in kinds.items() if one[key])
        silences = "1 silence" if one["saved"] == 1 else f"{one['saved']} silences"
        saved = f"{silences} survived by arming" if one["saved"] else ""
        unit = f"{one['unit']} " if one["unit"] else ""
        yield label, f"{unit}on path {quoted(one['path'])}: {'; '.join(filter(None, (ended, saved)))}"
        label = ""
    if ends:
        more = f"and {len(ends) - FEW} others; " if len(ends) > FEW else ""
        yield "", f"{more}keepalivectl deaths lists what ended them"
