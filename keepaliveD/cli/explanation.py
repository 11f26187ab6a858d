"""keepalivectl why: explain connections in plain words, as the daemon explains them, or else as a scan shows them.

It loads NumPy and pydantic only where it must look for itself.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.cli import arguments, daemons_explanation, forgotten, named, page, running, solutions
from keepaliveD.cli.fitting import terminal_width, wrapped
from keepaliveD.cli.solutions import Solution
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.why_json import as_json
from keepaliveD.config.drop_ins import drop_in, rules_before
from keepaliveD.model.errors import Misuse
from keepaliveD.model.explained import Explained
from keepaliveD.model.text import printable


def add_why(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl why`."""
    command.add_argument(
        "target",
        metavar="TARGET",
        help="a unit or a process by its name, a process id, the HOST or HOST:PORT of either end, or a cookie",
    )
    output = command.add_mutually_exclusive_group()
    output.add_argument(
        "--fix", action="store_true", help="write a rule that keeps these connections alive, and reload the daemon"
    )
    output.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.add_argument("--yes", action="store_true", help="with --fix, ask no question")
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=explain_connections)


class View(NamedTuple):
    """What is known of the connections that were asked for; `more` are counted only."""

    explained: Sequence[Explained]
    more: int
    daemon: int  # its process id, 0 if none runs
    host: page.Host
    unrecorded: str = ""  # why it is not known what a daemon has armed at connect
    plain: Sequence[Mapping[str, Any]] = ()  # each of `explained` as the control socket answers it


def explain_connections(options: argparse.Namespace, root: Path) -> None:
    """Explain the connections that were named; with --fix, write what helps and show what came of it."""
    if options.yes and not options.fix:
        raise Misuse("--yes only makes sense with --fix")
    asked = None if options.config or options.fix else daemons_explanation.ask_for(options, root)
    if asked and any(map(page.outdated, asked.explained)):
        running.show_it(asked.daemon, root)  # only root may order that
        asked = daemons_explanation.ask_for(options, root) or asked
    if asked is None:
        from keepaliveD.cli import why

        view = why.scanned(options, root)
        if options.fix:
            return
        if view.daemon and not options.config:
            print("note: tcp-keepalived could not be asked: this is a single scan by keepalivectl", file=sys.stderr)
    else:
        host = asked.host._replace(forgotten=forgotten.known(options.state_dir))
        view = View(asked.explained, asked.more, asked.daemon, host, plain=asked.plain)
        options.config = running.followed(options.state_dir, root)
    solution = solutions.of(view.explained, view.host)
    if options.json:
        file = drop_in(options.config, solution.name)
        told = {"target": options.target, "daemon": view.daemon or None, "more": view.more}
        print(as_json(view.explained, view.plain, view.host.forgotten, solution, file, **told))
        return
    show(options, view)
    if solution.rules:
        advise(options, root, view, solution)
    if path := solutions.assumed([one for one in view.explained if not solutions.supported_path(one, view.host)]):
        print()
        for line in wrapped([assumed(view.explained)], terminal_width(), 0):
            print(line)
        print_lines(path)


def assumed(explained: Sequence[Explained]) -> str:
    """Return what to do where a timeout is only assumed."""
    unit = next((one.connection.owner.unit for one in explained if one.connection.owner.unit), "")
    return (
        "The timeout is only assumed. The true one may be shorter, also where a connection is SAFE: "
        f"see {page.deaths_of(unit)}; find it with keepalivectl measure HOST:PORT; "
        "if you know what lies between, write it down, or a preset:"
    )


def show(options: argparse.Namespace, view: View) -> None:
    """Print the page."""
    print(page.headline(named.described(options.target), view.explained, view.more))
    for line in wrapped(page.page(view.explained, view.host), terminal_width(), len(page.INDENT) + page.LABEL):
        print(line)


def advise(options: argparse.Namespace, root: Path, view: View, solution: Solution) -> None:
    """Print the lines that would keep them alive, ready to paste."""
    file = drop_in(options.config, solution.name)
    print()
    if first := first_rules(options, view, file):
        print(f"To keep these connections alive, change the rule that matches them ({first}), or write before it:")
        print_lines(solution.lines)
        return
    print(f"To keep these connections alive, write this into {printable(str(file))}:")
    print_lines(solution.lines)
    check = shlex.join(["keepalivectl", "check", *([str(options.config)] if options.config else [])])
    reload = running.how_to_reload(view.daemon, root) if view.daemon else how_to_start(root, options.config)
    print(
        f"Then: {printable(check)} && {reload}. The same with --fix {'does all of it' if view.daemon else 'writes it'}."
    )


def print_lines(lines: Sequence[str]) -> None:
    """Print lines of configuration, ready to paste."""
    print("\n" + "".join(f"    {line}\n" for line in lines))


def first_rules(options: argparse.Namespace, view: View, file: Path) -> str:
    """Return the rules that match before a new file is read, with their places; nothing if there are none."""
    names = sorted({one.rule.name for one in view.explained if one.remedy})
    return ", ".join(f"{name} in {place}" for name, place in rules_before(options.config, file, names).items())
