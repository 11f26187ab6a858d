"""Run one of the system's own programs: a list of arguments, no shell, a clean environment, a time limit."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model.text import printable

LIMIT = 10.0  # seconds for one answer
ENVIRONMENT = {
    "LC_ALL": "C",  # its messages are compared
    "TZ": "UTC0",  # a boot time must read the same in every session
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
}
LONGEST = 200  # characters of a program's words in a message
NUMBER = re.compile(r"-?[0-9]+\n?")
FORBIDDEN = (  # in lower case: EPERM and EACCES as the BSDs, Solaris and libipadm word them
    "operation not permitted",
    "permission denied",
    "not owner",
    "not permitted",
    "insufficient user authorizations",
    "permission to set",
)


class Absent(Unsupported):
    """This kernel does not have the setting."""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a program, and its status, which proves nothing: some programs fail with 0."""

    status: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """Return what the program complains about, in one line, or ""; some complain on standard output."""
        words = self.err if self.err.strip() else self.out if self.status else ""
        return shortened(words) or (f"exit status {self.status}" if self.status else "")

    @property
    def number(self) -> int | None:
        """Return the number that is the whole output, or None."""
        return int(self.out) if not self.status and NUMBER.fullmatch(self.out) else None


def run(program: Path, *arguments: str) -> Output:
    """Run a program and return its output, whatever its status.

    Raises Unsupported where it is missing, NotPermitted where it may not be run,
    KernelError where it hangs, is killed or cannot be started.
    """
    command = [str(program), *arguments]
    shown = printable(" ".join(command))
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of arguments at an absolute path
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Unsupported(f"{program}: missing; the settings of this system require it") from error
    except PermissionError as error:
        raise NotPermitted(f"{program}: cannot be run: {error.strerror}; run as root") from error
    except OSError as error:
        raise KernelError(f"{program}: cannot be run: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            raise KernelError(f"{shown}: no answer within {LIMIT:g}s, ended it") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode < 0:
        raise KernelError(f"{shown}: was killed by signal {-process.returncode}")
    return Output(process.returncode, _text(out), _text(err))


def number(key: str, answer: Output, absent: tuple[str, ...]) -> int:
    """Return the number in the output about `key`.

    Raises Absent where it contains one of `absent`, NotPermitted, KernelError.
    """
    if answer.number is not None:
        return answer.number
    if any(phrase in answer.reason for phrase in absent):
        raise Absent(f"{key}: this kernel does not have it: {answer.reason}")
    raise refusal(f"{key}: cannot be read: {answer.reason or f'{shortened(answer.out)!r} is not a number'}")


def refusal(problem: str, cure: str = "run as root") -> Refusal:
    """Return the problem as an error: a missing privilege, with its remedy, or a failure."""
    if any(phrase in problem.lower() for phrase in FORBIDDEN):
        return NotPermitted(f"{problem}: {cure}")
    return KernelError(problem)


def shortened(words: str) -> str:
    """Return a program's output as part of one line."""
    line = printable(" ".join(words.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def _text(octets: bytes) -> str:
    return octets.decode("ascii", "backslashreplace")
