"""Read TOML from bytes; an error names the line and what to type instead."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from keepaliveD.config.lines import Key, TooDeep, lines
from keepaliveD.model.text import printable, shortened, shown

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
STATEMENT = re.compile(r"""\s*([\w."'-]{1,100}) *([=:]) *(.*?)\s*$""")
BARE = re.compile(r"""[^\s"'\[\]{}#,=][^"'\[\]{}#,=]*$""")
BARE_IN_LIST = re.compile(r"""[\[,]\s*((?![-+\d]\d*\s*[],]|true\b|false\b)[^\s"'\[\]{}#,][^"'\[\]{}#,]*)""")
DATE = re.compile(r"\d{1,4}([-./])\d{1,2}\1\d{1,4}")  # in any order
DIGITS = re.compile(r".*[0-9_]{1000}")
UNCLOSED = re.compile(r"""[^#'"]*('[^']*|"([^"\\]|\\.)*)$""")
SLANTED = "“”„‟«»‘’‚`´"  # noqa: RUF001
TRUTHS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
HINTS = (  # what tomllib says, and what is said instead
    ("Invalid statement", "this is not a setting; write KEY = VALUE, [SECTION] or [[SECTION]]"),
    ("Invalid value", "this is not a TOML value; write text in double quotes"),
    ("Cannot overwrite a value", "this key was set before; remove one of the two"),
    ("Cannot declare", "this section was begun before; write all of its keys there"),
    ("Cannot mutate", "this key was set before; remove one of the two"),
    ("Unterminated string", 'the closing quote is missing; write " at the end of the text'),
    ("Illegal character", "text holds a control character; write \\t, \\n or \\u0000 for it"),
    ("Unclosed array", "the end of a list is missing; write a comma between its entries and ] at its end"),
    ("Unclosed inline table", "the end of a table is missing; write }"),
    ("Unescaped '\\'", "a backslash must be doubled; write \\\\"),
    ("Expected ']", "the end of a section's name is missing; write ] or ]]"),
    ("Expected '='", "a key has no value; write KEY = VALUE"),
    ('Expected "\'"', "the closing quote is missing; write ' at the end of the text"),
    ("Expected newline", "something follows the value; write each KEY = VALUE in a line of its own"),
    ("Invalid initial character", "a key is missing; write KEY = VALUE, [SECTION] or [[SECTION]]"),
    ("Exceeds the limit", "a number has thousands of digits; write a smaller one"),
    ("Found invalid character", "there is a control character; remove it, or save the file as UTF-8 if it is not"),
)


class NotToml(Exception):
    """Line `line` is not TOML, for a reason that says what would be right."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def parse(octets: bytes) -> tuple[dict[str, Any], dict[Key, int]]:
    """The content of a file, and the line of each key. Raises NotToml."""
    text = _decoded(octets)
    try:
        places = lines(text)
        return tomllib.loads(text), places
    except TooDeep as too_deep:
        raise NotToml(too_deep.args[0], "a key or a list is nested too deep; write [SECTION] and KEY = VALUE") from None
    except ValueError as error:
        raise _explained(str(error), text) from None


def _decoded(octets: bytes) -> str:
    if octets.startswith(UTF_16) or b"\0" in octets:
        raise NotToml(1, "the file is UTF-16, or no text; save it as UTF-8")
    try:
        return octets.decode("utf-8-sig")  # an editor's byte-order mark says nothing
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        byte = octets[error.start]
        raise NotToml(line, f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8, perhaps from Latin-1") from None


def _explained(said: str, text: str) -> NotToml:
    """Return the error of tomllib in words that help the person who wrote the line."""
    rows = text.replace("\r\n", "\n").split("\n")
    number = _number(said, rows)
    problem = _seen_in(rows[number - 1]) or next((hint for words, hint in HINTS if said.startswith(words)), "")
    return NotToml(number, problem or f"{shortened(printable(PLACE.sub('', said)))}; see https://toml.io")


def _number(said: str, rows: Sequence[str]) -> int:
    """Return the line to correct. tomllib names none for a number that is too long, or a text without an end."""
    place = PLACE.search(said)
    if place and place[1]:
        return int(place[1])
    cause = UNCLOSED if place else DIGITS
    return next((number for number, row in enumerate(rows, start=1) if cause.match(row)), len(rows))


def _seen_in(row: str) -> str:
    """Return what is wrong with a line, where the line alone shows it; else nothing."""
    found = STATEMENT.match(row)
    if not found:
        return ""
    key, sign, value = found.groups()
    unquoted = value.partition("#")[0].strip()
    if sign == ":":
        return f"write = instead of : after {key}"
    if not unquoted:
        return f"{key} has no value; write one after the ="
    if value.startswith(('"', "'")) and not value.startswith(('"""', "'''")) and UNCLOSED.match(row):
        return f'the closing quote is missing; write {key} = "{shortened(printable(unquoted[1:].strip()))}"'
    if any(c in SLANTED for c in value.partition('"')[0]):
        return f'{shown(value)} is in the wrong quotes; write {key} = "..."'
    return _unquoted(key, unquoted)


def _unquoted(key: str, value: str) -> str:
    """What is wrong with a value that may lack its quotes."""
    if value not in TRUTHS.values() and value.lower() in TRUTHS:
        return f"write {key} = {TRUTHS[value.lower()]}"
    if DATE.fullmatch(value) and not _is_value(value):
        return f"{value} is no date that exists; write one such as {key} = 2026-11-28, without quotes"
    if BARE.match(value) and not DIGITS.match(value) and not _is_value(value):
        return f'text needs quotes; write {key} = "{shortened(printable(value))}"'
    if value.startswith("[") and (entry := BARE_IN_LIST.search(value)):
        return f'text needs quotes; write "{shortened(printable(entry[1].strip()))}" in the list'
    return ""


def _is_value(text: str) -> bool:
    try:
        tomllib.loads(f"key = {text}")
    except ValueError:
        return False
    return True
