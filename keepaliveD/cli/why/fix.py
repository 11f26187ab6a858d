"""keepalivectl why --fix: write the configuration that keeps connections alive, and show what comes of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from keepaliveD.cli import arguments, dropin, files
from keepaliveD.cli.asking import its_files, orders, process, running
from keepaliveD.cli.printing.fitting import tell, terminal_width, wrapped
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.why import forgotten, page, solutions
from keepaliveD.cli.why.armed import WHY_NOT_READ, arming_again, was_not_permitted
from keepaliveD.cli.why.earlier import place_of, text_of, without_written
from keepaliveD.cli.why.for_people import View, first_rules, listed, print_lines, show
from keepaliveD.cli.why.host import Host
from keepaliveD.cli.why.solutions import Solution
from keepaliveD.config import load
from keepaliveD.config.drop_ins import drop_in
from keepaliveD.model import requirements
from keepaliveD.model.connections import AT_RISK, Verdict
from keepaliveD.model.duration import span
from keepaliveD.model.errors import (
    ConfigError,
    Doubtful,
    KernelError,
    Late,
    Misuse,
    NoInput,
    NotPermitted,
    Unfinished,
    Unsupported,
)
from keepaliveD.model.explained import Explained
from keepaliveD.model.results import Armed, Mark
from keepaliveD.model.text import printable, quoted
from keepaliveD.places import DEFAULT_FILE

PATIENCE = 10.0  # seconds for a daemon to reload, scan and arm
SHOWN = 10.0  # seconds more until a scan shows what was armed after the one before
NEXT = "The rule arms the next connection, at connect or at the next scan."
NOT_READ = "No daemon runs that would read it; start it with "
PAUSE = 0.2  # seconds between two looks at what a daemon has done: it says it to nobody but its log


def fix(options: argparse.Namespace, root: Path, look: Callable[[], View]) -> None:
    """Write what helps the connections that were named, and show what came of it.

    `look` explains them, as the daemon does or by a scan; it raises NoInput where there are none.
    """
    options.config = its_files.its_file(options, root)
    _raise_if_in_vain(options, root)
    if daemon := running.running(options.state_dir, root):
        orders.show_it(daemon, root)  # nothing that was opened since its last scan is left out
    view = look()
    show(options, view)
    _fix(options, root, look, view, solutions.of(view.explained, view.host))


def _fix(options: argparse.Namespace, root: Path, look: Callable[[], View], view: View, solution: Solution) -> None:
    """Write what helps, check it, have a daemon read it, and show what came of it."""
    if not solution.helps:
        _fix_nothing(options, root, look, view)
        return
    file = place_of(solution, options.config)
    _check_daemon(options, view.daemon, root)
    if first := first_rules(options, view, file):
        raise Misuse(f"a rule matches before a new one would: {first}; change it there")
    helped = solutions.helped(view.explained, view.host)
    solution, having = without_written(solution, options.config, file)
    if not solution.helps:
        _have_read(options, root, look, view, helped, said=f"A rule in {listed(having)} arms them")
        return
    text, before, is_new = "\n".join(solution.lines) + "\n", text_of(file), not os.path.lexists(file)
    dropin.warn(options.config or DEFAULT_FILE, file.name, text)
    _ask(options, file, text, orders.set_by_reload(view.daemon, root) if view.daemon else "")
    files.make_directory(file.parent)
    if text_of(file) != before:
        raise Misuse(f"{printable(str(file))}: somebody has changed it meanwhile, and nothing was written")
    files.write(file, text, anew=is_new)
    print(f"Wrote {printable(str(file))}.")
    if not view.daemon:
        print(f"{NOT_READ}{how_to_start(root, options.config)}")
        _raise_if_left_out(view)
        return
    with _saying_what_stays(file, process.how_to_reload(view.daemon, root)):
        _reload(view.daemon, root)
        print("Reloaded the daemon.\n")
        load(options.config)  # what is wrong is named before the daemon is waited for
        _show_result(options, look, helped, before=view.explained)


def _fix_nothing(options: argparse.Namespace, root: Path, look: Callable[[], View], view: View) -> None:
    """Have a daemon read a rule that is there, and that it may not have read; else say why there is nothing to fix."""
    _raise_if_at_risk(view)
    armed = [one for one in view.explained if isinstance(one.decision, Armed)]
    if armed and view.daemon:
        _check_daemon(options, view.daemon, root)
        _have_read(options, root, look, view, armed, said="A rule arms them")
        return
    _raise_if_left_out(view)
    _raise_if_doubtful(view)
    print("\nNothing to fix.")


def _have_read(
    options: argparse.Namespace,
    root: Path,
    look: Callable[[], View],
    view: View,
    helped: Sequence[Explained],
    *,
    said: str,
) -> None:
    """Have a daemon read a rule that is written already, and show what came of it; `said` is what arms them."""
    if not view.daemon:
        print(f"\n{said}. {NOT_READ}{how_to_start(root, options.config)}")
        _raise_if_left_out(view)
        return
    if settings := orders.set_by_reload(view.daemon, root):
        print(f"\n{said} once the daemon has reloaded.")
        _confirm(options, settings, "Reload the daemon?", "the daemon was not reloaded")
    _reload(view.daemon, root)
    print(f"\n{said}. Reloaded the daemon.\n")
    _show_result(options, look, helped, before=view.explained)


@contextlib.contextmanager
def _saying_what_stays(file: Path, reload: str) -> Iterator[None]:
    """Add to a refusal that the file stays that was written before, and how to take that back.

    Not where the daemon has done its part, and the refusal says what else there is to do.
    """
    try:
        yield
    except (ConfigError, KernelError, Late, NoInput, NotPermitted) as refusal:
        name, remove = printable(str(file)), printable(shlex.join(["rm", str(file)]))
        stays = f"{name} was written and stays: to take that back, type {remove} && {reload}"
        refusal.args = (f"{refusal}; {stays}",)
        raise


def _raise_if_in_vain(options: argparse.Namespace, root: Path) -> None:
    """Raise Misuse or NotPermitted at once where nothing could be written that a daemon reads."""
    daemon = running.running(options.state_dir, root)
    if not daemon and (refusal := its_files.elsewhere(options.state_dir, root)):
        raise refusal
    _check_daemon(options, daemon, root)
    directory = drop_in(options.config, "").parent
    remedy = "run as root" if os.geteuid() else "it may be on a file system that is read-only"
    there = next(each for each in (directory, *directory.parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        raise NotPermitted(f"{printable(str(directory))}: --fix cannot write there; {remedy}")
    if not directory.parent.exists():
        missing = printable(shlex.quote(str(directory.parent)))
        raise NoInput(f"{missing}: does not exist; --fix writes there once you have typed mkdir -p {missing}")


def _raise_if_at_risk(view: View) -> None:
    """Raise NotPermitted, Misuse or Unsupported where no rule is offered for a connection at risk, and none arms it."""
    at_risk = [one for one in view.explained if one.connection.verdict in AT_RISK]
    if any(map(was_not_permitted, at_risk)):
        raise NotPermitted(
            "what would help is not known, because a socket cannot be read: "
            f"run as root, or with {requirements.ARM.named}"
        )
    left = [one for one in at_risk if not isinstance(one.decision, Armed)]
    if undone := [one for one in left if one.entry is Mark.LEFT_ALONE]:
        raise Misuse(
            "keepalivectl undo or disarm, or the program itself, took back that a connection was armed, and no rule "
            f"arms it again; type {arming_again(undone[0])}"
        )
    if unread := [one for one in left if one.found is None]:
        why = WHY_NOT_READ.get(unread[0].hindrance, "it cannot be read")
        raise KernelError(f"what would help is not known, because the socket of a connection was not read: {why}")
    if left:
        _raise_if_left_out(view)
        if all(one.connection.verdict is Verdict.CUT for one in left):
            raise Unsupported("no rule helps connections that the path has forgotten: their program must connect again")
        raise Unsupported("no rule would help the connections at risk; see above")


def _check_daemon(options: argparse.Namespace, daemon: int, root: Path) -> None:
    """Raise Misuse or NotPermitted where the daemon reads another configuration than the one that would be changed."""
    its = process.configuration(daemon, root) if daemon else None
    here = (options.config or DEFAULT_FILE).absolute()
    if its is not None and its != here:
        if not options.config and not os.access(its, os.R_OK, effective_ids=True):
            raise NotPermitted(f"{printable(str(its))}: the daemon (process {daemon}) reads it; run as root to read it")
        raise Misuse(f"the daemon (process {daemon}) reads {printable(str(its))}; give it as --config")
    if process.has_another(daemon, here.parent, root):
        directory = printable(str(here.parent))
        raise Misuse(f"the daemon (process {daemon}) has another {directory}, as in a container; type this there")


def _ask(options: argparse.Namespace, file: Path, text: str, settings: str) -> None:
    """Show what is to be written and ask. Raises Misuse where there is nobody to answer, or the answer is no."""
    instead = " in place of what an earlier call wrote" if file.exists() else ""
    print(f"\nThis goes into {printable(str(file))}{instead}:")
    print_lines(text.splitlines())
    _confirm(options, settings, "Write it and reload the daemon?", "nothing was written")


def _confirm(options: argparse.Namespace, settings: str, question: str, refused: str) -> None:
    """Say which settings a reload sets, and ask. Raises Misuse where there is nobody to answer, or the answer is no."""
    if settings:
        tell("note", settings)
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise Misuse("--fix asks before it writes, and standard input is no terminal; add --yes")
    print(f"{question} [y/N] ", end="")
    sys.stdout.flush()
    if not arguments.is_written():
        raise Misuse("--fix asks before it writes, and standard output cannot be written; add --yes")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Misuse(refused)


def _reload(daemon: int, root: Path) -> None:
    """Have the daemon read its configuration, and scan by it if it can be asked.

    Raises NotPermitted, NoInput, KernelError.
    """
    if orders.have_reloaded(daemon, root):
        return
    try:
        os.kill(daemon, signal.SIGHUP)
    except PermissionError as error:
        raise NotPermitted(f"process {daemon}: cannot be told to reload: {error.strerror}; run as root") from error
    except ProcessLookupError as error:
        raise NoInput(f"process {daemon}: the daemon has ended; start it with {how_to_start(root)}") from error


def _show_result(
    options: argparse.Namespace, look: Callable[[], View], helped: Sequence[Explained], *, before: Sequence[Explained]
) -> None:
    """Show the connections once a daemon has armed those that a rule helps, or what stands when it has not in time.

    `before` are all that were explained before that.
    """
    end = time.monotonic() + PATIENCE
    cookies = {one.connection.cookie for one in helped}
    while True:
        view = _look_if_any(look)
        waiting = [one for one in view.explained if one.connection.cookie in cookies and not _is_helped(one)]
        is_armed_since = any(map(page.outdated, waiting))
        if not waiting or time.monotonic() > end + (SHOWN if is_armed_since else 0.0):
            break
        time.sleep(PAUSE)
    if view.explained:
        show(options, view)
    if waiting:
        raise Late(f"the daemon has not armed all of them within {span(PATIENCE)}: see its log, or type the same again")
    concerned = [one for one in before if one.connection.cookie in cookies or one.connection.verdict is Verdict.CUT]
    if not view.more and (said := _too_late(concerned, view.explained)):
        print("\n" * bool(view.explained) + "\n".join(wrapped([said], terminal_width(), 0)))
    _raise_if_unfinished(view)
    _raise_if_doubtful(view)


def _look_if_any(look: Callable[[], View]) -> View:
    """Look again; connections that were there before may have ended."""
    try:
        return look()
    except NoInput:
        return View((), 0, 0, Host())


def _too_late(concerned: Sequence[Explained], now: Sequence[Explained]) -> str:
    """Return what became of these connections where no rule could help any more; "" where there are none."""
    left = {one.connection.cookie: one.connection.verdict for one in now}
    before = [(one.connection.verdict is Verdict.CUT, left.get(one.connection.cookie)) for one in concerned]
    ended = sum(verdict is None and was_cut for was_cut, verdict in before)
    closed = sum(verdict is None and not was_cut for was_cut, verdict in before)
    cut = sum(verdict is Verdict.CUT for _, verdict in before)
    said = [
        what.format(f"{number} connection{'s' * (number != 1)}")
        for number, what in (
            (ended, "The path had already forgotten {}, which ended."),
            (closed, "{} ended meanwhile."),
            (cut, "The path had already forgotten {}, whose program will get an error and must connect again."),
        )
        if number
    ]
    return " ".join([*said, NEXT]) if said else ""


def _raise_if_unfinished(view: View) -> None:
    """Raise Unfinished where a rule would help a connection that came meanwhile, or that was left out before."""
    if number := sum(one.remedy is not None for one in view.explained):
        whose = "1 connection that is" if number == 1 else f"{number} connections that are"
        raise Unfinished(f"a rule would help {whose} still at risk, see above: type the same again")
    _raise_if_left_out(view)


def _raise_if_left_out(view: View) -> None:
    """Raise Unfinished where not all connections were explained, so that nobody takes what is said for all of them."""
    if view.more:
        whose = "1 connection is" if view.more == 1 else f"{view.more} connections are"
        raise Unfinished(
            f"{whose} not explained above, and may be at risk: list all connections at risk with "
            "keepalivectl sockets --at-risk; then give --fix a narrower TARGET: a unit, a process id or HOST:PORT"
        )


def _raise_if_doubtful(view: View) -> None:
    """Raise Unsupported where deaths contradict what somebody has written down, which --fix leaves alone.

    Raise Doubtful where a connection is safe only if a guess holds, so that nobody takes it for certain.
    """
    for one in (its.connection for its in view.explained):
        if line := forgotten.shortest(view.host.forgotten.against(one)):
            raise Unsupported(
                f"deaths contradict the timeout of the [[path]] {quoted(one.path)}, and --fix changes no line of "
                f"yours; write {line.partition('#')[0].rstrip()} there"
            )
    guessed = [one.connection for one in view.explained if page.rests_on_guess(one)]
    if guessed:
        timeout = span(min(one.timeout for one in guessed))
        raise Doubtful(
            f"nothing more to fix, but SAFE holds only if the path's timeout is {timeout}, which is a guess: "
            "find it with keepalivectl measure HOST:PORT, and write it into a [[path]]"
        )


def _is_helped(one: Explained) -> bool:
    """Return whether arming has done what it can: a connection that is cut stays so, and its program gets an error.

    No daemon arms one that is cut while a packet of it is unanswered: its program gets that error without us.
    """
    if one.connection.verdict is not Verdict.CUT:
        return one.connection.verdict not in AT_RISK
    return one.armed is not None or not (one.remedy or isinstance(one.decision, Armed))
