"""What is printed and logged of arming and disarming by hand, and with which status a command ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Self

from keepaliveD.cli.printing.fitting import say
from keepaliveD.log import entries
from keepaliveD.log.journal import JournaldLog, Log, never_waiting
from keepaliveD.model import requirements
from keepaliveD.model.actions import Outcome
from keepaliveD.model.errors import (
    Busy,
    KernelError,
    Misuse,
    NoInput,
    NotPermitted,
    Unsupported,
)
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.text import connections, printable

NOBODY_LOGGED_IN = 2**32 - 1  # loginuid, proc(5)


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
            raise KernelError(f"{connections(failed)} failed: the kernel refused")
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
            left = f"{connections(unanswered)} left as before: keepalive probe unanswered"
            raise Busy(f"{left}; try again once the peer has answered")
        for in_vain in (ArmingResult.TOO_LONG, ArmingResult.ONLY_DATA, ArmingResult.USER_TIMEOUT):
            if count := self._results[in_vain]:
                raise Misuse(f"{connections(count)} not armed: {in_vain.value}")
        if hidden := self._results[ArmingResult.OWNER_NOT_VISIBLE]:
            raise self._not_permitted(hidden)
        if subflows := self._results[ArmingResult.SUBFLOW]:
            raise Unsupported(f'{connections(subflows)} not armed: MPTCP subflow; requires watch.engine = "bpf"')
        if unheld := self._results[ArmingResult.OWNER_NOT_FOUND]:
            raise NoInput(f"{connections(unheld)} not armed: owner not found")

    def _not_permitted(self, count: int) -> NotPermitted:
        return NotPermitted(f"{connections(count)} not permitted: run as root, or with {requirements.ARM.named}")


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
