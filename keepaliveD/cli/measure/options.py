"""What may be asked of keepalivectl measure: its options, the addresses that TARGET means, and the limits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepaliveD.cli import arguments
from keepaliveD.config.document import LONGEST_NAME
from keepaliveD.model import duration
from keepaliveD.model.duration import span
from keepaliveD.model.errors import Misuse
from keepaliveD.model.text import printable, shown
from keepaliveD.policy.measuring.measurement import Limits

if TYPE_CHECKING:
    from keepaliveD.measuring.opening import Target

PORT = 7272  # where a listener listens unless told otherwise; registered for nothing
MAX_PORT = 65535
FEW = 8  # connections at a time to a service that is not ours
MOST = 78
SHORTEST, LONGEST = 1.0, 86400.0  # seconds: what may be asked for
LISTENING = 3 * 3600.0  # seconds


def add_options(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl measure`."""
    limits = Limits()
    command.add_argument("target", metavar="TARGET", nargs="?", help="the HOST:PORT of a service, or of a listener")
    command.add_argument(
        "--listen",
        metavar="PORT",
        nargs="?",
        type=_port,
        const=PORT,
        help=f"be the far end of a measurement, on this port (without PORT: {PORT})",
    )
    command.add_argument("--token", metavar="TOKEN", help="the token that keepalivectl measure --listen shows")
    command.add_argument(
        "--shortest",
        metavar="TIME",
        type=_time,
        default=limits.shortest,
        help=f"the shortest silence to try (default: {span(limits.shortest)})",
    )
    command.add_argument(
        "--longest",
        metavar="TIME",
        type=_time,
        default=limits.longest,
        help=f"the longest silence to try (default: {span(limits.longest)})",
    )
    command.add_argument(
        "--connections",
        metavar="NUMBER",
        type=_connections,
        help=f"quiet connections at a time, at most (default: {MOST} to a listener, {FEW} to another service)",
    )
    command.add_argument("--where", action="store_true", help="also find out which hop of the path forgets")
    command.add_argument("--dry-run", action="store_true", help="show the plan, and open no connection")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.add_argument("--write", action="store_true", help="write the [[path]] into config.d")
    command.add_argument("--name", metavar="NAME", type=_name, help="name of the [[path]]")
    command.add_argument(
        "--for",
        dest="listening",
        metavar="TIME",
        type=_time,
        default=LISTENING,
        help=f"how long to listen (default: {span(LISTENING)})",
    )
    arguments.add_config(command)


def _time(text: str) -> float:
    try:
        seconds = duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not SHORTEST <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; write {span(SHORTEST)} to {span(LONGEST)}")
    return seconds


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(MAX_PORT)) or not 1 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a port; write 1 to {MAX_PORT}")
    return int(text)


def _connections(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(MOST)) or not 2 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{shown(text)} is out of range; write 2 to {MOST}")
    return int(text)


def _name(text: str) -> str:
    if not text or not text.isprintable() or len(text) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a name; write 1 to {LONGEST_NAME} printable characters")
    return text


def targets_of(text: str, token: str | None) -> list[Target]:
    """Return the addresses of HOST:PORT. Raises Misuse, or NoInput where it has none."""
    from keepaliveD.measuring.opening import resolve

    if token is not None and not (token and token.isascii()):
        raise Misuse(f"--token {shown(token)}: not a token that keepalivectl measure --listen shows")
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or host in ("", "[]"):
        raise Misuse(f"{printable(text)}: not HOST:PORT, such as 10.20.0.9:22 or [fd00::9]:22")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise Misuse(f"{printable(text)}: is {port} the port? write [{printable(host.strip('[]'))}]:{port} if so")
    if len(port) > len(str(MAX_PORT)) or not 1 <= int(port) <= MAX_PORT:
        raise Misuse(f"{printable(text)}: {port[:9]} is not a port; write 1 to {MAX_PORT}")
    return resolve(text, host.removeprefix("[").removesuffix("]"), int(port), token or "")


def limits_of(options: argparse.Namespace, target: Target) -> Limits:
    """Return how long and by how many connections to measure. Raises Misuse."""
    if options.shortest * 2 > options.longest:
        raise Misuse(f"--longest {span(options.longest)} is too short; write at least twice --shortest")
    connections = options.connections or (MOST if target.is_listener else FEW)
    return Limits(options.shortest, options.longest, connections, both_sides=target.is_listener)
