"""Explain connections by a scan of our own: no daemon runs, or it does not know them."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keepaliveD.cli import state
from keepaliveD.cli.asking import its_files, running
from keepaliveD.cli.targets import targets
from keepaliveD.cli.why import forgotten
from keepaliveD.cli.why.armed import REQUIRES_ROOT
from keepaliveD.cli.why.for_people import View
from keepaliveD.cli.why.host import Host
from keepaliveD.cli.worker import Asking, by_single_scan, in_worker, look
from keepaliveD.config import Config, load
from keepaliveD.daemon.control import orders
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import (
    NotPermitted,
    Refusal,
    Unfinished,
    Unsupported,
)
from keepaliveD.model.explained import Explained
from keepaliveD.model.results import Armed, Entry
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import find_owners, look_into, with_firewall_about
from keepaliveD.policy.answers.explain import Surroundings, explain
from keepaliveD.policy.verdicts import turns
from keepaliveD.policy.verdicts.connections import connections, order_of_urgency
from keepaliveD.policy.verdicts.judge import Judgement
from keepaliveD.records.both import records_in

MISSED = "or the scan missed it: it did not see all sockets"
ENDED = "; keepalivectl deaths lists those that ended"
EXPLAINED = 500  # connections whose sockets are read at most, of each user in turn; the others are only counted


def scanned(options: argparse.Namespace, root: Path, given: Path | None) -> View:
    """Scan, and explain the connections that were named, by the configuration that is given or else followed."""
    platform = detect(root=root)
    options.config = given or its_files.its_file(options, root)
    view = _look(options, root, load(options.config).within(platform.cloud()), platform)
    if not given and options.config != (its := its_files.file_for(options.state_dir, root)):
        options.config = its  # of a daemon that has started since
        view = _look(options, root, load(its).within(platform.cloud()), platform)
    if view.unrecorded and not view.host.hidden and _says_whose(view.explained):
        print(
            "note: what is said to be its program's may be the daemon's, which may have armed it at connect: "
            f"{view.unrecorded}",
            file=sys.stderr,
        )
    return view


def _look(options: argparse.Namespace, root: Path, config: Config, platform: Platform) -> View:
    """Scan, find the connections and read what stands in their sockets.

    Raises NoInput where there are none, Unfinished where some may be.
    """
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface)
    with in_worker(platform.open, watching) as ask:
        judgement = look(ask, config, ())
        urgent = order_of_urgency(judgement, at_risk_only=False)
        chosen = targets.of_anything(options.target, ask, judgement.table.sockets, urgent)
        if not len(chosen):
            refusal = targets.nothing(options.target, ask, judgement.table.sockets, urgent, more=ENDED)
            raise refusal if judgement.table.complete else Unfinished(f"{refusal}; {MISSED}")
        some = connections(judgement, turns.shared(judgement.table, chosen, EXPLAINED))
        judgement = by_single_scan(ask(with_firewall_about(judgement, some)))
        urgent = order_of_urgency(judgement, at_risk_only=False)
        chosen = urgent[np.isin(urgent, chosen)]
        some = ask(find_owners(connections(judgement, turns.shared(judgement.table, chosen, EXPLAINED))))
        daemon = running.running(options.state_dir, root)
        unrecorded = state.unrecorded(platform, daemon, root)  # before the records are read
        around = Surroundings(config.keepalive, config.arm, config.ignore, {})
        explained = _explain(ask, judgement, some, around, lambda: _entries(options, platform))
    host = _host(options, platform, some, runs=bool(daemon))._replace(interval=config.interval)
    if _says_whose(explained):
        host = host._replace(hidden=_hidden(options, platform, root))
    plain = [orders.explained(one) for one in explained] if options.json else []
    return View(explained, len(chosen) - len(some), daemon, host, unrecorded, plain)


def _explain(
    ask: Asking,
    judgement: Judgement,
    some: Sequence[Connection],
    around: Surroundings,
    recorded: Callable[[], Mapping[int, Entry]],
) -> list[Explained]:
    """Explain these connections by what stands in their sockets, and by what is recorded of them.

    A daemon may arm a socket between the two. What was armed with other times than were read is therefore read again,
    so that nobody takes the daemon for the program.
    """
    looked = _read(ask, some)
    around = around._replace(entries=recorded())
    explained = explain(judgement, some, looked, around)
    if any(isinstance(one.entry, Armed) and one.armed is None for one in explained):
        explained = explain(judgement, some, _read(ask, some), around)
    return explained


def _host(options: argparse.Namespace, platform: Platform, some: Sequence[Connection], *, runs: bool) -> Host:
    """Return what is known of the host; of the settings record only as far as it may be read."""
    ended = forgotten.known(options.state_dir, some)
    with contextlib.suppress(Refusal):
        if found := SystemSettings(platform.tuner, records_in(options.state_dir, platform.tuner).settings).without_us():
            return Host(runs, *found, ended)
    return Host(runs, forgotten=ended)


def _read(ask: Asking, connections: Sequence[Connection]) -> Column | None:
    """Return what stands in these sockets; None where it cannot be read here."""
    try:
        return ask(look_into(connections))
    except (NotPermitted, Unsupported):
        return None


def _entries(options: argparse.Namespace, platform: Platform) -> dict[int, Entry]:
    """Return what is recorded of armed sockets, and what was armed at connect, as far as it may be read."""
    entries: dict[int, Entry] = {}
    with contextlib.suppress(Refusal):
        entries.update(platform.at_connect.armed())
    with contextlib.suppress(Refusal):
        entries.update(records_in(options.state_dir, platform.tuner).arming.entries())
    return entries


def _says_whose(explained: Sequence[Explained]) -> bool:
    """Return whether the page says of a connection that its program switched keepalive on."""
    return any(one.found and one.found.stands.on and one.entry is None for one in explained)


def _hidden(options: argparse.Namespace, platform: Platform, root: Path) -> str:
    """Return why what is recorded of armed sockets cannot be read here; "" where it can."""
    refusal = its_files.elsewhere(options.state_dir, root)
    try:
        records_in(options.state_dir, platform.tuner).arming.entries()
    except Refusal as error:
        refusal = error
    return REQUIRES_ROOT if isinstance(refusal, NotPermitted) else str(refusal or "")
