"""Who wrote what into the keepalive sysctls when, and so what must stand there in the end.

The rule is one, whatever the daemon was told to do and wherever it was killed: once all is restored there stands what
would stand without us, which is what somebody else wrote last.

There is one exception that no program can avoid: a kernel's sysctl cannot be compared and set in one step. What
somebody writes after our last read of a file and before our write of the same file is overwritten unseen. The oracle
knows from strace(1) when we read and wrote; only such a write is excused, and it is counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.rig import UNTUNED

FILES = {f"/proc/sys/{key.replace('.', '/')}": key for key in UNTUNED}
TOUCHES = "read,write,pread64,pwrite64,readv,writev"


def traced(log: Path) -> tuple[str, ...]:
    """A command that runs another, which keeps its process id, and logs how it touches the sysctls."""
    files = [word for file in FILES for word in ("-P", file)]
    return (
        *("strace", "-D", "-f", "--seccomp-bpf", "-y", "--absolute-timestamps=format:unix,precision:ns"),
        *("--syscall-times=ns", f"--output={log}", f"--trace={TOUCHES}", *files, "--"),
    )


@dataclass(frozen=True)
class Touch:
    """We read or wrote a value; times are seconds of the epoch."""

    log: Path
    key: str
    value: int
    writes: bool
    start: float
    end: float


@dataclass(frozen=True)
class Foreign:
    """Somebody else wrote a value."""

    key: str
    value: int
    start: float
    end: float


END = re.compile(r"^\d+ +(?P<at>[\d.]+) \+\+\+")
LINE = re.compile(
    r"^\d+ +(?P<start>[\d.]+) (?P<call>\w+)\(\d+<(?P<file>[^>]+)>, (?:\[\{iov_base=)?"
    r'"(?P<text>\d+)\\n".*?(?:= (?P<result>-?\d+).*<(?P<lasted>[\d.]+)>)?$'
)


def touches(log: Path) -> Iterator[Touch]:
    """In their order. A call that did not return before we were killed may have been done until then."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    death = max((float(last["at"]) for line in lines if (last := END.match(line))), default=math.inf)
    for line in lines:
        match = LINE.match(line)
        if not match or match["file"] not in FILES or (match["result"] or "1").startswith("-"):
            continue
        start = float(match["start"])
        end = start + float(match["lasted"]) if match["lasted"] else death
        yield Touch(log, FILES[match["file"]], int(match["text"]), "write" in match["call"], start, end)


@dataclass(frozen=True)
class Verdict:
    """What became of the writes of others to one key."""

    lost: Foreign | None  # seen by us, and not there in the end
    unseen: int  # written while nobody could see it


def judge(stands: int, foreign: Iterable[Foreign], ours: list[Touch]) -> Verdict:
    """Compare what stands with what somebody else wrote last of one key; the first was there before we came."""
    unseen = 0
    for write in sorted(foreign, key=lambda write: write.end, reverse=True):
        if write.value == stands:
            return Verdict(None, unseen)
        if not _was_unseen(write, ours):
            return Verdict(write, unseen)
        unseen += 1
    return Verdict(None, unseen)


def _was_unseen(write: Foreign, ours: list[Touch]) -> bool:
    """Whether the first of our writes after it had read the file before it."""
    over = next((touch for touch in ours if touch.writes and touch.end > write.start), None)
    if over is None:
        return False
    before = [touch for touch in ours if not touch.writes and touch.log == over.log and touch.end <= over.start]
    return bool(before) and before[-1].value != write.value and before[-1].start <= write.end


def windows(ours: list[Touch]) -> Iterator[float]:
    """How long each write of ours was blind: seconds from our last read of the file to the end of the write."""
    last: dict[tuple[Path, str], float] = {}
    for touch in ours:
        place = touch.log, touch.key
        if touch.writes and place in last:
            yield touch.end - last[place]
        if not touch.writes:
            last[place] = touch.start


def story(write: Foreign, ours: list[Touch]) -> str:
    """What we did around it, in milliseconds since."""
    near = [touch for touch in ours if touch.end > write.start - 0.005][:8]
    return ", ".join(
        f"{'wrote' if touch.writes else 'read'} {touch.value} {1000 * (touch.start - write.end):+.2f} ms"
        for touch in near
    )
