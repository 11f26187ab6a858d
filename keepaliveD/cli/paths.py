"""keepalivectl paths and presets: what lies between this host and its peers, and what products do there."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keepaliveD.cli import arguments, running, table
from keepaliveD.cli.asking import ask as ask_daemon
from keepaliveD.cli.asking import control_socket
from keepaliveD.cli.worker import in_worker, look
from keepaliveD.config import load
from keepaliveD.config.catalogue import catalogue
from keepaliveD.log import entries
from keepaliveD.model.connections import Counts, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER, exact, span
from keepaliveD.model.errors import Refusal
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportUnwatched
from keepaliveD.model.results import Outcome
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.rules import Watching
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect
from keepaliveD.policy.judge import count_by_path
from keepaliveD.policy.meaning import longest

VERDICTS = (Verdict.CUT, Verdict.BARE, Verdict.LATE, Verdict.UNKNOWN, Verdict.SAFE)  # the worst first
OF_SCAN = ("PATH", "TIMEOUT", "COUNTS", "KEEPALIVE", *(verdict.name for verdict in VERDICTS))
PATHS = (*OF_SCAN, "DEATHS", "SAVES", "ORIGIN")
Told = Mapping[str, Mapping[str, Any]]  # what a running daemon tells of each path, by name
UNKNOWN = "-"  # without a daemon that counts
PRESETS = ("PRESET", "TIMEOUT", "COUNTS", "THEN", "PRODUCT", "SOURCE")


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
    """One look at the sockets, by path, and what a running daemon has seen of each."""
    platform = detect(options.platform, root)
    config = load(running.its_file(options, root)).within(platform.cloud())
    told = _told(root)
    config = dataclasses.replace(config, paths=_with_evidence(config.paths, told))
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as ask:
        judgement = look(ask, config, config.ignore)
    counts = count_by_path(judgement)
    print((_as_json if options.json else _for_people)(config.paths, counts, told))
    for entry in entries.of(Outcome(ReportUnwatched(judgement.table.unwatched))):
        print(f"warning: {entry.message}", file=sys.stderr)
    running.note_running_daemon(
        options.state_dir, root, f"this list is a single scan by keepalivectl ({judgement.table.engine_description})"
    )


def _told(root: Path) -> Told:
    """Return what a running daemon tells; nothing where none runs, or it may not be asked."""
    try:
        return {one["name"]: one for one in ask_daemon(control_socket(root), "ListPaths")["paths"]}
    except Refusal:
        return {}


def _with_evidence(paths: Sequence[NetworkPath], told: Told) -> tuple[NetworkPath, ...]:
    """Return the paths with the timeouts that a running daemon has shortened by evidence, where they are guesses."""
    return tuple(
        dataclasses.replace(path, timeout=one["timeout"], origin=Origin(Source.EVIDENCE, one["detail"]))
        if path.origin.guessed and (one := told.get(path.name)) and one["source"] == Source.EVIDENCE.value
        else path
        for path in paths
    )


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


def _for_people(paths: Sequence[NetworkPath], counts: Sequence[Counts], told: Told) -> str:
    """The table, and below it what evidence says against a timeout, with what to write."""
    seen = [told.get(path.name, {}) for path in paths]
    rows = [
        (
            printable(path.name),
            "never" if path.timeout == FOREVER else span(path.timeout),
            path.counts.value,
            _keepalive(path),
            *(str(of_path.by_verdict[verdict]) for verdict in VERDICTS),
            *(str(its.get(count, UNKNOWN)) for count in ("ended", "saved")),
            str(path.origin),
        )
        for path, of_path, its in zip(paths, counts, seen, strict=True)
    ]
    advice = [f"advice: {printable(its['advice'])}" for its in seen if its.get("advice")]
    return "\n".join([table.columns(PATHS, rows), *advice])


def _keepalive(path: NetworkPath) -> str:
    if path.counts is WhatCounts.DATA:
        return "no help"
    if path.origin.source is Source.EVIDENCE:
        return "measure first"
    within = _within(path)
    return "not needed" if within is None else f"<= {within}s" if within else "too short"


def _within(path: NetworkPath) -> int | None:
    """Return the longest idle time and interval of a keepalive, in whole seconds, that keeps connections there.

    None is derived from evidence.
    """
    none = path.timeout == FOREVER or path.counts is WhatCounts.DATA or path.origin.source is Source.EVIDENCE
    return None if none else longest(path.timeout)


def _as_json(paths: Sequence[NetworkPath], counts: Sequence[Counts], told: Told) -> str:
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
                "connections": {verdict.label: of_path.by_verdict[verdict] for verdict in VERDICTS},
                **{key: told.get(path.name, {}).get(key) for key in ("ended", "saved", "advice")},
            }
            for path, of_path in zip(paths, counts, strict=True)
        ],
        indent=1,
    )
