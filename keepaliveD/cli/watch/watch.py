"""keepalivectl watch: connections as they are now, those at risk first, by the seconds left."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files
from keepaliveD.cli.watch import daemons_memory, frame
from keepaliveD.cli.watch.daemons_memory import Asking
from keepaliveD.cli.watch.screen import Keyboard, Screen, check_terminal, ending_by_signal
from keepaliveD.config import Config, load
from keepaliveD.daemon.worker.worker import Reply
from keepaliveD.daemon.worker.workers import Hang, Workers
from keepaliveD.log import entries
from keepaliveD.model.actions import Outcome
from keepaliveD.model.connections import AT_RISK, Connection, Owner, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import Refusal
from keepaliveD.model.reports import ReportUnwatched
from keepaliveD.model.rules import IPNetwork, Watching
from keepaliveD.model.sockets import ALL_WATCHED, Floats, Indices, SocketTable, Unwatched, is_any
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect
from keepaliveD.platforms.clock import now
from keepaliveD.platforms.requests import Open, Request, Steps, owners_of, scan, with_firewall
from keepaliveD.policy.verdicts.activity import Activity, nothing_known
from keepaliveD.policy.verdicts.connections import connections, endpoints, order_of_urgency
from keepaliveD.policy.verdicts.judge import Judgement, judge, with_bare_presumed

INTERVAL, LONGEST_INTERVAL = 2.0, 60.0  # seconds between two scans, at least and at most
SHARE = 0.05  # of the time may be spent on scans, at most
DAEMON_TOO = 2  # processor time of asking the daemon counts twice: it answers for about as long
RECENT = 5  # scans of which the shortest tells what one costs: a busy machine makes them longer
FRAME = 1.0  # seconds for which what is shown stays, at most
NOTED = 10.0  # seconds for which a note is shown
LONGEST = 200  # characters of a filter
NOBODY = Owner()


def add_watch(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl watch`."""
    command.add_argument("--all", action="store_true", help="also show connections to the networks in watch.ignore")
    arguments.add_config(command)
    command.set_defaults(command=watch)


def watch(options: argparse.Namespace, root: Path) -> None:
    """Show the connections until Ctrl-C, or until the terminal is gone. Raises Refusal.

    Scans are our own, also beside a daemon: its last one may be older than what a person takes for live. They are
    judged by what the daemon knows, as its next one will be.
    """
    check_terminal()
    platform = detect(root=root)
    config = load(its_files.its_file(options, root)).within(platform.cloud())
    daemon = None if options.config else daemons_memory.Asking(root)
    ignore = () if options.all else config.ignore
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, ignore)
    with ending_by_signal(), contextlib.suppress(EOFError), Screen() as screen:
        live = Live(screen, config, ignore, daemon)
        workers = Workers(platform.open, time.monotonic, live.tell_of_hang)
        try:
            live.run(workers, watching)
        finally:
            workers.close()


class Live:
    """The view, and what is known of the connections."""

    def __init__(self, screen: Screen, config: Config, ignore: Sequence[IPNetwork], daemon: Asking | None) -> None:
        self._screen = screen
        self._daemon = daemon
        self._config = config
        self._ignore = ignore
        self._colour = "NO_COLOR" not in os.environ
        self._blocks = (getattr(sys.__stdout__, "encoding", None) or "").lower().replace("-", "") == "utf8"
        self._memory = nothing_known()
        self._began = FOREVER  # instant of the first scan
        self._slept = _slept()
        self._woke = -FOREVER  # instant of the first scan after the machine was suspended, and for how long it was
        self._asleep = 0.0
        self._seen: Seen | None = None
        self._owners: dict[int, Owner] = {}  # by cookie, as far as they were looked for
        self._filter = ""
        self._first = 0  # the row at the top
        self._note, self._noted_until = "", 0.0
        self._unwatched = ALL_WATCHED
        self._next_scan = 0.0  # on the monotonic clock
        self._costs: deque[float] = deque(maxlen=RECENT)  # seconds of the last scans, without searches

    def tell_of_hang(self, hang: Hang) -> None:
        """Show that something does not answer."""
        self._tell(entries.of_hang(hang.touched, hang.pause).message)

    def _tell(self, note: str) -> None:
        self._note, self._noted_until = printable(note), time.monotonic() + NOTED

    def run(self, workers: Workers, watching: Watching) -> None:
        """Scan, show and obey keys. Raises Refusal if the first scan fails, EOFError if the terminal is gone."""
        keyboard, steps = Keyboard(), _Running(workers)
        steps.begin(self._look(Open(watching)))
        while True:
            self._draw()
            reply = workers.wait(self._pause(), keyboard, self._screen)
            if reply:
                self._go_on(steps, reply)
            for key in self._screen.typed():
                self._press(key)
            if not steps.are_running and time.monotonic() >= self._next_scan:
                steps.begin(self._look())
            elif not steps.are_running and self._seen and len(unnamed := self._unnamed(self._seen)):
                steps.begin(self._name(self._seen, unnamed))

    def _go_on(self, steps: _Running, reply: Reply) -> None:
        try:
            steps.go_on(reply)
        except Refusal as refusal:
            if self._seen is None:
                raise
            self._tell(str(refusal))
            self._next_scan = time.monotonic() + INTERVAL

    # what is known

    def _look(self, first: Request | None = None) -> Steps[None]:
        """Scan, and judge with what the scans before have shown: those of the daemon, or else our own."""
        if first:
            yield first
        used = time.process_time()
        before = self._known_before()
        asked, began = DAEMON_TOO * (time.process_time() - used), time.monotonic()
        judgement = yield from with_firewall(
            judge(self._since(before, (yield from scan(now()))), before, self._config.paths, self._ignore),
            self._config.warn_before,
        )
        self._memory = judgement.activity
        self._began = min(self._began, judgement.forecast.now)
        judgement = with_bare_presumed(judgement, self._began)
        self._tell_of_unwatched(judgement.table.unwatched)
        self._seen = seen = Seen(judgement)
        yield from self._name(seen, self._unnamed(seen) if self._filter else self._visible(seen))
        used = time.process_time()
        self._visible(seen)
        search = time.process_time() - used  # for a filter that may be new: scans before it cost less
        alive = set(judgement.table.sockets["cookie"].tolist()) if len(self._owners) > 2 * len(seen.order) else None
        if alive is not None:
            self._owners = {cookie: owner for cookie, owner in self._owners.items() if cookie in alive}
        self._costs.append(asked + time.monotonic() - began - search)
        pause = min(LONGEST_INTERVAL, (min(self._costs) + search) * (1 / SHARE - 1))
        self._next_scan = time.monotonic() + max(INTERVAL, pause)

    def _tell_of_unwatched(self, unwatched: Unwatched) -> None:
        before, self._unwatched = self._unwatched, unwatched
        if unwatched != before:
            for entry in entries.of(Outcome(ReportUnwatched(unwatched))):
                self._tell(entry.message)

    def _known_before(self) -> Activity:
        """Return what is remembered: by the daemon, if it can be asked, or else by us."""
        known = self._daemon and self._daemon.ask()
        if not known:
            return self._memory
        self._config = dataclasses.replace(self._config, paths=tuple(known.paths))
        if not len(known.memory):
            return self._memory
        self._began = -FOREVER  # the daemon says for itself how sure it is
        return known.memory

    def _since(self, before: Activity, table: SocketTable) -> SocketTable:
        """Return the table with how long the machine was suspended since the scan that is remembered."""
        slept, self._slept = self._slept, _slept()
        if self._slept != slept:
            self._woke, self._asleep = table.taken_at, self._slept - slept
        asleep = self._asleep if before.taken_at < self._woke else 0.0
        return dataclasses.replace(table, reading=now() - table.taken_at, asleep=asleep)

    def _name(self, seen: Seen, rows: Indices) -> Steps[None]:
        """Find the owners in these rows."""
        if not len(rows):
            return
        sockets = seen.judgement.table.sockets
        owners, which = yield from owners_of(sockets["inode"][rows], sockets["cgroup"][rows])
        its = [owners[number] for number in which.tolist()]
        self._owners.update(zip(sockets["cookie"][rows].tolist(), its, strict=True))
        if self._filter:
            seen.search_anew()

    def _unnamed(self, seen: Seen) -> Indices:
        """Return the rows whose owners nobody has looked for: of all with a filter, else of those that are shown."""
        if seen.are_named:
            return seen.order[:0]
        rows = seen.order if self._filter else self._visible(seen)
        cookies = seen.judgement.table.sockets["cookie"][rows].tolist()
        unnamed = rows[np.array([cookie not in self._owners for cookie in cookies], np.bool_)]
        seen.are_named = bool(self._filter) and not len(unnamed)
        return unnamed

    # what is shown

    def _visible(self, seen: Seen) -> Indices:
        height = frame.room(self._screen.size()[1])
        rows = seen.matching(self._filter, self._owners)
        self._first = max(0, min(self._first, len(rows) - height))
        return rows[self._first : self._first + height]

    def _draw(self) -> None:
        width, height = self._screen.size()
        if self._seen is None:
            self._screen.show(frame.starting(width))
            return
        seen, visible = self._seen, self._visible(self._seen)
        view = frame.View(
            clock=time.strftime("%H:%M:%S"),
            total=len(seen.order),
            counts=seen.counts(self._filter, self._owners),
            presumed=seen.counts(self._filter, self._owners, presumed=True),
            left=seen.left(self._filter, self._owners) - seen.age(),
            shown=[self._aged(one, seen.age()) for one in connections(seen.judgement, visible)],
            age=seen.age(),
            first=self._first,
            filter=self._filter,
            whose=self._daemon.whose if self._daemon else "",
            note=self._note if time.monotonic() < self._noted_until else "",
        )
        self._screen.show(frame.frame(view, width, height, colour=self._colour, blocks=self._blocks))

    def _aged(self, one: Connection, age: float) -> Connection:
        """Return the connection as it is some seconds after the scan, with its owner."""
        owner = self._owners.get(one.cookie, NOBODY)
        return dataclasses.replace(one, due_in=one.due_in - age, idle=one.idle + age, left=one.left - age, owner=owner)

    def _pause(self) -> float:
        """Return for how long nothing is to be done: until the clock shows another second, or the next scan."""
        due = self._next_scan - time.monotonic()
        return max(0.0, min(FRAME - time.time() % FRAME, due if due > 0 else FRAME))

    # what is typed

    def _press(self, key: str) -> None:
        page = frame.room(self._screen.size()[1])
        moves = {"up": -1, "down": 1, "page up": -page, "page down": page}
        if key in moves:
            self._first = max(0, self._first + moves[key])
        elif key == "home":
            self._first = 0
        elif key == "end":
            self._first = len(self._seen.order) if self._seen else 0
        elif key == "escape":
            self._filter, self._first = "", 0
        elif key == "backspace":
            self._filter, self._first = self._filter[:-1], 0
        elif key == "/" and not self._filter:
            self._first = 0  # begins a filter in less and top
        elif len(key) == 1 and len(self._filter) < LONGEST and frame.narrow(key) == key:
            self._filter, self._first = self._filter + key, 0


class Seen:
    """One scan, and which of its connections match a filter, which is not found out anew for each picture."""

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self.order = order_of_urgency(judgement, at_risk_only=False)
        self.are_named = False  # whether somebody has looked for the owner of each
        self._texts: list[str] | None = None
        self._found: tuple[str, Indices] = ("", self.order)

    def age(self) -> float:
        """Return how many seconds ago it was."""
        return now() - self.judgement.forecast.now

    def matching(self, words: str, owners: dict[int, Owner]) -> Indices:
        """Return the rows that match every word, those at risk first; `!` before a word: not."""
        if self._found[0] != words:
            self._found = (words, self._search(words.lower().split(), owners) if words.split() else self.order)
        return self._found[1]

    def counts(self, words: str, owners: dict[int, Owner], *, presumed: bool = False) -> dict[Verdict, int]:
        """Return how many match, by verdict; or of how many of them it is not certain."""
        rows, forecast = self.matching(words, owners), self.judgement.forecast
        rows = rows[~forecast.confirmed[rows]] if presumed else rows
        numbers = np.bincount(forecast.verdict[rows], minlength=len(Verdict)).tolist()
        return dict(zip(Verdict, numbers, strict=True))

    def left(self, words: str, owners: dict[int, Owner]) -> Floats:
        """Return the seconds that those had left at the scan which match and which nothing saves."""
        rows, forecast = self.matching(words, owners), self.judgement.forecast
        doomed = is_any(forecast.verdict[rows], AT_RISK - {Verdict.CUT})
        left: Floats = forecast.cut_at[rows[doomed]] - forecast.now
        return left

    def search_anew(self) -> None:
        """Forget what was found: other owners are known."""
        self._texts, self._found = None, ("", self.order)

    def _search(self, words: Sequence[str], owners: dict[int, Owner]) -> Indices:
        if self._texts is None:
            self._texts = list(_texts(self.judgement, self.order, owners))
        wanted = [(word.removeprefix("!"), word.startswith("!")) for word in words if word != "!"]
        found = [all((word in text) is not absent for word, absent in wanted) for text in self._texts]
        return self.order[np.array(found, np.bool_)]


def _texts(judgement: Judgement, rows: Indices, owners: dict[int, Owner]) -> Iterator[str]:
    """Yield the text of each connection that a filter searches."""
    sockets, forecast = judgement.table.sockets, judgement.forecast
    paths = [path.name for path in judgement.assigned.paths]
    columns: tuple[Iterable[object], ...] = (
        [Verdict(verdict).label for verdict in forecast.verdict[rows].tolist()],
        endpoints(sockets, "local", rows),
        endpoints(sockets, "remote", rows),
        [paths[index] for index in judgement.assigned.index[rows].tolist()],
        [_owner(owners.get(cookie, NOBODY)) for cookie in sockets["cookie"][rows].tolist()],
    )
    for fields in zip(*columns, strict=True):
        yield " ".join(map(str, fields)).lower()


def _owner(owner: Owner) -> str:
    process = f"{owner.process}[{owner.pid}]" if owner.pid else ""
    return f"{process} {owner.unit} {owner.container}"


class _Running:
    """Steps whose requests a worker carries out, one after the other, while others are waited for."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._steps: Steps[None] | None = None

    @property
    def are_running(self) -> bool:
        """Return whether an answer is awaited."""
        return self._steps is not None

    def begin(self, steps: Steps[None]) -> None:
        """Send the first request."""
        self._steps = steps
        self._advance(lambda: next(steps))

    def go_on(self, reply: Reply) -> None:
        """Hand in an answer, and send the next request. Raises what the steps raise."""
        if (steps := self._steps) is not None:
            self._advance(lambda: steps.throw(reply.error) if reply.error else steps.send(reply.value))

    def _advance(self, go: Callable[[], Request]) -> None:
        try:
            self._workers.ask(go())
        except StopIteration:
            self._steps = None
        except Refusal:
            self._steps = None
            raise


def _slept() -> float:
    """Return the seconds in which the machine was suspended since it booted, as far as the clocks tell."""
    return round(now() - time.monotonic(), 1)
