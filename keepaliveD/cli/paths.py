"""keepalivectl paths and presets: list the networks between this host and its peers, and the timeouts of products."""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import daemons_view, its_files, whose_view
from keepaliveD.cli.asking.asking import ask as ask_daemon
from keepaliveD.cli.asking.asking import control_socket
from keepaliveD.cli.printing import table
from keepaliveD.cli.printing.fitting import tell
from keepaliveD.cli.worker import in_worker, look
from keepaliveD.config import load
from keepaliveD.config.catalogue import catalogue
from keepaliveD.log import entries
from keepaliveD.log.words import own_namespace
from keepaliveD.model.connections import Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER, exact, span
from keepaliveD.model.errors import KernelError
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Unwatched
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect
from keepaliveD.policy.arming.meaning import longest
from keepaliveD.policy.verdicts.judge import count_by_path

VERDICTS = (Verdict.CUT, Verdict.BARE, Verdict.LATE, Verdict.UNKNOWN, Verdict.SAFE)  # the worst first
OF_SCAN = ("PATH", "TIMEOUT", "COUNTS", "KEEPALIVE", *(verdict.name for verdict in VERDICTS))
PATHS = (*OF_SCAN, "DEATHS", "SAVES", "ORIGIN")
RANKS = (9, 9, 1, 4, *(9 for _ in VERDICTS), 3, 2, 0)  # of these: in a narrow terminal the lowest is left out first
SHORTEST_ORIGIN = 24  # characters
ROUTES = ("PATH", "INTERFACE", "NEXT HOP", "SURVIVED", "LONGEST", "FORGOTTEN", "SHORTEST")
SEEN = ("ended", "saved", "advice", "routes")  # what only a daemon knows, which has watched
UNKNOWN = "-"  # without a daemon that counts
PRESETS = ("PRESET", "TIMEOUT", "COUNTS", "THEN", "PRODUCT", "SOURCE")


class Row(NamedTuple):
    """A path with its connections, and what a daemon has seen of it: values of SEEN, without a daemon nothing."""

    path: NetworkPath
    connections: Mapping[Verdict, int]
    seen: Mapping[str, Any]


class View(NamedTuple):
    """All paths, what is not watched, whose view that is, or "", and the network namespace of who has scanned."""

    rows: Sequence[Row]
    unwatched: Unwatched
    whose: str
    netns: int


def add_paths(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl paths`."""
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    arguments.add_config(command)
    arguments.add_state(command)
    arguments.add_platform(command)
    command.set_defaults(command=list_paths)


def add_presets(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl presets`."""
    command.add_argument("preset", metavar="PRESET", nargs="?", choices=[*catalogue()], help="only this preset")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.set_defaults(command=list_presets)


def list_paths(options: argparse.Namespace, root: Path) -> None:
    """Print the paths: as a daemon sees them, if it can be asked, or else by a scan."""
    view, why = None, ""
    if not (options.config or options.platform):
        view, why = whose_view.answer_or_why(lambda: _daemons_view(root), options.state_dir, root)
    rows, unwatched, whose, netns = view or _scan(options, root, why)
    print((_as_json if options.json else _for_people)(rows))
    for entry in entries.of_unwatched(unwatched, netns):
        tell("warning", entry.message)
    if whose:
        tell("note", whose)


def _daemons_view(root: Path) -> View:
    """Ask the daemon. Raises NoInput where none can be asked, NotPermitted, KernelError."""
    status, rows = told(root)
    age = daemons_view.last_scan(status)
    return View(
        rows, daemons_view.unwatched(status["unwatched"]), daemons_view.whose(status, age, "paths"), status["netns"]
    )


def told(root: Path) -> tuple[Mapping[str, Any], Sequence[Row]]:
    """Return how the daemon is, and what it says of the paths. Raises NoInput, NotPermitted, KernelError."""
    control = control_socket(root)
    status, listed = ask_daemon(control, "Status"), ask_daemon(control, "ListPaths")
    try:
        return status, [_told(one) for one in listed["paths"]]
    except (KeyError, TypeError, ValueError) as error:
        raise KernelError(f"{control}: the daemon is of another version: {error}") from error


def _told(one: Mapping[str, Any]) -> Row:
    """Return what a daemon says of a path. Raises KeyError, TypeError, ValueError where it is of another version."""
    path = NetworkPath(
        name=one["name"],
        timeout=FOREVER if one["timeout"] is None else one["timeout"],
        origin=Origin(Source(one["source"]), one["detail"]),
        networks=tuple(map(ipaddress.ip_network, one["networks"])),
        ports=tuple(one["ports"]),
        interface=one["interface"],
        counts=WhatCounts(one["counts"]),
    )
    return Row(
        path, {verdict: one["connections"][verdict.label] for verdict in Verdict}, {key: one[key] for key in SEEN}
    )


def _scan(options: argparse.Namespace, root: Path, why: str) -> View:
    """Scan; `why` no daemon was asked, "" where nobody wanted that."""
    platform = detect(options.platform, root)
    config = load(its_files.its_file(options, root)).within(platform.cloud())
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as ask:
        judgement = look(ask, config, config.ignore)
    counts = count_by_path(judgement)
    rows = [Row(path, of_path.by_verdict, {}) for path, of_path in zip(config.paths, counts, strict=True)]
    whose = whose_view.whose_scan(options, root, why, judgement.table.engine_description)
    return View(rows, judgement.table.unwatched, whose, own_namespace())


def list_presets(options: argparse.Namespace, _root: Path) -> None:
    """Print the catalogue, the shortest idle timeout first, or one preset of it."""
    wanted = {name: preset for name, preset in catalogue().items() if options.preset in (None, name)}
    if options.json:
        presets = [
            {"preset": name, **preset._asdict(), "counts": preset.counts.value} for name, preset in wanted.items()
        ]
        print(json.dumps(presets, indent=1))
        return
    rows = [
        (name, exact(preset.timeout), preset.counts.value, preset.then, preset.product, preset.source)
        for name, preset in wanted.items()
    ]
    print(table.columns(PRESETS, rows))


def _for_people(rows: Sequence[Row]) -> str:
    """The table, and below it what evidence says against a timeout, with what to write."""
    cells = [
        (
            printable(path.name),
            "never" if path.timeout == FOREVER else span(path.timeout),
            path.counts.value,
            _keepalive(path),
            *(str(connections[verdict]) for verdict in VERDICTS),
            *(str(seen.get(count, UNKNOWN)) for count in ("ended", "saved")),
            str(path.origin),
        )
        for path, connections, seen in rows
    ]
    routes = [(row.path.name, route) for row in rows for route in row.seen.get("routes", ())]
    advised = [row.seen["advice"] for row in rows if row.seen.get("advice")]
    advised += [route["advice"] for _, route in routes if route["advice"]]
    return "\n".join(
        [
            table.columns(PATHS, cells, RANKS, SHORTEST_ORIGIN, "--json"),
            *([] if not routes else ["", table.columns(ROUTES, [_by_route(*each) for each in routes])]),
            *(f"advice: {printable(advice)}" for advice in advised),
        ]
    )


def _by_route(path: str, route: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what connections of a path have shown by one interface and next hop, a cell for each of ROUTES."""
    return (
        printable(path),
        printable(route["interface"]),
        printable(route["next_hop"]) or UNKNOWN,
        str(route["survived"]),
        span(route["longest"]) if route["survived"] else UNKNOWN,
        str(route["died"]),
        span(route["shortest"]) if route["died"] else UNKNOWN,
    )


def _keepalive(path: NetworkPath) -> str:
    if path.counts is WhatCounts.DATA:
        return "no help"
    if path.origin.source is Source.EVIDENCE:
        return "measure first"
    within = _within(path)
    return "not needed" if within is None else f"<= {exact(within)}" if within else "too short"


def _within(path: NetworkPath) -> int | None:
    """Return the longest idle time and interval of a keepalive, in whole seconds, that keeps connections there.

    None is derived from evidence.
    """
    none = path.timeout == FOREVER or path.counts is WhatCounts.DATA or path.origin.source is Source.EVIDENCE
    return None if none else longest(path.timeout)


def _as_json(rows: Sequence[Row]) -> str:
    """An array of objects; times are seconds, null is never, no keepalive, or not known without a daemon."""
    return json.dumps(
        [
            {
                "name": path.name,
                "timeout": None if path.timeout == FOREVER else path.timeout,
                "origin": {"source": path.origin.source.value, "detail": path.origin.detail},
                "counts": path.counts.value,
                "keepalive_within": _within(path),
                "networks": [str(network) for network in path.networks],
                "ports": list(path.ports),
                "interface": path.interface,
                "connections": {verdict.label: connections[verdict] for verdict in VERDICTS},
                **{key: seen.get(key) for key in SEEN},
            }
            for path, connections, seen in rows
        ],
        indent=1,
    )
