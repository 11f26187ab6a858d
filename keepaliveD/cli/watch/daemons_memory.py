"""What a running daemon knows by which `keepalivectl watch` judges its own scans, so that both say the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keepaliveD.cli.asking import its_files, whose_view
from keepaliveD.cli.asking.asking import control_socket, every
from keepaliveD.cli.paths import told
from keepaliveD.model.errors import KernelError
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.policy.answers.remembered import remembered
from keepaliveD.policy.verdicts.activity import Activity, nothing_known

TRIES = 3  # a scan of the daemon may come between its answers
REST = 10.0  # seconds after a daemon that could not be asked, which may have taken as long as a person notices


class Knowledge(NamedTuple):
    """What the daemon with this process id remembers of each socket, and its paths, which evidence may shorten."""

    pid: int
    memory: Activity
    paths: Sequence[NetworkPath]


class Asking:
    """Asks the daemon, if one runs; where it cannot be asked, it is asked again after a rest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rests_until = 0.0  # on the monotonic clock
        self._pid = 0  # of the daemon that has answered
        self.whose = ""  # view this is

    def ask(self) -> Knowledge | None:
        """Return what the daemon knows; None where none can be asked, or where it has not scanned yet."""
        if time.monotonic() < self._rests_until:
            return None
        known, why = whose_view.answer_or_why(lambda: _knowledge(self._root), self._directory(), self._root)
        if known is None:
            self._rests_until = time.monotonic() + REST
            gone = f"the daemon (process {self._pid}) can no longer be asked"
            self.whose = f"own scans; {gone if self._pid else why}"
            return None
        self._pid = known.pid
        if not len(known.memory):
            self.whose = f"own scans; the daemon (process {known.pid}) knows no connection yet"
        else:
            self.whose = f"own scans, judged by what the daemon (process {known.pid}) knows"
        return known

    def _directory(self) -> Path:
        return its_files.state_directory(self._root)


def _knowledge(root: Path) -> Knowledge:
    """Ask. Raises NoInput where none can be asked, NotPermitted, KernelError."""
    status, rows = told(root)
    memory = _memory(control_socket(root)) if status["scan"] else nothing_known()
    return Knowledge(status["pid"], memory, tuple(row.path for row in rows))


def _memory(control: Path) -> Activity:
    for _ in range(TRIES):
        answers = list(every(control, "ListMemory", {}))
        try:
            memory = remembered(answers)
        except (LookupError, TypeError, ValueError) as error:
            raise KernelError(f"{control}: the daemon is of another version: {error}") from error
        if memory is not None:
            return memory
    raise KernelError(f"{control}: the daemon scans more often than it can be asked")
