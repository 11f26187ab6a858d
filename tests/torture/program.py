"""The programs that tortures run, and all that these say."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from pathlib import Path
from subprocess import Popen

from keepaliveD.model.errors import Exit
from tests.torture.kind import Failure

PYTHON = (sys.executable, "-S", "-E")
FOREIGN = str(Path(__file__).with_name("foreign.py"))
HASHLIB = re.compile(r"ERROR:root:code for hash .*?\nValueError: unsupported hash type \w+\n", re.DOTALL)
# what Python's hashlib itself logs where one of its hashes cannot be loaded; it goes on without
PATIENCE = 60.0  # seconds in which a busy machine ends a program


class Listener:
    """Hears all that a program says on both streams, and does not wait for ever."""

    def __init__(self, process: Popen[str]) -> None:
        assert process.stdout
        assert process.stderr
        self.process = process
        self.said = ""
        self._streams = selectors.DefaultSelector()
        for stream in (process.stdout, process.stderr):
            self._streams.register(stream.fileno(), selectors.EVENT_READ)

    def hear(self, word: str, within: float = PATIENCE) -> bool:
        """Whether it says that before it ends, or the time is over."""
        deadline = time.monotonic() + within
        while word not in self.said and self._listen(deadline):
            pass
        return word in self.said

    def end(self, within: float = PATIENCE) -> int:
        """Its status, once it and whoever traces it have ended."""
        deadline = time.monotonic() + within
        while self._streams.get_map():
            if not self._listen(deadline):
                raise Failure(f"it did not end within {within:.0f} s; it said: {self.last_words}")
        return self.process.wait(PATIENCE)

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        return self.said.strip()[-400:]

    def _listen(self, deadline: float) -> bool:
        """Whether there was anything, the end of a stream included."""
        ready = self._streams.select(max(0.0, deadline - time.monotonic()))
        for key, _ in ready:
            octets = os.read(key.fd, 1 << 16)
            self.said += octets.decode("utf-8", "replace")
            if not octets:
                self._streams.unregister(key.fd)
        return bool(ready)


def await_begun(process: Popen[str]) -> None:
    """Wait until the commands that lead to a Python program, strace(1) among them, have become that program.

    A signal that comes earlier ends the process before strace has it: strace then complains, or waits for ever.
    """
    program, deadline = os.path.realpath(sys.executable), time.monotonic() + PATIENCE
    while os.readlink(f"/proc/{process.pid}/exe") != program:
        if time.monotonic() > deadline:
            raise Failure(f"it did not begin within {PATIENCE:.0f} s")
        time.sleep(0.0005)


def whole_output(process: Popen[str]) -> str:
    """What it still says on either stream until it and whoever traces it have ended."""
    try:
        return "".join(process.communicate(timeout=PATIENCE))
    except subprocess.TimeoutExpired as error:
        raise Failure(f"it did not end within {PATIENCE:.0f} s") from error


def ended_well(status: int, said: str) -> None:
    """With a status that says what it was, and no traceback."""
    said = HASHLIB.sub("", said)
    if "Traceback" in said or "Fatal Python error" in said:
        where = [line.strip() for line in said.splitlines() if "/keepaliveD/" in line][-1:]
        raise Failure(f"traceback, status {status}: {said.strip().splitlines()[-1]} {' '.join(where)}")
    if status not in set(Exit):
        raise Failure(f"ended with {status}: {said.strip()[-400:]}")
