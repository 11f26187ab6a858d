"""Threads whose end is waited for with a limit, and known at once where they die before they begin.

threading.Thread.start() waits for its thread to begin, and for ever where that dies before it does
(CPython, a failed allocation): a daemon would be deaf, its settings changed.
"""

from __future__ import annotations

import _thread
import errno
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Task(Generic[Result]):
    """Work that a thread of its own does; it ends with the process at the latest."""

    def __init__(self, work: Callable[[], Result]) -> None:
        """Start it. Raises OSError where no thread can be started."""
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        run = self._run  # the thread holds it until it ends, however early
        release: Callable[..., None] = self._ended.__exit__  # no Python code, for which there may be no memory
        self._held = weakref.ref(run, release)
        try:
            _thread.start_new_thread(run, ())
        except RuntimeError as error:
            raise OSError(f"{error}: raise the limit of processes or memory") from error

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after so many seconds at most."""
        if not self._ended.acquire(timeout=seconds):
            return False
        self._ended.release()
        return True

    def result(self, within: float) -> Result:
        """Return what it came to, or raise what it raised.

        Raises TimeoutError if it has not ended by then, OSError if it could not begin.
        """
        if not self.wait(within):
            raise TimeoutError(f"no answer within {within:g}s")
        if self._error:
            raise self._error
        if not self._results:
            raise OSError(errno.ENOMEM, "no memory for another thread")
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # raised again by whoever asks for the result
            self._error = error
