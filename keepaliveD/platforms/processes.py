"""Ask other processes' /proc, by threads that may hang in place of this one.

A process that executes a program holds a lock (exec_update_lock, fs/exec.c) until the files are closed that
do not outlive it. One of a FUSE file system whose server does not answer never is: whoever then reads the
process's links or namespaces, or its stat or wchan, waits with it, and no signal but SIGKILL ends that.
Anybody can do so, with as many processes as he may have.

So whoever is seen to execute a program is not asked before that is done; statm and status take no lock.
Who begins to just when he is asked costs a thread. A user who has cost several is not asked any more.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from keepaliveD.platforms import touching
from keepaliveD.threads import Task

Told = TypeVar("Told")

PATIENCE = 1.0  # seconds without progress after which a process hangs: a step takes some microseconds
BESIDE = 0.05  # seconds without progress after which others are asked by another thread
PAUSE = 0.002  # seconds between two looks at a process that executes a program, which takes as long
MOST_STUCK = 32  # threads that wait for ever; then no process is asked until one of them is let go
MOST_OF_USER = 4  # threads that wait for processes of one user; then none of that user is asked


class _Stuck(NamedTuple):
    """A thread that waits for a process that hangs, and the user of that process, if it is known."""

    task: Task[Any]
    user: str


_stuck: dict[int, _Stuck] = {}  # by process
_executing: dict[int, float] = {}  # processes that were seen to execute a program, and since when
_avoided: set[int] = set()  # processes at which a worker hung before this one
_thread = threading.local()  # the _Asker of this thread


def ask(pids: Iterable[int], question: Callable[[int], Told], patience: float = BESIDE) -> dict[int, Told]:
    """Return the answer of each process; those that hang are left out, and not asked again until they go on.

    So are, after so many seconds of `patience`, those that execute a program.
    A question that takes long calls `go_on` meanwhile. Several may be asked at once.
    Raises what `question` raises, and OSError where no thread can be started.
    """
    for pid in [pid for pid, stuck in _stuck.items() if stuck.task.wait(0)]:
        del _stuck[pid]
    for pid in [pid for pid in _executing if not _executes(pid)]:
        del _executing[pid]
    _avoided.difference_update([pid for pid in list(_avoided) if not _exists(pid)])
    known = set(filter(hangs, _executing))  # for these, nobody waits again
    asking = _Asking((pid for pid in dict.fromkeys(pids) if pid not in _stuck), question)
    asking.carry_out()
    until = time.monotonic() + patience
    while (late := set(asking.executing) - known) and time.monotonic() < until:
        time.sleep(PAUSE)
        asking.again(late)
    return dict(asking.answers)


def go_on() -> None:
    """Note that the process that is asked still answers."""
    touching.on()
    asker: _Asker | None = getattr(_thread, "asker", None)
    if asker:
        if asker.given_up:
            raise _GivenUp
        asker.steps += 1


def are_all_asked() -> bool:
    """Return whether no process hangs just now."""
    return not _stuck and not _avoided and not any(map(hangs, _executing))


def hangs(pid: int) -> bool:
    """Return whether this process did not answer for so long."""
    return pid in _stuck or pid in _avoided or time.monotonic() - _executing.get(pid, time.monotonic()) >= PATIENCE


class _GivenUp(Exception):
    """Stop waiting for the answer: another thread asks the other processes."""


class _Asker:
    """A thread that asks one process after the other."""

    def __init__(self, ask_next: Callable[[_Asker], bool]) -> None:
        self.pid = 0  # before it has begun, which threads may never do
        self.steps = 0
        self.given_up = False
        self._ask_next = ask_next
        self._seen, self._since = 0, time.monotonic()
        self.task = Task(self._run)

    def _run(self) -> None:
        _thread.asker = self
        try:
            while self._ask_next(self):
                pass
        except _GivenUp:
            return

    def quiet(self) -> float:
        """Return for how many seconds no progress was seen."""
        now = time.monotonic()
        if self.steps != self._seen:
            self._seen, self._since = self.steps, now
        return now - self._since


class _Asking(Generic[Told]):
    """One question to many processes; `executing` are those that execute a program."""

    def __init__(self, pids: Iterable[int], question: Callable[[int], Told]) -> None:
        self.answers: dict[int, Told] = {}
        self.executing: list[int] = []
        self._left = deque(pids)
        self._question = question
        self._askers: list[_Asker] = []
        self._shunned: frozenset[str] = frozenset()  # users

    def carry_out(self) -> None:
        """Ask all processes. One that makes no progress is asked beside the next ones, and given up in the end."""
        beside = min(BESIDE, PATIENCE)
        try:
            while self._look_after(beside):
                touching.on()  # whatever hangs is given up in time
                self._askers[-1].task.wait(beside)
        finally:
            for asker in self._askers:
                asker.given_up = True

    def again(self, pids: Iterable[int]) -> None:
        """Ask those processes that have executed their program by now."""
        ready = [pid for pid in pids if not _executes(pid)]
        self.executing = [pid for pid in self.executing if pid not in ready]
        self._left.extend(ready)
        self.carry_out()

    def _look_after(self, beside: float) -> bool:
        """Drop threads that have ended or hang, and start another one where all wait; return whether there are any."""
        for asker in list(self._askers):
            if asker.task.wait(0):
                asker.task.result(0)
                self._askers.remove(asker)
            elif asker.quiet() >= PATIENCE:
                asker.given_up = True
                _stuck[asker.pid or -len(_stuck) - 1] = _Stuck(asker.task, user_of(asker.pid))
                self._askers.remove(asker)
        quiet = {asker.pid: asker.quiet() for asker in self._askers}
        long = [user_of(pid) for pid, seconds in quiet.items() if seconds >= PATIENCE / 2]
        of_user = Counter([*(stuck.user for stuck in _stuck.values()), *long])
        self._shunned = frozenset(user for user, count in of_user.items() if user and count >= MOST_OF_USER)
        room = len(_stuck) + len(self._askers) < MOST_STUCK
        if self._left and room and all(seconds >= beside for seconds in quiet.values()):
            self._askers.append(_Asker(self._ask_next))
        return bool(self._askers)

    def _ask_next(self, asker: _Asker) -> bool:
        """Ask one process; return whether there may be another one to ask."""
        if asker.given_up:
            return False
        try:
            pid = self._left.popleft()
        except IndexError:
            return False
        if self._shunned and user_of(pid) in self._shunned:
            return True
        if _executes(pid):
            _executing.setdefault(pid, time.monotonic())
            self.executing.append(pid)
            return True
        asker.pid = pid
        try:
            touching.now(touching.Kind.PROCESS, pid)
        except touching.MustNotTouch:
            _avoided.add(pid)
            return True
        _avoided.discard(pid)
        go_on()
        answer = self._question(pid)
        go_on()
        self.answers[pid] = answer
        return True


def _executes(pid: int) -> bool:
    """Return whether a process executes a program just now: its memory is new, and holds no code yet."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            size, _, _, code, *_ = file.read(128).split()
    except (OSError, ValueError):
        return False  # it ended
    return size != b"0" and code == b"0"


def _exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def user_of(pid: int) -> str:
    """Return the real user id of a process, which no process can hide; nothing where it ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next((line.split()[1].decode() for line in file if line.startswith(b"Uid:")), "")
    except OSError:
        return ""
