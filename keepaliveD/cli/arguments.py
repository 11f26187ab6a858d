"""What both programs' command lines share."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from keepaliveD import __version__
from keepaliveD.log.complaint import complain
from keepaliveD.model.errors import Exit, Refusal, StateError, unexpected
from keepaliveD.model.text import shortened
from keepaliveD.places import DEFAULT_FILE, STATE_DIRECTORY
from keepaliveD.platforms import NAMES

FEW = 8  # choices that are listed where somebody has mistyped one
ITS_FILE = f"what a running daemon reads, if it is found, or would read: {DEFAULT_FILE}, or in a clone its own"
ITS_STATE = f"that of a daemon that can be asked, or else {STATE_DIRECTORY}"
LISTS_ALL = ", which lists all"
LONG_WORD = re.compile(r"\S{100,}")


class Parser(argparse.ArgumentParser):
    """A parser that leaves with the status of sysexits.h."""

    _told = ""  # for standard output

    def error(self, message: str) -> NoReturn:
        """One line, and where to read on."""
        message = LONG_WORD.sub(lambda word: shortened(word[0]), message)
        help_ = "" if message.endswith(LISTS_ALL) else f"{_see(message)} {self.prog} --help"
        self.exit(Exit.USAGE, f"{self.prog}: {message}{help_}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what this command does not know: the parser above it knows neither its options nor its help."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            of = self._option_string_actions if unknown[0].startswith("-") else ()
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_near(unknown[0].partition('=')[0], of)}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Offer what is near a word that is no choice, and list all choices only where they are few."""
        if action.choices is None or value in action.choices:
            return
        choices, near = list(action.choices), _near(value, action.choices)
        said = f"invalid choice: {value!r}{near}"
        if not near and len(choices) <= FEW:
            said += f" (choose from {', '.join(map(repr, choices))})"
        elif not isinstance(action, argparse._SubParsersAction) and len(choices) > FEW:
            said += f"{_see(said)} {self.prog}{LISTS_ALL}"
        raise argparse.ArgumentError(action, said)

    def exit(self, status: int = Exit.OK, message: str | None = None) -> NoReturn:
        """Leave when all is written, such as the text of --help."""
        if message:
            super()._print_message(message, sys.stderr)
        sys.exit(run(self.prog, lambda: print(end=self._told)) or status)

    def _print_message(self, message: str, file: object = None) -> None:
        """Keep it for exit(): argparse says nothing of what cannot be written."""
        del file
        self._told += message


def _see(message: str) -> str:
    """Return how a message goes on to where to read on."""
    return " See" if message.endswith("?") else "; see"


def _near(word: str, names: Iterable[str]) -> str:
    """Return the end of a sentence that offers the names nearest to a word."""
    from keepaliveD.cli.targets.nearest import did_you_mean  # loaded by a mistake alone

    return did_you_mean(word, names)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options that mean the same in both programs."""
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def add_config(parser: argparse.ArgumentParser, default: str = ITS_FILE) -> None:
    """Where the configuration is."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"read FILE and the directory config.d beside it (default: {default})",
    )


def add_state(parser: argparse.ArgumentParser, default: Path | None = None, said: str = ITS_STATE) -> None:
    """Where the record of found values is; None becomes its_files.state_directory() once the command is known."""
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=_directory,
        default=default,
        help=f"directory of the settings and arming records (default: {said})",
    )


def state_directory() -> Path:
    """Return the directory that holds the records by default: systemd's StateDirectory=, or the usual place."""
    return Path(os.environ.get("STATE_DIRECTORY", "").split(":")[0] or STATE_DIRECTORY)


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError(f"the name is empty; write a directory such as {STATE_DIRECTORY}")
    return Path(text)


def add_platform(parser: argparse.ArgumentParser) -> None:
    """Whose settings these are."""
    parser.add_argument(
        "--platform",
        metavar="SYSTEM",
        choices=NAMES,
        help=f"use the commands of {', '.join(NAMES[:-1])} or {NAMES[-1]} (default: this system)",
    )


def run(program: str, work: Callable[[], int | None], *, is_order: bool = False) -> int:
    """The exit status of `work`: what it refuses, or what fails below it, becomes one line and a number.

    An order, which changes something, is carried out whatever becomes of what it prints.
    """
    status: int | None = Exit.OK
    try:
        _occupy_standard_descriptors()
        with _carrying_out() if is_order else _printing():
            status = work()
    except BrokenPipeError:
        pass  # nobody reads any more: not an error
    except Refusal as refusal:
        complain(program, refusal, _fitted)
        return refusal.status
    except KeyboardInterrupt:
        return 128 + 2  # as a shell reports SIGINT
    except ImportError:
        raise  # __main__ says what is missing
    except Exception as error:  # whatever it is, a person reads one line
        said = unexpected(error)
        complain(program, said)
        return said.status
    finally:
        _discard_what_is_left()
    return status or Exit.OK


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Print to standard output. Raises StateError or BrokenPipeError at once where it cannot be written."""
    with contextlib.redirect_stdout(cast(TextIO, Output(sys.stdout))):
        yield
        sys.stdout.flush()


@contextlib.contextmanager
def _carrying_out() -> Iterator[None]:
    """Print what can be printed. Raises StateError or BrokenPipeError at the end where something could not be."""
    out, err = LenientOutput(sys.stdout), LenientOutput(sys.stderr, "standard error")
    with contextlib.redirect_stdout(cast(TextIO, out)), contextlib.redirect_stderr(cast(TextIO, err)):
        yield
        out.flush()
    for failure in filter(None, (out.failure, err.failure)):
        raise failure


def is_written() -> bool:
    """Return whether all that was printed so far could be written."""
    return not (isinstance(sys.stdout, LenientOutput) and sys.stdout.failure)


def _fitted(line: str) -> Iterable[str]:
    """Return a line as several where standard error is a terminal that it does not fit."""
    if not os.isatty(2):
        return [line]
    try:
        from keepaliveD.cli.printing.fitting import (  # only here: other commands do without
            INDENT,
            terminal_width,
            wrapped,
        )

        return list(wrapped([line], terminal_width(sys.stderr), INDENT))
    except (ImportError, OSError, ValueError, AttributeError):  # what is short may be what it needs
        return [line]


class Output:
    """A standard stream, where what cannot be written is a Refusal; None stands for one that is closed at the start."""

    incomplete = "the output is incomplete"

    def __init__(self, stream: TextIO | None, name: str = "standard output") -> None:
        self._stream = stream
        self._name = name
        if isinstance(stream, io.TextIOWrapper):
            with self._refusing():
                stream.reconfigure(errors="backslashreplace")  # for names that the encoding has no letters for

    def isatty(self) -> bool:
        """Whether a person sees it at once."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return its descriptor. Raises OSError where it has none."""
        if self._stream is None:
            raise OSError(errno.EBADF, "it is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Take a text. Raises StateError, BrokenPipeError."""
        with self._refusing():
            if self._stream is None:
                raise OSError(errno.EBADF, "it is closed")
            return self._stream.write(text)

    def flush(self) -> None:
        """Hand over what was taken. Raises StateError, BrokenPipeError."""
        with self._refusing():
            if self._stream is not None:
                self._stream.flush()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = f"{self._name}: cannot be written: {error.strerror}"
            raise StateError(f"{reason}; {self.incomplete}") from error


class LenientOutput(Output):
    """A standard stream that takes everything; `failure` is why it could not be written from some text on."""

    incomplete = "the command was carried out, but its output is incomplete"
    failure: StateError | BrokenPipeError | None = None

    def write(self, text: str) -> int:
        """Take a text."""
        if not self.failure:
            with self._noting():
                super().write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was taken."""
        if not self.failure:
            with self._noting():
                super().flush()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (StateError, BrokenPipeError) as failure:
            self.failure = failure


def _occupy_standard_descriptors() -> None:
    """A file that is opened later must not take the number of one that is closed: others would write into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives


def _discard_what_is_left() -> None:
    """Python tries to write it once more when it ends, and would complain and change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
