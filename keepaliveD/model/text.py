"""Text that comes from outside, made harmless for a terminal and a log line."""

from __future__ import annotations

import datetime
import re
import reprlib

# What has no ink though Python calls it printable: Default_Ignorable_Code_Point of Unicode (DerivedCoreProperties.txt),
# with fillers that are letters, and the blanks of Braille, Egyptian, Khitan and of musical notation.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00013441\U00013442\U00016fe4\U0001d159\U000e0000-\U000e0fff]"
)

LONGEST = 60  # characters of foreign text in a message
ESCAPE = re.compile(r"\\(?:[tnr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})")  # of `printable`

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST


def printable(text: str) -> str:
    """The same text with everything escaped that could move a cursor, end a line or hide itself.

    Line breaks, escapes, bidirectional overrides, letters without ink, and surrogates from undecodable bytes.
    """
    if text.isprintable() and (text.isascii() or not BLANK.search(text)):
        return text  # as nearly all is
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable() and not BLANK.match(character):
        return character
    return character.encode("unicode_escape").decode("ascii")


def decoded(octets: bytes) -> str:
    """Return the printable text of octets that the kernel keeps, such as the name of a process.

    It is the same in every locale: who copies a name from a message into a rule names the same process.
    """
    return printable(octets.decode("utf-8", "surrogateescape"))


def beginning_of(text: str, most: int) -> str:
    """Return the beginning of a text of `decoded` that stands for so many octets at most, as the kernel cuts it off."""
    at = 0
    while at < len(text):
        character, end = _first_of(text, at)
        most -= 1 if "\udc80" <= character <= "\udcff" else len(character.encode("utf-8", "surrogatepass"))
        if most < 0:
            break
        at = end
    return text[:at]


def _first_of(text: str, at: int) -> tuple[str, int]:
    """Return the character that stands there, escaped or not, and where the next one does."""
    if found := ESCAPE.match(text, at):
        character = found[0].encode("ascii").decode("unicode_escape")
        if printable(character) == found[0]:  # else a program wrote this into its name
            return character, found.end()
    return text[at], at + 1


def quoted(text: str) -> str:
    """Printable text as one word: in quotes if it could be taken for more than a name."""
    text = printable(text)
    if text and all(c.isalnum() or c in "._-/@+" for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def connections(count: int) -> str:
    """Return so many connections in words."""
    return f"{count} connection{'' if count == 1 else 's'}"


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
