"""tcp-keepalived: applies, watches, warns; in the foreground, for a service manager or a terminal."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.places import DEFAULT_FILE

FORMATS = ("auto", "journal", "syslog", "text", "json")  # that log.journal.open_log() knows


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """The entry point; the system's files and commands are looked for below `root`."""
    command = parser()
    options = command.parse_args(argv)
    gc.disable()  # what is loaded stays: it need not be looked through again and again, and twice at the end
    from keepaliveD.cli import living  # a wrong option and --help need nothing of it

    gc.freeze()
    gc.enable()
    return arguments.run(command.prog, lambda: living.live(options, root))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = arguments.Parser(
        prog="tcp-keepalived",
        description="Keep firewalls from forgetting idle TCP connections: apply the system's keepalive settings, "
        "watch TCP connections, and warn before a path forgets one.",
        epilog="SIGHUP reloads the configuration; SIGTERM and SIGINT stop the daemon, which then restores the settings "
        "found, unless keepalive.restore_on_stop is false.",
    )
    arguments.add_config(parser, str(DEFAULT_FILE))
    arguments.add_state(parser, arguments.state_directory(), "%(default)s")
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default="auto",
        help="where log entries go (default: auto, the journal if standard error leads there, else text)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="apply the settings, scan once, arm by the rules, list the connections at risk, undo all of it and exit",
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, only report what would be done")
    arguments.add_platform(parser)
    arguments.add_common(parser)
    return parser
