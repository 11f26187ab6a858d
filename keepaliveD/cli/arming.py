"""keepalivectl arm and disarm: keepalive in the open sockets of other programs, by hand and without a daemon."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from keepaliveD.cli import arguments, state
from keepaliveD.cli.asking.its_files import elsewhere, its_file
from keepaliveD.cli.asking.orders import show_it
from keepaliveD.cli.asking.running import running
from keepaliveD.cli.printing.fitting import say, tell
from keepaliveD.cli.targets import named, targets
from keepaliveD.cli.targets.nearest import LISTS, NOTHING, Besides
from keepaliveD.cli.worker import Asking, in_worker
from keepaliveD.config import Config, load
from keepaliveD.config.units import with_suffix
from keepaliveD.daemon.arming import take_over
from keepaliveD.daemon.perform import Performer
from keepaliveD.log import entries
from keepaliveD.log.journal import JournaldLog, Log, never_waiting
from keepaliveD.model import duration, requirements
from keepaliveD.model.actions import Arm, Disarm, Outcome
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import (
    Busy,
    KernelError,
    Misuse,
    NoInput,
    NotPermitted,
    RecordDamaged,
    Refusal,
    Unsupported,
)
from keepaliveD.model.keepalive import MAX_IDLE, MAX_PROBES
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.results import Armed, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, Watching
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.sockets import ALL_WATCHED, Indices, SocketTable, TcpState
from keepaliveD.model.text import printable, quoted
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import scan
from keepaliveD.policy.arming.arming import by_hand
from keepaliveD.policy.arming.meaning import ENOUGH
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.connections import with_cookies
from keepaliveD.policy.verdicts.judge import Judgement, judge
from keepaliveD.records.both import Records, records_in

AUTO = "auto"
NOBODY_LOGGED_IN = 2**32 - 1  # loginuid, proc(5)
NOT_AGAIN = "does not arm these connections again, but it may arm others"
MAY_ARM = "may arm connections"
ANYWHERE = [NetworkPath("", FOREVER, Origin(Source.GUESS))]  # what was armed is put back wherever it leads


def add_arm(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl arm`."""
    command.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="a process id, the HOST:PORT of either end of a connection, or its cookie",
    )
    command.add_argument(
        "--unit",
        metavar="UNIT",
        type=with_suffix,
        help="arm all connections of this systemd unit, or of all units that match a pattern",
    )
    command.add_argument(
        "--idle",
        metavar="TIME",
        type=_idle,
        default=AUTO,
        help="quiet time before the first probe (default: auto, the longest time that leaves two probes before the "
        "path forgets)",
    )
    command.add_argument(
        "--interval",
        metavar="TIME",
        type=_seconds,
        help="time between unanswered probes (default: keepalive.interval)",
    )
    command.add_argument(
        "--probes",
        metavar="NUMBER",
        type=_probes,
        help="number of unanswered probes that ends a connection (default: keepalive.probes)",
    )
    command.add_argument("--dry-run", action="store_true", help="change nothing, only report what would be done")
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=arm_connections, order=True)


def add_disarm(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl disarm`."""
    arguments.add_state(command)
    command.set_defaults(command=disarm_connections, order=True)


def _seconds(text: str) -> int:
    try:
        seconds = duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not (1 <= seconds <= MAX_IDLE and seconds == int(seconds)):
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; write whole seconds from 1s to {MAX_IDLE}s")
    return int(seconds)


def _idle(text: str) -> int | str:
    return AUTO if text == AUTO else _seconds(text)


def _probes(text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 1 to {MAX_PROBES}")
    if not 1 <= (number := named.number(text, MAX_PROBES)) <= MAX_PROBES:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; write 1 to {MAX_PROBES}")
    return number


def arm_connections(options: argparse.Namespace, root: Path) -> None:
    """Switch keepalive on in the connections that were named."""
    platform = detect(root=root)
    config = load(its_file(options, root)).within(platform.cloud())
    with in_worker(platform.open, Watching(with_interfaces=config.selects_by_interface)) as ask:
        look = _scan(ask, config.paths)
        chosen = _named(options, ask, look)
        if not len(chosen):
            raise _nothing(options, ask, look)
        records = None if options.dry_run else records_in(options.state_dir, platform.tuner)
        if records:
            state.unrecorded(platform, running(options.state_dir, root), root)
        performer = Performer(platform, records)
        rule = _rule(options, config)
        with Results(log=not options.dry_run) as report:
            for action in by_hand(look, look.table.sockets["cookie"][chosen].tolist(), rule):
                _warn_of_interval(action, options.interval)
                report.add(ask(performer.perform(action)))
    if records and (daemon := running(options.state_dir, root)):
        show_it(daemon, root)
    for line in records.arming.damaged() if records else ():
        tell("warning", line)
    if not report.entries:
        say("nothing to arm: all connections are already set, or closed meanwhile")
    report.raise_failure()


def _nothing(options: argparse.Namespace, ask: Asking, look: Judgement) -> NoInput:
    """Return what to raise where what the command line names has no connection to arm."""
    if options.unit is not None:
        sockets = look.table.sockets
        return targets.no_unit(options.unit, ask, sockets, np.arange(len(sockets)))
    target = printable(named.described(options.target))
    return NoInput(f"{target} has no established connection; {LISTS}")


def _warn_of_interval(action: Arm, wanted: int | None) -> None:
    """Warn where the path is too short for the interval that was asked for."""
    for wish in action.wishes:
        if wanted and wish.times.interval < wanted:
            path = action.connections[0]
            tell(
                "warning",
                f"--interval {duration.exact(wanted)} is too long for path {quoted(path.path)}, which forgets "
                f"after {duration.span(path.timeout)} ({path.origin}): used {duration.exact(wish.times.interval)}, "
                f"so that {ENOUGH} probes leave in time",
            )


def disarm_connections(options: argparse.Namespace, root: Path) -> None:
    """Put back what stood in all sockets that were armed, by hand, by a daemon, or at connect."""
    no_record = state.missing(options.state_dir)
    done = disarm(options, root)
    if not (no_record or done.armed):
        no_record = f"no armed socket is on record in {printable(str(options.state_dir))}"
    done.finish(": ".join(filter(None, ("nothing to disarm", no_record))))


@dataclass(frozen=True, slots=True)
class Disarmed:
    """What came of disarming. `armed` is how the sockets were armed before, by cookie; `table` is the scan before."""

    armed: Mapping[int, Armed]
    table: SocketTable
    outcome: Outcome
    report: Results
    damaged: tuple[str, ...]  # what is wrong with the record
    unrecorded: str  # why it may lack what a daemon has armed at connect
    stuck: Refusal | None  # why what an earlier daemon has pinned still arms new connections
    unread: Refusal | None  # why what an earlier daemon has armed at connect is not known
    is_at_connect_ended: bool
    elsewhere: Refusal | None  # the daemon may keep its records in another directory

    def finish(self, nothing: str) -> None:
        """Raise the reason where not all could be done; say `nothing` where there was nothing to do."""
        failures = list(self._failures())
        for failure in failures[1:]:
            tell("warning", str(failure))
        if failures:
            raise failures[0]
        if nothing and not (self.report.entries or self.is_at_connect_ended):
            if self.elsewhere:
                raise self.elsewhere
            say(nothing)
        self.report.raise_failure()

    def _failures(self) -> Iterator[Refusal]:
        """Yield what leaves something armed, apart from the results of single sockets; the first decides the status."""
        yield from map(RecordDamaged, self.damaged)
        if self.stuck:
            yield self.stuck
        if self.unread:
            yield type(self.unread)(f"sockets that were armed at connect may stay armed: {self.unread}")
        if self.unrecorded:
            yield Busy(
                f"what tcp-keepalived has armed at connect may be armed still, as it cannot be seen: {self.unrecorded}"
            )


def disarm(options: argparse.Namespace, root: Path, target: str | None = None, besides: Besides = NOTHING) -> Disarmed:
    """Disarm all recorded sockets, or those that a word means (targets.of_anything), and say so. Raises Refusal.

    `besides` is what else the word could have named.
    Without a daemon, arming at connect ends with all sockets.
    """
    platform = detect(root=root)
    records = records_in(options.state_dir, platform.tuner)
    beside_daemon = running(options.state_dir, root)
    at_connect, stuck = ("", None) if beside_daemon or target is not None else _end_at_connect(platform)
    if at_connect:
        say(at_connect)
    with in_worker(platform.open, Watching()) as ask:
        look = _scan(ask, ANYWHERE)
        seen = set(look.table.sockets["cookie"].tolist())
        named = seen if target is None else _meant(target, ask, look, besides)
        unrecorded = state.unrecorded(platform, beside_daemon, root)
        unread = _take_over(platform, records)
        armed = records.arming.armed()
        damaged = records.arming.damaged()
        if armed:
            _check_settings(records)
        action = Disarm(with_cookies(look, armed.keys() & named))
        outcome = ask(Performer(platform, records).perform(action))
    if beside_daemon and (outcome.armings or target is None):
        tell("note", _beside_daemon(NOT_AGAIN if outcome.armings else MAY_ARM))
    with Results() as report:
        report.add(outcome)
    if beside_daemon and outcome.armings:
        show_it(beside_daemon, root)
    whole = look.table.complete and look.table.unwatched == ALL_WATCHED
    if target is None and not whole and (missing := armed.keys() - seen):
        lost = f"{_connections(len(missing))} on record not found: ended since, or not visible from here"
        tell("warning", lost)
    other = elsewhere(options.state_dir, root)
    return Disarmed(armed, look.table, outcome, report, damaged, unrecorded, stuck, unread, bool(at_connect), other)


def _take_over(platform: Platform, records: Records) -> Refusal | None:
    """Record what was armed at connect; return why it cannot be: what is recorded already is disarmed nevertheless."""
    try:
        take_over(platform.at_connect, records.arming)
    except Refusal as refusal:
        return refusal
    return None


def _beside_daemon(does: str) -> str:
    how = "to prevent that, stop it, or change its arming rules and reload it"
    return f"tcp-keepalived is running: it {does}; {how}"


def _meant(target: str, ask: Asking, look: Judgement, besides: Besides) -> set[int]:
    """Return the cookies of the connections that a word means. Raises NoInput where there are none."""
    sockets = look.table.sockets
    everything = np.arange(len(sockets))
    rows = targets.of_anything(target, ask, sockets, everything)
    if not len(rows):
        raise targets.nothing(target, ask, sockets, everything, besides)
    return set(sockets["cookie"][rows].tolist())


def _check_settings(records: Records) -> None:
    """Raise Refusal where it is not known what sockets would take from the system without us: none is touched then."""
    try:
        records.settings.holds_any()
    except Refusal as refusal:
        raise type(refusal)(f"{refusal}; no socket is disarmed before that: disarm again then") from refusal


def _end_at_connect(platform: Platform) -> tuple[str, Refusal | None]:
    """Remove a BPF program that has outlived its daemon. Return what to report about it, or why it still arms."""
    if not (pin := platform.at_connect.pinned()):
        return "", None
    try:
        platform.at_connect.unpin()
    except Refusal as refusal:
        return "", refusal
    if platform.at_connect.pinned():
        return f"new connections are still armed at connect: {pin} is in use by another tcp-keepalived", None
    return f"removed {pin}; new connections are no longer armed", None


def _scan(ask: Asking, paths: Sequence[NetworkPath]) -> Judgement:
    """Everything that is there, in all namespaces, judged without the past."""
    return judge(ask(scan(time.monotonic())), nothing_known(), paths, ())


def _named(options: argparse.Namespace, ask: Asking, look: Judgement) -> Indices:
    """The rows of those that the command line means."""
    if options.target is not None and options.unit is not None:
        raise Misuse("name TARGET or --unit, not both")
    if options.target is None and options.unit is None:
        raise Misuse("name TARGET (a process id, HOST:PORT or a cookie) or --unit")
    sockets = look.table.sockets
    established = np.flatnonzero(sockets["state"] == TcpState.ESTABLISHED.value)
    if options.unit is not None:
        return targets.of_unit(options.unit, ask, sockets, established)
    try:
        return targets.of_process_or_end(options.target, ask, sockets, established)
    except Misuse as misuse:
        if not named.is_name(options.target):
            raise
        raise Misuse(f"{misuse}; --unit takes the name of a unit") from misuse


def _rule(options: argparse.Namespace, config: Config) -> ArmRule:
    """What was asked for; what was not, as in the configuration."""
    keepalive = config.keepalive
    idle = options.idle
    interval = options.interval or keepalive.interval
    if isinstance(idle, int) and interval > idle:
        name = "--interval" if options.interval else "keepalive.interval"
        most = duration.exact(idle)
        raise Misuse(
            f"{name} {duration.exact(interval)} is longer than --idle {most}; write --interval with at most {most}"
        )
    return ArmRule(
        "hand",
        ArmAction.ENABLE,
        idle if isinstance(idle, int) else None,
        interval,
        options.probes or keepalive.probes,
    )


class Results:
    """What is printed and logged of what was done by hand, and with which status it ends."""

    def __init__(self, *, log: bool = True) -> None:
        self.entries = 0
        journal = open_journal() if log else None
        self._ends = contextlib.ExitStack()
        self._log = self._ends.enter_context(never_waiting(journal)) if journal else None
        self._results: Counter[ArmingResult] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait a little until the log is written."""
        self._ends.close()

    def add(self, outcome: Outcome) -> None:
        """Print and log it. Raises what was refused."""
        if outcome.refused:
            raise outcome.refused
        for entry in entries.of(outcome):
            say(printable(entry.message), sys.stderr if entry.priority <= entries.WARNING else None)
            if self._log:
                self._log(entries.by_hand(entry, _who()))
            self.entries += 1
        for arming in outcome.armings:
            self._results[arming.result] += len(arming.connections)

    def raise_failure(self) -> None:
        """Raise the reason where what was asked for could not be done."""
        not_permitted = self._results[ArmingResult.NOT_PERMITTED] + self._results[ArmingResult.OTHER_USER_NAMESPACE]
        if not_permitted:
            raise self._not_permitted(not_permitted)
        if failed := self._results[ArmingResult.FAILED]:
            raise KernelError(f"{_connections(failed)} failed: the kernel refused")
        if any(
            self._results[result]
            for result in (
                ArmingResult.ARMED,
                ArmingResult.DISARMED,
                ArmingResult.WOULD_BE_ARMED,
                ArmingResult.ALREADY_SET,
            )
        ):
            return
        if unanswered := self._results[ArmingResult.PROBE_UNANSWERED]:
            left = f"{_connections(unanswered)} left as before: keepalive probe unanswered"
            raise Busy(f"{left}; try again once the peer has answered")
        for in_vain in (ArmingResult.TOO_LONG, ArmingResult.ONLY_DATA, ArmingResult.USER_TIMEOUT):
            if count := self._results[in_vain]:
                raise Misuse(f"{_connections(count)} not armed: {in_vain.value}")
        if hidden := self._results[ArmingResult.OWNER_NOT_VISIBLE]:
            raise self._not_permitted(hidden)
        if subflows := self._results[ArmingResult.SUBFLOW]:
            raise Unsupported(f'{_connections(subflows)} not armed: MPTCP subflow; requires watch.engine = "bpf"')
        if unheld := self._results[ArmingResult.OWNER_NOT_FOUND]:
            raise NoInput(f"{_connections(unheld)} not armed: owner not found")

    def _not_permitted(self, count: int) -> NotPermitted:
        return NotPermitted(f"{_connections(count)} not permitted: run as root, or with {requirements.ARM.named}")


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


def open_journal() -> Log | None:
    """The log of the system, where it has systemd's journal."""
    with contextlib.suppress(Unsupported):
        return JournaldLog()
    return None


def _who() -> int:
    """Who has logged in, also before sudo(8) or su(1); a uid."""
    with contextlib.suppress(OSError, ValueError):
        uid = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
        if uid != NOBODY_LOGGED_IN:
            return uid
    return os.getuid()
