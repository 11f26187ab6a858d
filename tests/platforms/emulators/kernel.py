"""The kernel behind the emulated programs: a file of values, and the faults that a test asks for.

Almost nothing is imported: tests start thousands of these programs, and most of a start are imports.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

TYPE_CHECKING = False  # as typing's, which costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

HANG = 60.0  # seconds
GARBAGE = b"\x1b[2J\xff~~~ 12 34\n"
FOREIGN = "Vorgang nicht zulässig: Wert außerhalb des Bereichs\n".encode()


class Kernel:
    """One system: its settings as the kernel stores them, and what its programs were asked.

    A fault says what goes wrong when a program is asked to `verb` ("get" or "set") a `key` (empty: any) to
    the value `only` (empty: any), after it went well `after` times. `what` is hang, killed, garbage, language,
    silent (success that changes nothing), lying (done, but reported as a failure), late (done, then it hangs),
    off-by-one or forbidden.
    """

    def __init__(self, system: str, values: dict[str, int], *flags: str, hz: int = 1000) -> None:
        self.system = system
        self.values = values
        self.flags = flags  # what this version of the system is like
        self.hz = hz
        self.boot = "4c8609698ad1a11cdc00cf6eb7d954e1"
        self.boot_time = 1795222800
        self.root = True  # whether the user may set anything
        self.faults: list[dict[str, Any]] = []
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.children: list[int] = []
        self.hanging: list[int] = []

    def save(self, path: str) -> None:
        """Keep it in a file, in one go."""
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(repr(vars(self)))
        os.rename(f"{path}.new", path)

    @classmethod
    def load(cls, path: str) -> Kernel:
        """The one in that file."""
        kernel = cls("", {})
        with open(path, encoding="utf-8") as file:
            vars(kernel).update(eval(file.read()))
        return kernel

    def fault(self, verb: str, key: str, value: str) -> str:
        """What goes wrong with this request, or nothing."""
        for one in self.faults:
            if one["verb"] == verb and one["key"] in ("", key) and one["only"] in ("", value):
                if not one["after"]:
                    return str(one["what"])
                one["after"] -= 1
        return ""

    def store(self, key: str, value: int, fault: str) -> None:
        """Keep a value, or what the fault makes of it."""
        if fault != "silent":
            self.values[key] = value - 1 if fault == "off-by-one" else value


class Request:
    """What a program was asked for: `verb` is "get" or "set"."""

    def __init__(self, call: list[str], verb: str, key: str, value: str = "") -> None:
        self.call = call
        self.verb = verb
        self.key = key
        self.value = value


def serve(file: str, request: Request, work: Callable[[Kernel, str], int]) -> NoReturn:
    """One run of a program: `work` answers and returns the exit status, unless something goes wrong first."""
    with open(f"{file}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kernel = Kernel.load(file)
        kernel.calls.append(request.call)
        kernel.environments.append(dict(os.environ))
        kernel.children.append(os.getpid())
        fault = kernel.fault(request.verb, request.key, request.value)
        if fault in ("hang", "late"):
            kernel.hanging.append(os.getpid())
        status = 0 if fault in ("hang", "killed", "garbage", "language") else work(kernel, fault)
        kernel.save(file)
    sys.stdout.flush()
    match fault:
        case "hang" | "late":
            time.sleep(HANG)
        case "killed":
            os.kill(os.getpid(), 9)  # SIGKILL; signal would load enum
        case "garbage":
            sys.stdout.buffer.write(GARBAGE)
        case "language":
            sys.stderr.buffer.write(FOREIGN)
            status = 1
        case "lying":
            sys.stderr.write("something failed\n")
            status = 1
    sys.exit(status)
