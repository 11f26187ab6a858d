"""Lines for people that fit the terminal: wrapped between words, but never within a command that may be copied."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator

from keepaliveD.model.duration import FOREVER

LEAST = 40  # columns; narrower, the terminal wraps
COMMAND = re.compile(r"(?:keepalivectl|systemctl|kill) [^;,]*")
SOLID = "\N{NO-BREAK SPACE}"


def terminal_width() -> float:
    """Return the columns of the terminal that standard output is; without bound if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else FOREVER


def wrapped(lines: Iterable[str], width: float, indent: int) -> Iterator[str]:
    """Yield the lines in `width` columns; what does not fit goes on below, indented."""
    for line in lines:
        if len(line) <= width or width < LEAST:
            yield line
        else:
            yield from _broken(line, int(width), indent)


def _broken(line: str, width: int, indent: int) -> Iterator[str]:
    held = COMMAND.sub(lambda found: found[0].replace(" ", SOLID), line)
    parts = textwrap.wrap(
        held, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, tabsize=1
    )
    yield from (part.replace(SOLID, " ") for part in parts)
