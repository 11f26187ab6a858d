"""A log that also keeps a history of ended connections, for where no journal does."""

from __future__ import annotations

from collections.abc import Callable

from keepaliveD.log.entries import WARNING, Entry
from keepaliveD.log.history import ENDS
from keepaliveD.log.journal import Log, as_object
from keepaliveD.model.errors import Refusal
from keepaliveD.records.history import History


class KeepingLog:
    """Passes every entry on to another log. It never fails: what cannot be kept is reported once."""

    def __init__(self, log: Log, history: History, clock: Callable[[], float]) -> None:
        self._log = log
        self._history = history
        self._clock = clock
        self._has_begun = self._has_failed = False

    def __call__(self, entry: Entry) -> None:
        """Keep it if it is about ended connections, and pass it on; the first one of any kind begins the history."""
        if not self._has_begun:
            self._has_begun = True
            self._keep(self._history.begin)
        if entry.event in ENDS:
            self._keep(lambda: self._history.add(as_object(entry, self._clock())))
        self._log(entry)

    def _keep(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Refusal as refusal:
            if not self._has_failed:
                self._log(Entry("doubtful", WARNING, f"no history of ended connections is kept: {refusal}"))
            self._has_failed = True
        else:
            self._has_failed = False
