"""Whoever answers at a control socket: a daemon that is a few values."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from keepaliveD.cli.asking import asking
from keepaliveD.daemon.control import interface
from keepaliveD.daemon.control.control import Control
from keepaliveD.model.autopsy import Death, Tally
from keepaliveD.model.causes import Cause, Foretold
from keepaliveD.model.connections import Counts
from keepaliveD.model.snapshot import Ended, Snapshot
from keepaliveD.platforms.clock import now
from keepaliveD.policy.answers.listing import Listed, Lister
from tests.support.patience import SOON
from tests.support.tables import Socket, table, watch

NOW = 1000.0
UNITS = {7: "amanda.service"}


class FakeHost:
    """A host with as many connections as a test wants, and a clock that stands still."""

    def __init__(self, said: Snapshot, *sockets: Socket, units: Mapping[int, str] | None = UNITS) -> None:
        self.said = said
        self.now = NOW
        self.units = units
        self.lister = Lister()
        self.reported: tuple[tuple[int, Death], ...] = ()
        self.scan(*sockets)

    def scan(self, *sockets: Socket) -> None:
        """See these from now on."""
        self.judgement = watch(dataclasses.replace(table(self.now, *sockets), engine_description="bpf engine"))

    def snapshot(self) -> Snapshot:
        return self.said

    def listed(self) -> Listed:
        return self.lister.listed(self.judgement, self.units, self.now)

    def namespaces(self) -> Sequence[tuple[int, Counts]]:
        return self.lister.namespaces(self.judgement)

    def ended(self) -> Ended:
        tally = Tally(
            by_cause=Counter(
                {(Cause.PATH_DIED, foretold): 1 for foretold in (Foretold.FORETOLD, Foretold.NOT_YET_DUE)}
            ),
            ordinary=5,
            lost=1,
        )
        return Ended(self.now, tally, self.reported)


@contextlib.contextmanager
def serving(
    directory: Path,
    host: FakeHost,
    clock: Callable[[], float] = now,
    ended: Callable[[Control], bool] = lambda _: False,
) -> Iterator[None]:
    """A daemon's control socket there, served by a thread until the end of the block, or until it has `ended`.

    Whoever asks in this process waits until the thread has its turn.
    """
    control = Control(directory / "control", interface.service(lambda: host), clock)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set() and not ended(control):
            control._selector.select(0.05)
            control.turn()
        control.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with patient():
            yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Have whoever asks a daemon from this process wait for it as long as a busy machine may take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "PATIENCE", SOON)
        for ask in (asking.ask, asking.every):
            patch.setattr(ask, "__defaults__", (*(ask.__defaults__ or ())[:-1], SOON))
        yield
