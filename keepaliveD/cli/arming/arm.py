"""keepalivectl arm: keepalive in the open sockets of other programs, by hand and without a daemon."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from keepaliveD.cli import arguments, state
from keepaliveD.cli.arming.results import Results
from keepaliveD.cli.asking import running
from keepaliveD.cli.asking.its_files import its_file
from keepaliveD.cli.asking.orders import show_it
from keepaliveD.cli.printing.fitting import say, tell
from keepaliveD.cli.targets import named, targets
from keepaliveD.cli.targets.nearest import LISTS
from keepaliveD.cli.worker import Asking, in_worker
from keepaliveD.config import Config, load
from keepaliveD.config.units import with_suffix
from keepaliveD.daemon.perform import Performer
from keepaliveD.model import duration
from keepaliveD.model.actions import Arm
from keepaliveD.model.errors import (
    Misuse,
    NoInput,
)
from keepaliveD.model.keepalive import MAX_IDLE, MAX_PROBES
from keepaliveD.model.rules import ArmAction, ArmRule, Watching
from keepaliveD.model.sockets import Indices, TcpState
from keepaliveD.model.text import printable, quoted
from keepaliveD.platforms import detect
from keepaliveD.platforms.requests import scan
from keepaliveD.policy.arming.arming import by_hand
from keepaliveD.policy.arming.meaning import ENOUGH
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import Judgement, judge
from keepaliveD.records.both import records_in

AUTO = "auto"


def add_arm(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl arm`."""
    command.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="a process id, the HOST:PORT of either end of a connection, or its cookie",
    )
    command.add_argument(
        "--unit",
        metavar="UNIT",
        type=with_suffix,
        help="arm all connections of this systemd unit, or of all units that match a pattern",
    )
    command.add_argument(
        "--idle",
        metavar="TIME",
        type=_idle,
        default=AUTO,
        help="quiet time before the first probe (default: auto, the longest time that leaves two probes before the "
        "path forgets)",
    )
    command.add_argument(
        "--interval",
        metavar="TIME",
        type=_seconds,
        help="time between unanswered probes (default: keepalive.interval)",
    )
    command.add_argument(
        "--probes",
        metavar="NUMBER",
        type=_probes,
        help="number of unanswered probes that ends a connection (default: keepalive.probes)",
    )
    command.add_argument("--dry-run", action="store_true", help="change nothing, only report what would be done")
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=arm_connections, order=True)


def _seconds(text: str) -> int:
    try:
        seconds = duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not (1 <= seconds <= MAX_IDLE and seconds == int(seconds)):
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; write whole seconds from 1s to {MAX_IDLE}s")
    return int(seconds)


def _idle(text: str) -> int | str:
    return AUTO if text == AUTO else _seconds(text)


def _probes(text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 1 to {MAX_PROBES}")
    if not 1 <= (number := named.number(text, MAX_PROBES)) <= MAX_PROBES:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; write 1 to {MAX_PROBES}")
    return number


def arm_connections(options: argparse.Namespace, root: Path) -> None:
    """Switch keepalive on in the connections that were named."""
    platform = detect(root=root)
    config = load(its_file(options, root)).within(platform.cloud())
    with in_worker(platform.open, Watching(with_interfaces=config.selects_by_interface)) as ask:
        look = judge(ask(scan(time.monotonic())), nothing_known(), config.paths, ())
        chosen = _named(options, ask, look)
        if not len(chosen):
            raise _nothing(options, ask, look)
        records = None if options.dry_run else records_in(options.state_dir, platform.tuner)
        if records:
            state.unrecorded(platform, running.running(options.state_dir, root), root)
        performer = Performer(platform, records)
        rule = _rule(options, config)
        with Results(log=not options.dry_run) as report:
            for action in by_hand(look, look.table.sockets["cookie"][chosen].tolist(), rule):
                _warn_of_interval(action, options.interval)
                report.add(ask(performer.perform(action)))
    if records and (daemon := running.running(options.state_dir, root)):
        show_it(daemon, root)
    for line in records.arming.damaged() if records else ():
        tell("warning", line)
    if not report.entries:
        say("nothing to arm: all connections are already set, or closed meanwhile")
    report.raise_failure()


def _nothing(options: argparse.Namespace, ask: Asking, look: Judgement) -> NoInput:
    """Return what to raise where what the command line names has no connection to arm."""
    if options.unit is not None:
        sockets = look.table.sockets
        return targets.no_unit(options.unit, ask, sockets, np.arange(len(sockets)))
    target = printable(named.described(options.target))
    return NoInput(f"{target} has no established connection; {LISTS}")


def _warn_of_interval(action: Arm, wanted: int | None) -> None:
    """Warn where the path is too short for the interval that was asked for."""
    for wish in action.wishes:
        if wanted and wish.times.interval < wanted:
            path = action.connections[0]
            tell(
                "warning",
                f"--interval {duration.exact(wanted)} is too long for path {quoted(path.path)}, which forgets "
                f"after {duration.span(path.timeout)} ({path.origin}): used {duration.exact(wish.times.interval)}, "
                f"so that {ENOUGH} probes leave in time",
            )


def _named(options: argparse.Namespace, ask: Asking, look: Judgement) -> Indices:
    """The rows of those that the command line means."""
    if options.target is not None and options.unit is not None:
        raise Misuse("name TARGET or --unit, not both")
    if options.target is None and options.unit is None:
        raise Misuse("name TARGET (a process id, HOST:PORT or a cookie) or --unit")
    sockets = look.table.sockets
    established = np.flatnonzero(sockets["state"] == TcpState.ESTABLISHED.value)
    if options.unit is not None:
        return targets.of_unit(options.unit, ask, sockets, established)
    try:
        return targets.of_process_or_end(options.target, ask, sockets, established)
    except Misuse as misuse:
        if not named.is_name(options.target):
            raise
        raise Misuse(f"{misuse}; --unit takes the name of a unit") from misuse


def _rule(options: argparse.Namespace, config: Config) -> ArmRule:
    """What was asked for; what was not, as in the configuration."""
    keepalive = config.keepalive
    idle = options.idle
    interval = options.interval or keepalive.interval
    if isinstance(idle, int) and interval > idle:
        name = "--interval" if options.interval else "keepalive.interval"
        most = duration.exact(idle)
        raise Misuse(
            f"{name} {duration.exact(interval)} is longer than --idle {most}; write --interval with at most {most}"
        )
    return ArmRule(
        "hand",
        ArmAction.ENABLE,
        idle if isinstance(idle, int) else None,
        interval,
        options.probes or keepalive.probes,
    )
