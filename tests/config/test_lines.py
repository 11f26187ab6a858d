"""Where each key of a TOML text stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepaliveD.config.lines import DEEPEST, Key, TooDeep, lines

TEXT = '''# a comment with [brackets] = 1
[watch]
ignore = [ # "
  "10.0.0.0/8",

  'x', 1.5, {a.b = 1.5, c = [1,
  2]}]
interval = """a = 1
[b]""" # """
[[path]]
name = 'a'
"ti\\u006de" . out= 3
[[path]]
[path.sub]
x=1979-05-27T07:32:00.5Z
[[path.subs]]
y = {}
z = [[],[
]]
end = 2'''


def test_every_key_section_and_entry_has_its_line() -> None:
    """Whatever strings, comments and brackets stand around it."""
    expected = {
        ("watch",): 2,
        ("watch", "ignore"): 3,
        ("watch", "ignore", 0): 4,
        ("watch", "ignore", 1): 6,
        ("watch", "ignore", 2): 6,
        ("watch", "ignore", 3): 6,
        ("watch", "ignore", 3, "a"): 6,
        ("watch", "ignore", 3, "a", "b"): 6,
        ("watch", "ignore", 3, "c"): 6,
        ("watch", "ignore", 3, "c", 0): 6,
        ("watch", "ignore", 3, "c", 1): 7,
        ("watch", "interval"): 8,
        ("path",): 10,
        ("path", 0): 10,
        ("path", 0, "name"): 11,
        ("path", 0, "time"): 12,
        ("path", 0, "time", "out"): 12,
        ("path", 1): 13,
        ("path", 1, "sub"): 14,
        ("path", 1, "sub", "x"): 15,
        ("path", 1, "subs"): 16,
        ("path", 1, "subs", 0): 16,
        ("path", 1, "subs", 0, "y"): 17,
        ("path", 1, "subs", 0, "z"): 18,
        ("path", 1, "subs", 0, "z", 0): 18,
        ("path", 1, "subs", 0, "z", 1): 18,
        ("path", 1, "subs", 0, "end"): 20,
    }
    assert lines(TEXT) == expected
    assert set(keys(tomllib.loads(TEXT))) == expected.keys()
    assert lines(TEXT.replace("\n", "\r\n")) == expected


def keys(value: Any, within: Key = ()) -> Iterator[Key]:
    """Every key and every entry of what tomllib has read."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, each in inner:
        yield (*within, part)
        yield from keys(each, (*within, part))


NAMES = st.text(max_size=4) | st.sampled_from(["a", "a.b", '"', "'", "[", "#", "="])
SCALARS = st.integers() | st.floats() | st.booleans() | NAMES
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
TABLES = st.dictionaries(NAMES, VALUES, max_size=4)
DOCUMENTS = st.dictionaries(NAMES, TABLES | st.lists(TABLES, min_size=1, max_size=3), max_size=4)


def quoted(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f") if all(ord(c) < 0xFFFF for c in text) else '"?"'


def written(value: Any) -> str:
    """Inline TOML, its lists over several lines."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case dict():
            return "{" + ", ".join(f"{quoted(key)} = {written(each)}" for key, each in value.items()) + "}"
        case list():
            return "[ # [\n" + ",\n\n".join(map(written, value)) + "\n]"
    return repr(value)


def sections(document: dict[str, Any]) -> Iterator[str]:
    for name, tables in document.items():
        repeated = isinstance(tables, list)
        for table in tables if repeated else [tables]:
            yield f"[[{quoted(name)}]]" if repeated else f"[{quoted(name)}]"
            yield from (f"{quoted(key)} = {written(each)}" for key, each in table.items())


@settings(deadline=None)
@given(DOCUMENTS)
def test_every_key_of_any_document_is_found_in_a_line_that_has_it(document: dict[str, Any]) -> None:
    """What tomllib finds, this finds too."""
    text = "\n".join(sections(document))
    try:
        content = tomllib.loads(text)
    except ValueError:
        content = {}  # two names that are written alike
    found, rows = lines(text), text.split("\n")
    for key in keys(content):
        assert key in found
        if isinstance(key[-1], str):
            assert quoted(key[-1]) in rows[found[key] - 1]


@settings(deadline=None)
@given(st.text() | st.text("[]{}='\"#.,ab \n0_-:"))
def test_any_text_has_lines(text: str) -> None:
    """What is no TOML is tomllib's business."""
    rows = text.count("\n") + 1
    assert all(1 <= line <= rows for line in lines(text).values())


@pytest.mark.parametrize(
    ("form", "count"),
    [("a.{}a = 1", "a."), ("[a.{}a]", "a."), ("[[a.{}a]]", "a."), ("a = {}", "["), ("a = {}", "{{a=")],
)
def test_nesting_has_an_end(form: str, count: str) -> None:
    """Python's own recursion has one, too, but not one that a daemon survives."""
    lines(form.format(count.format() * (DEEPEST - 2)))
    with pytest.raises(TooDeep) as refused:
        lines("\n" + form.format(count.format() * 5000))
    assert refused.value.args == (2,)
