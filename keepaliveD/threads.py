"""Threads whose start and end are waited for with a limit.

threading.Thread.start() waits for its thread to begin, and for ever where that dies before it does
(CPython, a failed allocation): a daemon would be deaf, its settings changed.
"""

from __future__ import annotations

import _thread
import contextlib
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
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError as error:
            raise OSError(f"{error}: raise the limit of processes or memory") from error

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after so many seconds at most."""
        if not self._ended.acquire(timeout=seconds):
            return False
        self._ended.release()
        return True

    def result(self, within: float) -> Result:
        """Return what it came to, or raise what it raised; TimeoutError if it has not ended by then."""
        if not self.wait(within):
            raise TimeoutError(f"no answer within {within:g}s")
        if self._error:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._ended.release)
            try:
                self._results.append(self._work())
            except BaseException as error:  # raised again by whoever asks for the result
                self._error = error
