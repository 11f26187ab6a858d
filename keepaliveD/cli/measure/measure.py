"""keepalivectl measure: find out when a path forgets a quiet connection, by connections of our own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files, process, running
from keepaliveD.cli.measure import measured, measured_file
from keepaliveD.cli.starting import how_to_start
from keepaliveD.config.document import LONGEST_NAME
from keepaliveD.model import duration, text
from keepaliveD.model.duration import span
from keepaliveD.model.errors import Misuse, NoInput, Unreachable
from keepaliveD.model.text import printable, shown
from keepaliveD.places import MEASURES
from keepaliveD.platforms import detect
from keepaliveD.policy.measuring.measurement import How, Limits
from keepaliveD.policy.measuring.rounds import next_round

if TYPE_CHECKING:
    import asyncio

    from keepaliveD.measuring.connections import Connections
    from keepaliveD.measuring.measurement import Measurement
    from keepaliveD.measuring.opening import Target
    from keepaliveD.measuring.tomography import Tomography

PORT = 7272  # where a listener listens unless told otherwise; registered for nothing
MAX_PORT = 65535
FEW = 8  # connections at a time to a service that is not ours
MOST = 78
SHORTEST, LONGEST = 1.0, 86400.0  # seconds: what may be asked for
LISTENING = 3 * 3600.0  # seconds
WITH_TARGET = ("token", "connections", "where", "dry_run", "json", "write", "name")  # options
STAYS = "Ctrl-C ends it with what is known so far"


def add_measure(command: argparse.ArgumentParser) -> None:
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
    command.set_defaults(command=measure)


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


def measure(options: argparse.Namespace, root: Path) -> None:
    """Measure, or be the far end of a measurement."""
    if detect(root=root).name != "linux":
        raise Misuse("measure: requires Linux at the end that runs it")
    if (options.target is None) == (options.listen is None):
        raise Misuse("name TARGET (the HOST:PORT to measure to), or --listen, not both")
    if options.listen is not None and (vain := next(filter(options.__dict__.get, WITH_TARGET), "")):
        raise Misuse(f"--{vain.replace('_', '-')} belongs to the end that measures, with TARGET; --listen only answers")
    import asyncio

    if not options.dry_run:
        _be_known()
    # hours of measuring do not depend on whether anybody still reads how far they are
    with contextlib.redirect_stderr(cast(TextIO, arguments.LenientOutput(sys.stderr, "standard error"))):
        if options.listen is not None:
            asyncio.run(_listen(options.listen, options.listening, root))
        else:
            _measure_and_print(options, root)


def _measure_and_print(options: argparse.Namespace, root: Path) -> None:
    targets = _targets(options.target, options.token)
    limits = _limits(options, targets[0])
    if options.dry_run:
        _say(*_plan(targets[0], limits))
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
    import asyncio

    *others, last = targets
    for target in others:
        _say(*_plan(target, limits))
        try:
            return asyncio.run(_measure(target, limits, root, where=where))
        except Unreachable as refusal:
            _say(f"{printable(target.address[0])}: {printable(str(refusal))}; trying the next address")
    _say(*_plan(last, limits))
    return asyncio.run(_measure(last, limits, root, where=where))


def _check_completed(found: measured.Found, *, stopped: bool) -> None:
    """Raise what ended a measurement early: KeyboardInterrupt, or Unreachable."""
    if stopped:
        raise KeyboardInterrupt
    if found.gone:
        raise Unreachable(printable(found.gone))


def _targets(text: str, token: str | None) -> list[Target]:
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


def _limits(options: argparse.Namespace, target: Target) -> Limits:
    if options.shortest * 2 > options.longest:
        raise Misuse(f"--longest {span(options.longest)} is too short; write at least twice --shortest")
    connections = options.connections or (MOST if target.is_listener else FEW)
    return Limits(options.shortest, options.longest, connections, both_sides=target.is_listener)


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


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _interruptible(stop: asyncio.Event) -> Iterator[None]:
    """Have Ctrl-C, a polite kill, and a terminal that goes away set `stop`; after nohup that one goes unnoticed."""
    import asyncio

    loop = asyncio.get_running_loop()
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _measure(target: Target, limits: Limits, root: Path, *, where: bool) -> tuple[measured.Found, bool]:
    """Measure until enough is known, or until Ctrl-C. Return what was found, and whether it was Ctrl-C."""
    import asyncio

    from keepaliveD.cli.measure.introduction import Introduction
    from keepaliveD.measuring.measurement import Measurement
    from keepaliveD.measuring.tomography import Tomography

    measurement = Measurement(target, limits, Introduction(root))
    tomography = Tomography(measurement.far_end, measurement.connections, limits.longest)
    stop = asyncio.Event()
    with _interruptible(stop):
        await _until(stop, measurement.run(), Progress(measurement))
        tried = where and not stop.is_set() and not measurement.far_end.gone
        if tried:
            finding = tomography.run(measurement.bracket, measurement.resets.hops_left)
            await _until(stop, finding, Progress(measurement, tomography))
        await _free(measurement.connections)
        stopped = stop.is_set()
    found = _found(measurement, tomography)
    if stopped:
        hops = "not every hop was done with" if tried else "no hop was tried"
        found = dataclasses.replace(found, gone=f"stopped by a signal{f'; {hops}' if where else ''}")
    return found, stopped


async def _free(connections: Connections) -> None:
    """Free what the service still holds; a further Ctrl-C leaves it there, and loses nothing that was found."""
    import asyncio

    if not connections.held:
        return
    enough = asyncio.Event()
    with _interruptible(enough):
        _say(f"freeing {text.connections(connections.held)} that the service may still hold; Ctrl-C leaves them")
        await _until(enough, connections.free())


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None], progress: Progress | None = None) -> None:
    """Do the work, or as much of it as is done until `stop`. Raises what it raises."""
    import asyncio

    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        while not (working.done() or stop.is_set()):
            if progress:
                progress.show()
            await asyncio.wait([working, stopping], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if progress:
            progress.end()
        stopping.cancel()
    if working.done():
        working.result()
    else:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _found(measurement: Measurement, tomography: Tomography) -> measured.Found:
    bracket = measurement.bracket
    return measured.Found(
        name=measurement.target.name,
        address=measurement.target.address[0],
        bracket=bracket,
        keepalive_helps=measurement.keepalive_helps,
        reset_by_peer=measurement.resets.by_peer if bracket.how is How.RESET else None,
        outages=measurement.far_end.outages,
        speaks=measurement.speaks,
        left_open=measurement.connections.left_open,
        connections=measurement.opened,
        gone=measurement.far_end.gone,
        by_listener=measurement.target.is_listener,
        date=_today(),
        counted=tomography.map.tried,
        hop_count=tomography.map.count,
        routers_back=tomography.map.back,
        hops=tuple(tomography.map.names),
        devices=tuple(tomography.map.devices),
        stopped_by=tomography.map.stopped_by,
        losses=tuple(measurement.losses),
        interface=measurement.target.interface,
    )


class Progress:
    """What is known so far and the time left: a line that changes on a terminal, elsewhere a line for each round."""

    def __init__(self, measurement: Measurement, tomography: Tomography | None = None) -> None:
        self._measurement, self._tomography = measurement, tomography
        self._terminal = sys.stderr.isatty()
        self._width = 0
        self._round = -1

    def show(self) -> None:
        """Show it, if it is new to whoever reads."""
        if not self._terminal and self._round == self._measurement.rounds:
            return
        self._round = self._measurement.rounds
        line = self._line()
        if self._terminal:
            print(f"\r{line.ljust(self._width)}", end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            _say(line)

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._terminal:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        measurement, tomography = self._measurement, self._tomography
        line = "which hop forgets" if tomography else f"round {measurement.rounds + 1}"
        if left := (tomography or measurement).left:
            line += f", at most {span(left)} left"
        bracket = measurement.bracket
        if bracket.survived is not None:
            line += f"; survived {span(bracket.survived)}"
        if bracket.forgotten is not None and bracket.unheard is None:
            line += f"; forgotten by {span(bracket.forgotten)}"
        return line


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
    _say(f"wrote {printable(str(file))}; {command} puts it in force")


def _today() -> datetime.date:
    return datetime.datetime.now().astimezone().date()


async def _listen(port: int, seconds: float, root: Path) -> None:
    """Serve measurements until the time is over, or until Ctrl-C."""
    import asyncio

    from keepaliveD.cli.measure.introduction import Introduction
    from keepaliveD.measuring.greeting import new_token
    from keepaliveD.measuring.listener import Listener, bound

    token = new_token()
    server = bound(port)
    stop = asyncio.Event()
    with _interruptible(stop):
        _say(
            f"listening on port {port} for {span(seconds)}, or until Ctrl-C; at the other end run:",
            f"  keepalivectl measure THIS_HOST:{port} --token {token}",
        )
        listener = Listener(server, token, _say, Introduction(root))
        await listener.serve(seconds, stop)
    _say(f"served {listener.served} connections")
