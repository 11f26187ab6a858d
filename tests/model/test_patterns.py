"""Tests of patterns that anybody may send: they mean what they mean in fnmatch, and cost little."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepaliveD.model.patterns import MOST_KEPT, Patterns

SIGNS = "ab-]![^*?\\."
PATTERNS = st.text(SIGNS, max_size=12) | st.from_regex(r"\A[ab*?]*\[!?[]ab!-]{0,8}\][ab*?]*\Z")


def match_in_fnmatch(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@given(st.lists(PATTERNS, max_size=3), st.text(SIGNS + "\n\udc80é", max_size=8))
@example(["[b-a!-b]"], "-")  # a range without a character leaves a sign that negates, and a hyphen that is meant
@example(["[b-a!-b]"], "!")
@example(["[b-a]"], "a")
@example(["[!b-a]"], "\n")
@example(["[]-a]"], "^")
@example(["[a-"], "[a-")
@example(["a*", "b"], "ab")
@example([""], "")
def test_patterns_mean_what_they_mean_in_fnmatch(patterns: list[str], name: str) -> None:
    """All patterns are followed at once, so that one must not go on in the next."""
    assert Patterns(patterns).match(name) == match_in_fnmatch(name, patterns)


@given(st.lists(PATTERNS, max_size=3), st.lists(st.text("ab-!", max_size=4), max_size=9))
def test_one_name_after_the_other_is_matched_alike(patterns: list[str], names: list[str]) -> None:
    """What accepts a character is kept from name to name."""
    among = Patterns(patterns)
    assert [among.match(name) for name in names] == [match_in_fnmatch(name, patterns) for name in names]


@pytest.mark.parametrize(("patterns", "are_some"), [([], False), ([""], True), (["a"], True), (["*"], True)])
def test_no_pattern_can_be_told_from_one(patterns: list[str], are_some: bool) -> None:
    """Without a pattern every name is wanted, by an empty one only an empty name."""
    assert bool(Patterns(patterns)) is are_some


def test_nothing_is_kept_of_a_pattern_when_it_is_no_longer_wanted() -> None:
    """The cache of fnmatch has room for 32,768 patterns of whoever asks, 7 KB each."""
    before = fnmatch._compile_pattern.cache_info().currsize  # type: ignore[attr-defined]
    for number in range(20):
        assert not Patterns([f"{number:x}*?*[a-z]"]).match("")
    assert fnmatch._compile_pattern.cache_info().currsize == before  # type: ignore[attr-defined]


def test_names_of_many_characters_are_not_kept() -> None:
    """What is kept for a client stays bounded, whatever the names are."""
    among = Patterns(["*[!a-z]"])
    assert all(among.match(chr(1000 + number)) for number in range(2 * MOST_KEPT))
    assert len(among._accepting) == MOST_KEPT
