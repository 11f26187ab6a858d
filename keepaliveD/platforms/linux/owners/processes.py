"""Ask other processes' /proc, by a thread that may hang in place of this one.

A process that executes a program holds a lock (exec_update_lock, fs/exec.c) until the files are closed that
do not outlive it. One of a FUSE file system whose server does not answer never is: whoever then reads the
process's descriptors or namespaces waits with it, and no signal but SIGKILL ends that. Anybody can do so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from keepaliveD.threads import Task

Answer = TypeVar("Answer")

PATIENCE = 1.0  # seconds for one process: to answer takes some microseconds
MOST_STUCK = 32  # threads that wait for ever; then no process is asked until one of them is let go

_stuck: dict[int, Task[Any]] = {}  # by process, who waits for it


def ask(pids: Iterable[int], question: Callable[[int], Answer]) -> dict[int, Answer]:
    """Return the answer of each process; those that hang are left out, and not asked again until they go on.

    Raises what `question` raises, and OSError where no thread can be started.
    """
    for pid in [pid for pid, waiting in _stuck.items() if waiting.wait(0)]:
        del _stuck[pid]
    answers: dict[int, Answer] = {}
    left = [pid for pid in dict.fromkeys(pids) if pid not in _stuck]
    while left and len(_stuck) < MOST_STUCK:
        asking = _Asking(left, question)
        task = Task(asking.run)
        hung = asking.hangs_at(task)
        if hung is None:
            return answers | task.result(0)
        _stuck[left[hung]] = task
        answers |= {pid: asking.answers[pid] for pid in left[:hung]}
        left = left[hung + 1 :]
    return answers


def are_all_asked() -> bool:
    """Return whether no process hangs just now."""
    return not _stuck


class _Asking(Generic[Answer]):
    """Processes that a thread asks one by one."""

    def __init__(self, pids: list[int], question: Callable[[int], Answer]) -> None:
        self.answers: dict[int, Answer] = {}
        self._pids = pids
        self._question = question

    def run(self) -> dict[int, Answer]:
        """Return the answers of all."""
        for pid in self._pids:
            self.answers[pid] = self._question(pid)
        return self.answers

    def hangs_at(self, task: Task[dict[int, Answer]]) -> int | None:
        """Return the place of the one that has not answered for so long, or None once the task has ended."""
        answered = -1
        while not task.wait(PATIENCE):
            before, answered = answered, len(self.answers)
            if before == answered < len(self._pids):
                return answered
        return None
