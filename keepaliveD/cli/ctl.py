"""keepalivectl: what a person types. Needs no daemon; `sockets` and `check` need no root."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from keepaliveD.cli import (
    arguments,
    arming,
    changes,
    deaths,
    measure,
    metrics,
    paths,
    report,
    running,
    sockets,
    status,
    why,
)
from keepaliveD.config import doubts, load
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.log import entries
from keepaliveD.model.errors import NotPermitted, RecordDamaged, Unsupported
from keepaliveD.model.results import Outcome
from keepaliveD.model.rules import Watching
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect

BESIDE_OTHERS = "; until it is removed, the root cgroup takes no sock_ops program without BPF_F_ALLOW_MULTI"


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """The entry point; the system's files and commands are looked for below `root`."""
    command = parser()
    options = command.parse_args(argv)
    return arguments.run(command.prog, lambda: options.command(options, root))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = arguments.Parser(
        prog="keepalivectl",
        description="List TCP connections that firewalls will forget, keep them alive, and check the configuration.",
    )
    arguments.add_common(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    status.add_status(commands.add_parser("status", help="show how the daemon and this host are"))
    status.add_monitor(commands.add_parser("monitor", help="print what the daemon logs, as it comes"))

    sockets.add_sockets(
        commands.add_parser("sockets", help="list connections, with the verdict and the next packet of each")
    )

    metrics.add_metrics(commands.add_parser("metrics", help="print metrics for Prometheus"))

    why.add_why(commands.add_parser("why", help="explain connections: what becomes of each, why, and what would help"))

    paths.add_paths(commands.add_parser("paths", help="list paths, with idle timeout and connections of each"))
    paths.add_presets(commands.add_parser("presets", help="list products with their factory-default idle timeouts"))

    check = commands.add_parser("check", help="check the configuration and explain what it means")
    check.add_argument(
        "file", metavar="FILE", nargs="?", type=Path, help="the configuration to check, instead of the one in /etc"
    )
    check.add_argument("--quiet", action="store_true", help="print only errors")
    check.set_defaults(command=check_configuration)

    engine = commands.add_parser("engine", help="show which engine reads the sockets on this machine, and why")
    arguments.add_config(engine)
    arguments.add_state(engine)
    arguments.add_platform(engine)
    engine.set_defaults(command=print_engine)

    arming.add_arm(commands.add_parser("arm", help="switch keepalive on, or shorten it, in open connections"))
    arming.add_disarm(
        commands.add_parser("disarm", help="restore all sockets armed since boot, unless they were changed since")
    )

    measure.add_measure(
        commands.add_parser("measure", help="measure when a path forgets a quiet connection, by connections of its own")
    )
    changes.add_log(commands.add_parser("log", help="list what was changed, when and by whom"))
    deaths.add(commands.add_parser("deaths", help="list connections that ended, with the cause of each"))

    restore = commands.add_parser("restore", help="restore the system settings that a killed daemon left behind")
    arguments.add_state(restore)
    arguments.add_platform(restore)
    restore.set_defaults(command=restore_settings)
    return parser


def check_configuration(options: argparse.Namespace, root: Path) -> None:
    """Say that it is valid, and what it means; warnings go to standard error."""
    config = load(options.file)
    if options.quiet:
        return
    with contextlib.suppress(Unsupported):  # a configuration can be checked anywhere
        config = config.within(detect(root=root).cloud())
    for line in report.meaning(config):
        print(line)
    for line in doubts.warnings(config):
        print(f"warning: {line}", file=sys.stderr)


def print_engine(options: argparse.Namespace, root: Path) -> None:
    """Print which engine a daemon would use here, and what an earlier one has left in the kernel."""
    config = load(options.config)
    platform = detect(options.platform, root)
    session = platform.open(Watching(config.engine, all_namespaces=False))
    try:
        print(session.watcher.engine_description)
    finally:
        session.close()
    try:
        pin = platform.at_connect.pinned()
    except NotPermitted as refusal:
        print(f"pinned: unknown: {refusal}")
    else:
        print(f"pinned: {pin} arms new connections{BESIDE_OTHERS}" if pin else "pinned: nothing")
    running.note_running_daemon(options.state_dir, root, "this is what keepalivectl could use with its own privileges")


def restore_settings(options: argparse.Namespace, root: Path) -> None:
    """Restore what was found, if ours still stands. Raises RecordDamaged, NoInput, having done nothing."""
    no_record = arguments.missing_state(options.state_dir)
    platform = detect(options.platform, root)
    record = arguments.records(options, platform).settings
    outcomes: list[Outcome] = []
    others: list[str] = []
    if record.can_exist():
        with record.locked():
            if damaged := record.damaged():
                raise RecordDamaged(damaged[0])
            outcomes = SystemSettings(platform.tuner, record).restore()
            others = record.of_other_namespaces()
    for entry in (entry for outcome in outcomes if not outcome.refused for entry in entries.of(outcome)):
        print(entry.message)
    for refused in (outcome.refused for outcome in outcomes if outcome.refused):
        raise refused
    if not outcomes:
        print(_nothing_to_restore(others, no_record))


def _nothing_to_restore(others: list[str], no_record: str) -> str:
    """Return the message, with the records that only another network namespace can restore."""
    if not others:
        return ": ".join(filter(None, ("nothing to restore", no_record)))
    files = ", ".join(map(printable, others))
    return f"nothing to restore in this network namespace; run keepalivectl restore in the one of {files}"
