"""Counts the ends that the BPF programs did not see.

On one machine (Linux 6.18, virtual) BPF programs are not run while a timer interrupts one certain process, which the
kernel seems to hide from them: all ends of that moment are missing, hundreds at once. ftrace saw each of them pass the
same tracepoint. Of the moments that interrupted other processes, over 300, none was missing, whatever the load.
Programs of all three kinds of tracepoint (raw, with BTF, of perf) missed the same 148 of 111,706 ends, and the kernel
did not count them as skipped for recursion. The kernel's own counter has these ends all the same, where the connection
was open.
"""

from __future__ import annotations

from collections.abc import Callable


class Unseen:
    """Compares what the kernel has counted with what the programs have seen.

    An end is counted by the kernel a moment before the programs see it. So each number of the kernel is held against
    one that was read a look later: what is called unseen then certainly is, and what ended between the two is called
    so a look later still.
    """

    def __init__(self, ended: Callable[[], int | None], seen: Callable[[], int]) -> None:
        """Count from here on; None: the kernel does not say."""
        self._ended = ended
        self._seen = seen
        before = seen()
        self._last = ended()
        self._apart = (self._last or 0) - before
        self._most = 0

    def count(self) -> int:
        """Return how many ends were not seen since the start, as far as that is known by now."""
        seen = self._seen()
        if self._last is not None:
            self._most = max(self._most, self._last - self._apart - seen)
        self._last = self._ended()
        return self._most
