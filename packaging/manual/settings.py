"""The settings: as the shipped config.toml explains them, and as keepaliveD.config checks them."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from keepaliveD import config

SHIPPED = Path(__file__).parents[2] / "etc/tcp-keepalived/config.toml"
SECTIONS: dict[str, type[config.Section]] = {
    "keepalive": config.KeepaliveSection,
    "watch": config.WatchSection,
    "path": config.PathSection,
}
KINDS: tuple[tuple[object, str], ...] = (
    (config.WholeSeconds, f"a time span of whole seconds, 1s to {config.MAX_IDLE}s"),
    (config.Span, "a time span"),
    (config.Timeout, 'a time span, or "infinity"'),
    (config.Timeout | None, 'a time span, or "infinity"'),
    (list[config.Network], "a list of networks"),
    (list[config.Port], "a list of ports"),
    (bool, "true or false"),
    (str, ""),  # as its value shows
    (str | None, ""),
)

HEADER = re.compile(r"(?:# )?\[+(\w+)\]+$")
SETTING = re.compile(r"(\w+) = (.*)$")
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
    known = {(name, key) for name, section in SECTIONS.items() for key in section.model_fields}
    if told != known:
        odd = ", ".join(sorted(".".join(key) for key in told ^ known))
        raise SystemExit(f"{SHIPPED.name} and keepaliveD.config do not have the same settings: {odd}")
    return found


def about_path() -> str:
    """What the file says of [[path]] itself."""
    before, _, _ = SHIPPED.read_text(encoding="utf-8").partition("#\n# [[path]]\n")
    (paragraph,) = _paragraphs(before.rsplit("\n\n", 1)[-1].splitlines())
    return paragraph


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
    """The settings of a [[path]] are shown in comments, each explained where it is seen first."""
    seen: set[str] = set()
    _, _, examples = SHIPPED.read_text(encoding="utf-8").partition("# [[path]]\n")
    for line in examples.splitlines():
        found = EXAMPLE.match(line)
        if found and found[1] not in seen:
            seen.add(found[1])
            comment = (found[3] or "").partition(", one of:")[0]  # the presets have a table; it goes on from the key
            yield Group("path", [f"The {found[1]} {comment}"] if comment else [], {found[1]: found[2]})


def _paragraphs(comment: list[str]) -> list[str]:
    text = "\n".join(line.removeprefix("#").strip() for line in comment)
    return [paragraph.replace("\n", " ") for paragraph in text.split("\n\n") if paragraph]


def takes(section: str, key: str) -> str:
    """What may be written there, in words; nothing for text."""
    model = SECTIONS[section]
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


def presets() -> dict[str, dict[str, typing.Any]]:
    """The catalogue of products, by preset."""
    return tomllib.loads(Path(config.__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))
