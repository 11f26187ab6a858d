"""What keepalivectl why prints for people: the page about connections, and lines of configuration that would help."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.cli.asking import process
from keepaliveD.cli.printing.fitting import say, terminal_width, wrapped
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.why import page, solutions
from keepaliveD.cli.why.host import Host
from keepaliveD.cli.why.solutions import Solution
from keepaliveD.config.drop_ins import rules_before
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import span
from keepaliveD.model.explained import Explained
from keepaliveD.model.text import printable


class View(NamedTuple):
    """What is known of the connections that were asked for; `more` are counted only."""

    explained: Sequence[Explained]
    more: int
    daemon: int  # its process id, 0 if none runs
    host: Host
    unrecorded: str = ""  # why it is not known what a daemon has armed at connect
    plain: Sequence[Mapping[str, Any]] = ()  # each of `explained` as the control socket answers it
    age: float = math.nan  # seconds since the daemon's last scan; NaN of a scan by keepalivectl, which is new


def assumed(explained: Sequence[Explained]) -> str:
    """Return what to do where a timeout is a guess."""
    unit = next((one.connection.owner.unit for one in explained if one.connection.owner.unit), "")
    return (
        "The timeout is a guess. The true one may be shorter, also where a connection is SAFE: "
        f"see {page.deaths_of(unit)}; measure it with keepalivectl measure HOST:PORT; "
        "if you know the firewall, write its timeout down, or a preset:"
    )


def show(options: argparse.Namespace, view: View) -> None:
    """Print the page."""
    print(page.headline(options.target, view.explained, view.more))
    if not math.isnan(view.age):
        age = f"As of the daemon's last scan, {span(view.age)} ago: packets since then are not counted."
        print("\n".join(wrapped([age], terminal_width(), 0)))
    for line in wrapped(page.page(view.explained, view.host), terminal_width(), len(page.INDENT) + page.LABEL):
        print(line)


def advise(options: argparse.Namespace, root: Path, view: View, solution: Solution, file: Path) -> None:
    """Print the lines that would keep them alive, ready to paste into the file."""
    print()
    if first := first_rules(options, view, file):
        say(f"To keep {_whose(view)} alive, change the rule that matches them ({first}), or write before it:")
        print_lines(solution.lines)
        return
    say(f"To keep {_whose(view)} alive, write this into {printable(str(file))}:")
    print_lines(solution.lines)
    check = shlex.join(["keepalivectl", "check", *([str(options.config)] if options.config else [])])
    then, same = (
        f"Then: {printable(check)} && {_how_it_is_read(options, root, view)}",
        f"The same with --fix {_does(view)}.",
    )
    whole = f"{then}. {same}"
    print(whole if len(whole) <= terminal_width() else f"{then}\n{same}")


def say_fixed(view: View, files: Sequence[Path]) -> None:
    """Print that files keep the connections alive, all or those that are explained."""
    names = listed(files)
    print(
        f"\n{names} keeps the connections alive that are explained here."
        if view.more
        else f"\nNothing to fix: {names} keeps these connections alive."
    )


def say_written(options: argparse.Namespace, root: Path, view: View, files: Sequence[Path]) -> None:
    """Print which files have the rule that would keep them alive, and how the daemon comes to read it."""
    print()
    read = _how_it_is_read(options, root, view)
    say(f"A rule in {listed(files)} keeps {_whose(view)} alive, once it is read: {read}")


def _whose(view: View) -> str:
    """Return the words for what a rule keeps alive: where the path has forgotten all that it is for, the next ones."""
    are_cut = all(one.connection.verdict is Verdict.CUT for one in solutions.helped(view.explained, view.host))
    return "the next connections" if are_cut else "these connections"


def listed(files: Sequence[Path]) -> str:
    """Return the names of files, for a terminal."""
    return " and ".join(printable(str(file)) for file in files)


def _how_it_is_read(options: argparse.Namespace, root: Path, view: View) -> str:
    return process.how_to_reload(view.daemon, root) if view.daemon else how_to_start(root, options.config)


def _does(view: View) -> str:
    return "does all of it" if view.daemon else "writes it"


def print_lines(lines: Sequence[str]) -> None:
    """Print lines of configuration, ready to paste."""
    print("\n" + "".join(f"    {line}\n" for line in lines))


def first_rules(options: argparse.Namespace, view: View, file: Path) -> str:
    """Return the rules that match before a new file is read, with their places; nothing if there are none."""
    names = sorted({one.rule.name for one in view.explained if one.remedy})
    return ", ".join(f"{name} in {place}" for name, place in rules_before(options.config, file, names).items())
