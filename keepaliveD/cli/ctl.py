"""keepalivectl: what a person types. Needs no daemon; `sockets` and `check` need no root."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Container, Sequence
from pathlib import Path

from keepaliveD.cli import arguments

COMMANDS = {  # what each does, and the module that does it, which is loaded for this command alone
    "status": ("status.status", "show the settings, the units at risk, and what is wrong"),
    "monitor": ("monitor", "print what the daemon logs, as it comes"),
    "sockets": ("sockets", "list connections, with the verdict and the next packet of each"),
    "watch": ("watch.watch", "show connections live, those at risk first, by the seconds left"),
    "metrics": ("metrics.metrics", "print metrics for Prometheus"),
    "why": ("why.why", "explain connections: what becomes of each, why, and what would help"),
    "paths": ("paths", "list paths, with idle timeout and connections of each"),
    "presets": ("paths", "list products with their factory-default idle timeouts"),
    "check": ("check", "check the configuration and explain what it means"),
    "engine": ("engine", "show which engine can read the sockets here, and why not a better one"),
    "arm": ("arming.arm", "switch keepalive on, or shorten it, in open connections"),
    "disarm": ("arming.disarm", "restore all sockets armed since boot, unless they were changed since"),
    "undo": ("undo", "undo what the daemon or a person changed: settings and sockets, all or some"),
    "measure": ("measure.measure", "measure when a path forgets a quiet connection, by connections of its own"),
    "log": ("history.changes", "list what was changed, when and by whom"),
    "deaths": ("history.deaths", "list connections that ended, with the cause of each"),
    "restore": ("restore", "restore the system settings that a killed daemon left behind"),
}
ORDERS = ("order", "fix", "write")  # options of commands that change something


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """The entry point; the system's files and commands are looked for below `root`."""
    words = sys.argv[1:] if argv is None else argv
    gc.disable()  # what is loaded stays: to look through it again and again is a tenth of the time that loading takes
    command = parser(words)
    gc.freeze()
    gc.enable()
    options = command.parse_args(words)
    is_order = any(getattr(options, name, False) for name in ORDERS)
    return arguments.run(command.prog, lambda: _do(options, root), is_order=is_order)


def _do(options: argparse.Namespace, root: Path) -> int | None:
    """Run the command, where need be in the state directory of the daemon that answers."""
    if getattr(options, "state_dir", root) is None:
        from keepaliveD.cli.asking import its_files  # these commands load it in any case

        options.state_dir = its_files.state_directory(root)
    status: int | None = options.command(options, root)
    return status


def parser(words: Container[str] = COMMANDS) -> arguments.Parser:
    """The command line; of a command that is not among the words only the name and what it does."""
    parser = arguments.Parser(
        prog="keepalivectl",
        description="List TCP connections that firewalls will forget, keep them alive, and check the configuration.",
    )
    arguments.add_common(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, does) in COMMANDS.items():
        command = commands.add_parser(name, help=does)
        if name in words:
            getattr(importlib.import_module(f"keepaliveD.cli.{module}"), f"add_{name}")(command)
    return parser
