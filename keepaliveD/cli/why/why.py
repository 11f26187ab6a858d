"""keepalivectl why: explain connections in plain words, as the daemon explains them, or else as a scan shows them.

It loads NumPy and pydantic only where it must look for itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files, orders, whose_view
from keepaliveD.cli.asking.asking import ask, control_socket
from keepaliveD.cli.printing.fitting import tell, terminal_width, wrapped
from keepaliveD.cli.targets import named
from keepaliveD.cli.why import daemons_explanation, forgotten, page, solutions
from keepaliveD.cli.why.armed import was_not_permitted
from keepaliveD.cli.why.earlier import place_of, without_written
from keepaliveD.cli.why.for_people import View, advise, assumed, print_lines, say_fixed, say_written, show
from keepaliveD.cli.why.for_programs import as_json
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import span
from keepaliveD.model.errors import Misuse
from keepaliveD.model.plain import known


def add_why(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl why`."""
    command.add_argument(
        "target",
        metavar="TARGET",
        help="a unit or a process by its name, a process id, an address or HOST:PORT of either end, or a cookie",
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


def explain_connections(options: argparse.Namespace, root: Path) -> None:
    """Explain the connections that were named; with --fix, write what helps and show what came of it."""
    if options.yes and not options.fix:
        raise Misuse("--yes only makes sense with --fix")
    given = options.config
    if options.fix:
        from keepaliveD.cli.why import fix

        fix.fix(options, root, lambda: _look(options, root, given))
        return
    view = _look(options, root, given)
    solution = solutions.of(view.explained, view.host)
    file = place_of(solution, options.config)
    new, having = without_written(solution, options.config, file)
    files = [file] if new.helps else having
    if is_fixed := solution.helps and _is_fixed(view, files):
        solution = new = solutions.Solution()
    if options.json:
        told = {"target": options.target, "daemon": view.daemon or None, "age": known(view.age), "more": view.more}
        remedy = new if new.helps else solution
        print(as_json(view.explained, view.plain, view.host.forgotten, remedy, files[0] if files else file, **told))
        return
    show(options, view)
    if is_fixed:
        say_fixed(view, files)
    if new.helps:
        advise(options, root, view, new, file)
    elif solution.helps:
        say_written(options, root, view, having)
    if path := solutions.assumed([one for one in view.explained if not solutions.supported_path(one, view.host)]):
        print()
        for line in wrapped([assumed(view.explained)], terminal_width(), 0):
            print(line)
        print_lines(path)


def _look(options: argparse.Namespace, root: Path, given: Path | None) -> View:
    """Explain the connections: as the daemon does, unless a configuration was given, or it cannot; else by a scan.

    With --fix it must have read the sockets: root may read those that a daemon without privileges may not.
    The options have the configuration that is followed from then on. Raises NoInput where there are none.
    """
    asked = None if given else _ask(options, root)
    if not asked or not asked.explained or (options.fix and any(map(was_not_permitted, asked.explained))):
        return _scanned(options, root, asked, given)
    if asked.unanswered:
        tell("note", named.unanswered(asked.unanswered, options.target))
    options.config = its_files.followed(options.state_dir, root)
    ended = forgotten.known(options.state_dir, [one.connection for one in asked.explained])
    host = asked.host._replace(forgotten=ended)
    return View(asked.explained, asked.more, asked.daemon, host, plain=asked.plain, age=asked.age)


def _is_fixed(view: View, files: Sequence[Path]) -> bool:
    """Return whether the files that would help are written already, and have armed all that they help.

    A connection that has survived for longer than was written then has that as its timeout, with older deaths below.
    """
    helped = solutions.helped(view.explained, view.host)
    return all(map(os.path.exists, files)) and all(
        one.armed and one.connection.verdict is Verdict.SAFE for one in helped
    )


def _ask(options: argparse.Namespace, root: Path) -> daemons_explanation.Answered | None:
    """Ask the daemon, after another scan where its last one is too old for these connections.

    That scan may find a connection, and arm it: then it is too old as well.
    """
    asked = daemons_explanation.ask_for(options, root)
    if asked and not asked.explained and not asked.why:
        asked = _ask_again(asked, options, root)
    if asked and any(map(page.outdated, asked.explained)):
        asked = _ask_again(asked, options, root)
    return asked


def _ask_again(
    asked: daemons_explanation.Answered, options: argparse.Namespace, root: Path
) -> daemons_explanation.Answered:
    """Ask the daemon after another scan, if we may order one: only root may."""
    orders.show_it(asked.daemon, root)
    return daemons_explanation.ask_for(options, root) or asked


def _scanned(
    options: argparse.Namespace, root: Path, asked: daemons_explanation.Answered | None, given: Path | None
) -> View:
    """Scan, and say why; `asked` is what a daemon has answered that knows none of the connections, if one has."""
    from keepaliveD.cli.why import own_scan

    view = own_scan.scanned(options, root, given)
    if asked:  # it runs, also where its lock cannot be seen here
        view = view._replace(daemon=asked.daemon, host=view.host._replace(daemon=True))
    if view.daemon and not given and not options.fix:
        other = its_files.not_followed(options.state_dir, root)
        said = asked.why or _not_seen(asked, view) if asked else _why_not_asked(options, root)
        tell("note", "; ".join(filter(None, (f"{said}: this is a single scan by keepalivectl", other))))
    return view


def _why_not_asked(options: argparse.Namespace, root: Path) -> str:
    """Return why the daemon has not answered, which it may have done by now."""
    _, why = whose_view.answer_or_why(lambda: ask(control_socket(root), "Status"), options.state_dir, root)
    return why or "tcp-keepalived could not be asked"


def _not_seen(asked: daemons_explanation.Answered, view: View) -> str:
    """Return why the daemon knows none of the connections: it ignores or misses them, or they are too new."""
    if not any(one.watched for one in view.explained):
        return "the daemon does not watch these connections"
    if asked.misses:
        return "the daemon has not seen these connections, because it does not see all sockets, or not yet"
    often = f" (it scans every {span(asked.host.interval)})" if asked.host.interval else ""
    return f"the daemon has not seen these connections yet{often}"
