"""Lines for people that fit the terminal: wrapped between words, but never within a command that may be copied."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

from keepaliveD.model.duration import FOREVER

CONTINUED = " \\"
INDENT = 4  # columns of what goes on below
LEAST = 40  # columns; narrower, the terminal wraps
COMMAND = re.compile(r"(?:keepalivectl|systemctl|kill) [^;,]*")
SOLID = "\N{NO-BREAK SPACE}"


def terminal_width(stream: TextIO | None = None) -> float:
    """Return the columns of the terminal that a stream is, by default standard output; without bound if it is none."""
    if stream is None:
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else FOREVER
    return shutil.get_terminal_size(os.get_terminal_size(stream.fileno())).columns if stream.isatty() else FOREVER


def tell(kind: str, text: str) -> None:
    """Print a note or a warning on standard error, in lines that fit where that is a terminal."""
    for line in wrapped([f"{kind}: {text}"], terminal_width(sys.stderr), len(kind) + 2):
        print(line, file=sys.stderr)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line on a stream, by default standard output; in a terminal that it does not fit, several lines."""
    for line in wrapped([text], terminal_width(stream), INDENT):
        print(line, file=stream, flush=True)  # what was done, though the program may be killed next


def continued(command: str, width: float) -> str:
    """Return a command in lines of `width` columns that a shell reads as one; they are broken before options."""
    first, *options = command.split(" --")
    lines = [first]
    for option in (f"--{each}" for each in options):
        fits = len(lines[-1]) + len(option) + len(" ") + len(CONTINUED) <= width
        lines[-1:] = [f"{lines[-1]} {option}"] if fits else [lines[-1] + CONTINUED, " " * INDENT + option]
    return command if len(command) <= width or width < LEAST else "\n".join(lines)


def wrapped(lines: Iterable[str], width: float, indent: int) -> Iterator[str]:
    """Yield the lines in `width` columns; what does not fit goes on below, indented."""
    for line in lines:
        if len(line) <= width or width < LEAST:
            yield line
        else:
            yield from _broken(line, int(width), indent)


def _broken(line: str, width: int, indent: int) -> Iterator[str]:
    held = COMMAND.sub(lambda found: _solid(found[0], width - indent), line)
    parts = textwrap.wrap(
        held, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, tabsize=1
    )
    yield from (part.replace(SOLID, " ") for part in parts)


def _solid(command: str, width: int) -> str:
    """Return a command that is not broken, unless it, or what is said after it, would not fit a line."""
    return command.replace(" ", SOLID) if len(command) <= width else command
