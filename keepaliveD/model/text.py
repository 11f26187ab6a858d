"""Text that comes from outside, made harmless for a terminal and a log line."""

from __future__ import annotations

import datetime
import reprlib

LONGEST = 60  # characters of foreign text in a message

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST


def printable(text: str) -> str:
    """The same text with everything escaped that could move a cursor, end a line or hide itself.

    Line breaks, escapes, bidirectional overrides, and surrogates from undecodable bytes.
    """
    if text.isprintable():
        return text  # as nearly all is
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(text: str) -> str:
    """Printable text as one word: in quotes if it could be taken for more than a name."""
    text = printable(text)
    if text and all(c.isalnum() or c in "._-/@+" for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shortened(text: str) -> str:
    """The beginning of a text that is too long for a message, marked as such."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def shown(value: object) -> str:
    """A value of a configuration nearly as it was written, printable and at most some words long."""
    match value:
        case bool():
            return str(value).lower()
        case datetime.date() | datetime.time():
            return value.isoformat()
    try:
        return shortened(_SHORT.repr(value))
    except ValueError:  # Python writes no numbers of thousands of digits
        return "a number of thousands of digits"
