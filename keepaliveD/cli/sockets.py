"""keepalivectl sockets: list connections, or judge them for a monitoring system."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import pwd
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import daemons_view, its_files, unwatched, whose_view
from keepaliveD.cli.asking.daemons_view import View
from keepaliveD.cli.printing import table
from keepaliveD.cli.printing.columns import EACH, GROUPS, MORE, grouped
from keepaliveD.cli.printing.fitting import tell
from keepaliveD.cli.targets import units
from keepaliveD.cli.targets.named import number
from keepaliveD.cli.targets.nearest import did_you_mean, processes
from keepaliveD.cli.targets.targets import PROC
from keepaliveD.cli.worker import in_worker, look
from keepaliveD.config import load
from keepaliveD.config.units import with_suffix
from keepaliveD.log import entries
from keepaliveD.log.words import own_namespace
from keepaliveD.model.connections import AT_RISK, Connection, Verdict
from keepaliveD.model.errors import NoInput, Refusal
from keepaliveD.model.rules import ArmAction, ArmRule, IPNetwork, Watching
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import find_owners
from keepaliveD.policy.arming.arming import concerned, matches_owner
from keepaliveD.policy.verdicts.connections import connections, order_of_urgency

SUBFLOWS = 'connections marked (MPTCP) are subflows and cannot be armed: requires watch.engine = "bpf"'
WIDE = "--wide"
VERDICTS = tuple(verdict.label for verdict in Verdict)
MAX_PORT = 65535
MAX_INODE = 2**32 - 1
OK, WARNING, CRITICAL, UNKNOWN = range(4)  # exit statuses of monitoring-plugins.org
STATUS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def add_sockets(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl sockets`."""
    command.add_argument("--each", action="store_true", help="list each connection, not each owner and verdict")
    command.add_argument("--at-risk", action="store_true", help="list only connections at risk")
    command.add_argument("--all", action="store_true", help="also list connections to the networks in watch.ignore")
    command.add_argument("--scan", action="store_true", help="scan now, instead of asking the daemon for its last scan")
    _add_filters(command)
    command.add_argument(
        "-o",
        "--columns",
        metavar="NAMES",
        type=_names,
        help="show these columns of each connection, separated by commas: "
        + ", ".join(column.name for column in (*EACH, *MORE)),
    )
    command.add_argument(WIDE, action="store_true", help="show all columns, and cut no line")
    output = command.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON, for programs")
    output.add_argument(
        "--check", action="store_true", help="print one line and exit with 0, 1, 2 or 3, as plugins of Nagios do"
    )
    arguments.add_config(command)
    arguments.add_state(command)
    arguments.add_platform(command)
    command.set_defaults(command=list_sockets)


def _add_filters(command: argparse.ArgumentParser) -> None:
    """Selectors as those of [[arm]]; one that is given twice means either."""
    for flag, metavar, kind, words in (
        ("--unit", "UNIT", with_suffix, "only connections of this systemd unit, or of units that match a pattern"),
        ("--process", "NAME", str, "only connections of processes with this name, or whose name matches a pattern"),
        ("--user", "USER", _uid, "only connections of this user"),
        ("--peer", "NETWORK", _network, "only connections to this address or network"),
        ("--port", "PORT", _port, "only connections with this port at either end"),
        ("--path", "PATH", str, "only connections on this path, or on paths that match a pattern"),
        ("--namespace", "INODE", _inode, "only connections in this network namespace"),
    ):
        command.add_argument(flag, metavar=metavar, type=kind, action="append", default=[], help=words)
    command.add_argument(
        "--verdict",
        choices=VERDICTS,
        action="append",
        default=[],
        help="only connections with this verdict",
    )


def list_sockets(options: argparse.Namespace, root: Path) -> int:
    """Scan once; print what was asked for, and return the exit status."""
    if not options.check:
        _print(options, root)
        return OK
    try:
        return _check(options, root)
    except Refusal as refusal:
        print(f"KEEPALIVE UNKNOWN: {printable(str(refusal))}")
        return UNKNOWN


def _print(options: argparse.Namespace, root: Path) -> None:
    found, missing, whose, netns, near = _look(options, root)
    if options.json:
        print(table.as_json(found))
    elif options.columns:
        columns = [column for name in options.columns for column in (*EACH, *MORE) if column.name == name]
        print(table.shown(found, columns, whole=options.wide, chosen=True))
    elif options.each:
        print(table.shown(found, (*EACH, *MORE) if options.wide else EACH, whole=options.wide, option=WIDE))
    else:
        print(table.shown(grouped(found), GROUPS, whole=options.wide, option=WIDE))
    for entry in entries.of_unwatched(missing, netns):
        tell("warning", entry.message)
    if any(connection.subflow and connection.verdict in AT_RISK for connection in found):
        tell("warning", SUBFLOWS)
    if near:
        tell("note", f"no connection is selected{near}")
    if whose:
        tell("note", whose)


def _check(options: argparse.Namespace, root: Path) -> int:
    """Print the state in one line, with numbers for a graph; return the status."""
    view = _look(options, root)
    found = view.connections
    if not found and (wrong := next(filter(units.is_missing, options.unit), "")):
        near = view.near or "; systemctl list-units --all lists them"
        raise NoInput(f"{wrong}: this host has no such unit{near}")
    counts = Counter(one.verdict for one in found)
    # an error in a file, which the daemon has not read, hides no connection that is gone
    warn_before = 0.0 if counts[Verdict.CUT] else load(its_files.its_file(options, root)).warn_before
    status = max((_badness(one, warn_before) for one in found), default=OK)
    risks = ", ".join(f"{counts[verdict]} {verdict.label}" for verdict in sorted(AT_RISK, reverse=True))
    numbers = " ".join(f"{verdict.label}={counts[verdict]}" for verdict in Verdict)
    told = view.unwatched._asdict()
    blind, others = unwatched.blind(told, view.netns, options.namespace), unwatched.summary(told, view.netns)
    if blind and status != CRITICAL:  # what is known to be critical stays so
        status = UNKNOWN
    why = f"{blind}; " if blind else ""
    more = f"; not watched: {others}" if others and not blind else ""
    guessed = sum(one.rests_on_guess for one in found)
    safe = f", {guessed} safe by a guess" if guessed else ""
    print(f"KEEPALIVE {STATUS[status]}: {why}{risks} of {len(found)} connections{safe}{more} | {numbers}")
    return status


def _badness(one: Connection, warn_before: float) -> int:
    """Return the status that one connection is worth: critical is what is lost, or will be within `warn_before`."""
    if one.verdict not in AT_RISK:
        return OK
    return CRITICAL if one.verdict is Verdict.CUT or one.left <= warn_before else WARNING


def _look(options: argparse.Namespace, root: Path) -> View:
    """Return the connections that were asked for, the most urgent first: as the daemon sees them, if it can be asked.

    It does not know those to networks in watch.ignore, and follows a configuration of its own.
    """
    platform, selector = detect(options.platform, root), _selector(options)
    view, why = None, ""
    if not (options.scan or options.all or options.config or options.platform):
        view, why = whose_view.answer_or_why(
            lambda: daemons_view.look(root, platform, _narrowed(selector, options), options.namespace),
            options.state_dir,
            root,
        )
    view = view or _scan(options, root, platform, selector, why)
    wanted = [
        one
        for one in view.connections
        if matches_owner(selector, one.owner) and not (options.at_risk and one.verdict not in AT_RISK)
    ]
    return view._replace(connections=wanted, near="" if wanted else _near(options, view.connections))


def _near(options: argparse.Namespace, connections: Sequence[Connection]) -> str:
    """Return the end of a sentence that offers the unit or process that may have been meant, "" where none is near."""
    owners = [one.owner for one in connections]
    hints = (
        *(did_you_mean(unit, [owner.unit for owner in owners], units.names()) for unit in options.unit),
        *(did_you_mean(name, [owner.process for owner in owners], processes(PROC)) for name in options.process),
    )
    return next(filter(None, hints), "")


def _narrowed(selector: ArmRule, options: argparse.Namespace) -> ArmRule:
    if options.at_risk and not selector.verdicts:
        return dataclasses.replace(selector, verdicts=tuple(AT_RISK))
    return selector


def _scan(options: argparse.Namespace, root: Path, platform: Platform, selector: ArmRule, why: str) -> View:
    """Scan, and return the connections that may be wanted, with their owners."""
    config = load(its_files.its_file(options, root)).within(platform.cloud())
    ignore = () if options.all else config.ignore
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, ignore)
    with in_worker(platform.open, watching) as ask:
        judgement = look(ask, config, ignore)
        rows = order_of_urgency(judgement, at_risk_only=options.at_risk)
        rows = rows[concerned(judgement, selector, rows)]
        if options.namespace:
            rows = rows[np.isin(judgement.table.sockets["netns"][rows], options.namespace)]
        named = ask(find_owners(connections(judgement, rows)))
    whose = whose_view.whose_scan(options, root, why, judgement.table.engine_description)
    return View(named, judgement.table.unwatched, whose, own_namespace())


def _selector(options: argparse.Namespace) -> ArmRule:
    """Return the options as selectors of a rule, so that they mean what they mean in the configuration."""
    return ArmRule(
        "sockets",
        ArmAction.OBSERVE,
        None,
        1,
        1,
        units=tuple(options.unit),
        processes=tuple(options.process),
        users=tuple(options.user),
        networks=tuple(options.peer),
        ports=tuple(options.port),
        paths=tuple(options.path),
        verdicts=tuple(Verdict[label.upper()] for label in options.verdict),
    )


def _names(text: str) -> list[str]:
    known = [column.name for column in (*EACH, *MORE)]
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not a column; choose from {', '.join(known)}")
    return names


def _uid(text: str) -> int:
    if text.isdecimal():
        return number(text, MAX_INODE)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a user of this system") from None


def _network(text: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address or a network; write one such as 10.20.0.9 or 10.20.0.0/16"
        ) from None


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= number(text, MAX_PORT) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; write 1 to {MAX_PORT}")
    return int(text)


def _inode(text: str) -> int:
    digits = text.removeprefix("net:[").removesuffix("]")  # as a link in /proc/PID/ns says it
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a namespace; write its inode, as lsns --type=net shows it")
    return number(digits, MAX_INODE)
