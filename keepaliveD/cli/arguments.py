"""What both programs' command lines share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from keepaliveD import __version__
from keepaliveD.config import DEFAULT_FILE
from keepaliveD.custody import Custody
from keepaliveD.errors import Exit, Refusal, unexpected
from keepaliveD.journal import complain
from keepaliveD.ledger import Ledger
from keepaliveD.perform import Records
from keepaliveD.platforms import NAMES
from keepaliveD.platforms.base import Platform

STATE_DIRECTORY = "/var/lib/tcp-keepalived"


class Parser(argparse.ArgumentParser):
    """A parser that leaves with the status of sysexits.h."""

    def error(self, message: str) -> NoReturn:
        """One line, and where to read on."""
        self.exit(Exit.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options that mean the same in both programs."""
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Where the configuration is."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"read FILE and the config.d beside it (default: {DEFAULT_FILE})"
    )


def add_state(parser: argparse.ArgumentParser) -> None:
    """Where the record of found values is: systemd's StateDirectory=, or the usual place."""
    default = Path(os.environ.get("STATE_DIRECTORY", STATE_DIRECTORY).split(":")[0])
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        default=default,
        help="where the values found are kept (default: %(default)s)",
    )


def records(options: argparse.Namespace, platform: Platform) -> Records:
    """What is kept in the state directory, which is made if need be when something is written."""
    identity = platform.tuner.identity
    return Records(Custody(options.state_dir, identity), Ledger(options.state_dir, identity["boot"]))


def add_platform(parser: argparse.ArgumentParser) -> None:
    """Whose settings these are."""
    parser.add_argument(
        "--platform",
        metavar="SYSTEM",
        choices=NAMES,
        help=f"use the commands of {', '.join(NAMES[:-1])} or {NAMES[-1]} (default: of the system that runs)",
    )


def run(program: str, work: Callable[[], None]) -> int:
    """The exit status of `work`: what it refuses becomes one line and a number."""
    try:
        work()
        sys.stdout.flush()
    except Refusal as refusal:
        complain(program, refusal)
        return refusal.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more: not an error
    except KeyboardInterrupt:
        return 128 + 2  # as a shell reports SIGINT
    except Exception as error:  # whatever it is, a person reads one line
        said = unexpected(error)
        complain(program, said)
        return said.status
    return Exit.OK
