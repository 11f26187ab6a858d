"""The settings: as the shipped config.toml explains them, and as keepaliveD.config checks them."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from keepaliveD.config import document
from keepaliveD.model.keepalive import MAX_PROBES

SHIPPED = Path(__file__).parents[2] / "etc/tcp-keepalived/config.toml"
SECONDS = f"a time span of {document.WHOLE}"
TIMEOUT = f'a time span from {document.TIMEOUT}, or "{document.NO_LIMIT}"'
PATTERNS = "a name or a pattern with *, ?, [abc] or [!abc], or a list of them"
KINDS: tuple[tuple[object, str], ...] = (
    (document.WholeSeconds, SECONDS),
    (document.Interval, f"a time span from {document.INTERVAL}"),
    (document.WarnBefore, f"a time span from {document.WARN_BEFORE}"),
    (document.Timeout, TIMEOUT),
    (document.Timeout | None, TIMEOUT),
    (list[document.Network], "a list of networks"),
    (list[document.Port], "a list of ports"),
    (document.Units, f"{PATTERNS}; a name without a suffix means a .service"),
    (document.Patterns, PATTERNS),
    (document.Users, "a user by name or number, or a list of them"),
    (document.Verdicts, '"late", "bare" or "cut", or a list of them'),
    (document.Ends, '"unexpected", "all" or a cause, or a list of them'),
    (document.Idle | None, f'{SECONDS}, or "auto"'),
    (document.WholeSeconds | None, SECONDS),
    (document.Probes | None, f"a whole number from 1 to {MAX_PROBES}"),
    (bool, "true or false"),
    (document.Date | None, "a date of TOML, without quotes"),
    (document.Counted | None, '"packets" or "data"'),
    (document.Interface, "the name of an interface"),
    (str, ""),  # as its value shows
    (document.PresetName | None, ""),
)

HEADER = re.compile(r"(?:# )?\[+(\w+)\]+$")
SETTING = re.compile(r"(\w+) = (.*)$")
CONTINUED = "\n#" + " " * 33 + "# "  # a comment that goes on in the next line
EXAMPLE = re.compile(r"# (\w+) = (.*?)(?: +# (.*))?$")


@dataclass(slots=True)
class Group:
    """Settings that one comment explains: `values` by key, as they are written in the file."""

    section: str
    paragraphs: list[str]
    values: dict[str, str] = field(default_factory=dict)


def groups() -> list[Group]:
    """Every setting there is, in the order of the file."""
    found = [*_written(), *_examples()]
    told = {(group.section, key) for group in found for key in group.values}
    known = {(name, key) for name, section in document.SECTIONS.items() for key in section.model_fields}
    if told != known:
        odd = ", ".join(sorted(".".join(key) for key in told ^ known))
        raise SystemExit(f"{SHIPPED.name} and keepaliveD.config.document do not have the same settings: {odd}")
    return found


def about(section: str) -> str:
    """What the file says of such entries themselves."""
    before, _, _ = SHIPPED.read_text(encoding="utf-8").partition(f"#\n# [[{section}]]\n")
    return _paragraphs(before.rsplit("\n\n", 1)[-1].splitlines())[-1]


def _written() -> Iterator[Group]:
    """A comment belongs to all settings that follow it without a gap."""
    section = ""
    for block in SHIPPED.read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if header := HEADER.match(lines[0]):
            section, lines = header[1], lines[1:]
        values = {found[1]: found[2] for line in lines if (found := SETTING.match(line))}
        if values:
            yield Group(section, _paragraphs([line for line in lines if line.startswith("#")]), values)


def _examples() -> Iterator[Group]:
    """The settings of repeated entries are shown in comments, each explained where it is seen first."""
    seen: set[tuple[str, str]] = set()
    section = ""
    for line in SHIPPED.read_text(encoding="utf-8").replace(CONTINUED, " ").splitlines():
        if header := HEADER.match(line):
            section = header[1]
        found = EXAMPLE.match(line)
        if found and section in document.REPEATED and (section, found[1]) not in seen:
            seen.add((section, found[1]))
            comment = (found[3] or "").partition(", one of:")[0]  # the presets have a table
            yield Group(section, [comment] if comment else [], {found[1]: found[2]})


def _paragraphs(comment: list[str]) -> list[str]:
    text = "\n".join(line.removeprefix("#").strip() for line in comment)
    return [paragraph.replace("\n", " ") for paragraph in text.split("\n\n") if paragraph]


def takes(section: str, key: str) -> str:
    """What may be written there, in words; nothing for text."""
    model = document.SECTIONS[section]
    return _words(typing.get_type_hints(model, include_extras=True)[key], model.model_fields[key])


def _words(kind: object, info: FieldInfo) -> str:
    for known, words in KINDS:
        if known in (kind, info.annotation):
            return words
    match typing.get_args(info.annotation), info.metadata:
        case (str(), *_) as choices, _:
            *most, last = [f'"{choice}"' for choice in choices]
            return f"{', '.join(most)} or {last}"
        case (), [Ge(ge=least), Le(le=most)]:
            return f"a whole number from {least} to {most}"
    raise SystemExit(f"{kind}: how does one say to a reader what this takes?")
