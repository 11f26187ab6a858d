"""keepalivectl measure: find out when a path forgets a quiet connection, by connections of our own."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files, process, running
from keepaliveD.cli.measure import measured, measured_file
from keepaliveD.cli.measure.options import LONGEST, add_options, limits_of, targets_of
from keepaliveD.cli.measure.progress import say
from keepaliveD.cli.starting import how_to_start
from keepaliveD.model.duration import span
from keepaliveD.model.errors import Misuse, NoInput, Unreachable
from keepaliveD.model.text import printable
from keepaliveD.places import MEASURES
from keepaliveD.platforms import detect
from keepaliveD.policy.measuring.measurement import Limits
from keepaliveD.policy.measuring.rounds import next_round

if TYPE_CHECKING:
    from keepaliveD.measuring.opening import Target

WITH_TARGET = ("token", "connections", "where", "dry_run", "json", "write", "name")  # options
STAYS = "Ctrl-C ends it with what is known so far"


def add_measure(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl measure`."""
    add_options(command)
    command.set_defaults(command=measure)


def measure(options: argparse.Namespace, root: Path) -> None:
    """Measure, or be the far end of a measurement."""
    if detect(root=root).name != "linux":
        raise Misuse("measure: requires Linux at the end that runs it")
    if (options.target is None) == (options.listen is None):
        raise Misuse("name TARGET (the HOST:PORT to measure to), or --listen, not both")
    if options.listen is not None and (vain := next(filter(options.__dict__.get, WITH_TARGET), "")):
        raise Misuse(f"--{vain.replace('_', '-')} belongs to the end that measures, with TARGET; --listen only answers")
    if not options.dry_run:
        _be_known()
    # hours of measuring do not depend on whether anybody still reads how far they are
    with contextlib.redirect_stderr(cast(TextIO, arguments.LenientOutput(sys.stderr, "standard error"))):
        if options.listen is not None:
            from keepaliveD.cli.measure import until_known

            until_known.listen(options.listen, options.listening, root)
        else:
            _measure_and_print(options, root)


def _measure_and_print(options: argparse.Namespace, root: Path) -> None:
    targets = targets_of(options.target, options.token)
    limits = limits_of(options, targets[0])
    if options.dry_run:
        say(*_plan(targets[0], limits))
        return
    if options.write:
        _check_place(options, root, targets[0])  # before hours pass
    found, stopped = _measure_first(targets, limits, root, where=options.where)
    toml = measured.as_toml(found, options.name or "")
    try:
        _print(options, found)
    finally:  # a terminal that has gone does not make it complete
        _check_completed(found, stopped=stopped)
    if options.write and toml:
        _write(options, root, found, toml)
    elif options.write:
        raise NoInput(f"{printable(found.name)}: no idle timeout was found, so nothing was written")


def _measure_first(
    targets: Sequence[Target], limits: Limits, root: Path, *, where: bool
) -> tuple[measured.Found, bool]:
    """Measure to the first address that takes a connection. Raises what the last one raises."""
    from keepaliveD.cli.measure import until_known

    *others, last = targets
    for target in others:
        say(*_plan(target, limits))
        try:
            return until_known.measure(target, limits, root, where=where)
        except Unreachable as refusal:
            say(f"{printable(target.address[0])}: {printable(str(refusal))}; trying the next address")
    say(*_plan(last, limits))
    return until_known.measure(last, limits, root, where=where)


def _check_completed(found: measured.Found, *, stopped: bool) -> None:
    """Raise what ended a measurement early: KeyboardInterrupt, or Unreachable."""
    if stopped:
        raise KeyboardInterrupt
    if found.gone:
        raise Unreachable(printable(found.gone))


def _be_known() -> None:
    """Take the name by which a daemon knows whose connections are quiet on purpose, whatever started this program."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(MEASURES, encoding="ascii")


def _plan(target: Target, limits: Limits) -> Iterator[str]:
    """Yield the plan, before anything is done."""
    first = next_round([], limits, 0)
    times = ", ".join(span(plan.quiet) for plan in first[:: max(1, len(first) // 8)])
    proved = " once they have proved the token" if target.is_listener else ""
    yield (
        f"measuring the path to {printable(target.name)} ({target.address[0]}), "
        f"by {len(first) + 1} connections at a time, which send no data{proved}"
    )
    yield f"silences of the first round: {times}; {STAYS}"
    if not target.is_listener:
        yield (
            "note: the service sees connections without a request, and may log or limit them; "
            "with keepalivectl measure --listen at the far end, results come sooner and are more certain"
        )


def _print(options: argparse.Namespace, found: measured.Found) -> None:
    if options.json:
        print(measured.as_json(found, options.name or ""))
        return
    for line in measured.in_words(found):
        print(line)
    if toml := measured.as_toml(found, options.name or ""):
        print(f"\n{toml}", end="")


def _check_place(options: argparse.Namespace, root: Path, target: Target) -> None:
    """See that the [[path]] can be written, whatever its timeout will be. Raises Refusal."""
    name = options.name or measured.default_name(target.name)
    text = measured.path_table(name, target.address[0], target.interface, int(LONGEST), _today())
    measured_file.check(its_files.its_file(options, root), name, target.name, text)


def _write(options: argparse.Namespace, root: Path, found: measured.Found, toml: str) -> None:
    main = its_files.its_file(options, root)
    file = measured_file.write(main, options.name or measured.default_name(found.name), found.name, toml)
    daemon = running.running(its_files.state_directory(root), root)
    command = process.how_to_reload(daemon, root) if daemon else how_to_start(root, main)
    say(f"wrote {printable(str(file))}; {command} puts it in force")


def _today() -> datetime.date:
    return datetime.datetime.now().astimezone().date()
