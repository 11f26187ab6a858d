"""keepalivectl disarm: restore what stood in the sockets before they were armed, whoever armed them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from keepaliveD.cli import arguments, state
from keepaliveD.cli.arming.results import Results
from keepaliveD.cli.asking import running
from keepaliveD.cli.asking.its_files import elsewhere
from keepaliveD.cli.asking.orders import show_it
from keepaliveD.cli.printing.fitting import say, tell
from keepaliveD.cli.targets import targets
from keepaliveD.cli.targets.nearest import NOTHING, Besides
from keepaliveD.cli.worker import Asking, in_worker
from keepaliveD.daemon.arming import take_over
from keepaliveD.daemon.perform import Performer
from keepaliveD.model.actions import Disarm, Outcome
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import (
    Busy,
    RecordDamaged,
    Refusal,
    Unfinished,
)
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.rules import Watching
from keepaliveD.model.sockets import SocketTable
from keepaliveD.model.text import connections, printable
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import scan
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.connections import with_cookies
from keepaliveD.policy.verdicts.judge import Judgement, judge
from keepaliveD.records.both import Records, records_in

NOT_AGAIN = "does not arm these connections again, but it may arm others"
MAY_ARM = "may arm connections"
ANYWHERE = [NetworkPath("", FOREVER, Origin(Source.GUESS))]  # what was armed is put back wherever it leads


def add_disarm(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl disarm`."""
    arguments.add_state(command)
    command.set_defaults(command=disarm_connections, order=True)


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
    lost: int  # sockets on record that are not in the scan, where that may lack some
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
        if self.lost:
            where = "ended since, or armed still where not all connections can be read; try again, as root"
            yield Unfinished(f"{connections(self.lost)} on record not found: {where}")


def disarm(options: argparse.Namespace, root: Path, target: str | None = None, besides: Besides = NOTHING) -> Disarmed:
    """Disarm all recorded sockets, or those that a word means (targets.of_anything), and say so. Raises Refusal.

    `besides` is what else the word could have named.
    Without a daemon, arming at connect ends with all sockets.
    """
    platform = detect(root=root)
    records = records_in(options.state_dir, platform.tuner)
    beside_daemon = running.running(options.state_dir, root)
    at_connect, stuck = ("", None) if beside_daemon or target is not None else _end_at_connect(platform)
    if at_connect:
        say(at_connect)
    with in_worker(platform.open, Watching()) as ask:
        look = judge(ask(scan(time.monotonic())), nothing_known(), ANYWHERE, ())
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
    lost = len(armed.keys() - seen) if target is None and not look.table.is_whole else 0
    other = elsewhere(options.state_dir, root)
    return Disarmed(
        armed, look.table, outcome, report, damaged, unrecorded, stuck, unread, lost, bool(at_connect), other
    )


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
