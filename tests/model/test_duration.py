"""Time spans as systemd writes them: read strictly, written shortly."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("180s", 180.0),
        ("5min", 300.0),
        ("1h 30min", 5400.0),
        ("1h30min", 5400.0),
        ("2 h", 7200.0),
        ("  90sec ", 90.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),  # MICRO SIGN
        ("250μs", 0.00025),  # GREEK SMALL LETTER MU
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("2weeks", 1209600.0),
        ("1M", 30.44 * 86400),
        ("1m", 60.0),
        ("1y", 365.25 * 86400),
        ("5s 5s", 10.0),
        ("0s", 0.0),
    ],
)
def test_a_time_span_is_read_as_systemd_reads_it(text: str, seconds: float) -> None:
    """An administrator knows the notation from unit files, where m is a minute and M a month."""
    assert duration.parse(text) == pytest.approx(seconds)


def test_infinity_is_forever() -> None:
    """A path that never forgets is said with systemd's word."""
    assert duration.parse("infinity") == math.inf
    assert duration.parse(" infinity ") == math.inf


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("180", "no unit"),
        (180, "no unit"),
        (180.5, "no unit"),
        (True, "no unit"),
        (None, "no unit"),
        (["180s"], "no unit"),
        ("1h 30", "no unit"),
        ("-5s", "negative"),
        ("180x", "unknown unit 'x'"),
        ("5 Minutes", "unknown unit 'Minutes'"),
        ("5S", "unknown unit 'S'"),
        ("", "empty"),
        ("   ", "empty"),
        ("soon", "not a time span"),
        ("5min, 3s", "not a time span"),
        ("5min -3s", "not a time span"),
        (".5s", "not a time span"),
        ("1e3s", "unknown unit 'e'"),
        ("nan", "not a time span"),
        ("inf", "not a time span"),
        ("0x10s", "unknown unit 'x'"),
    ],
)
def test_what_is_no_time_span_is_refused_with_the_reason_and_examples(wrong: object, why: str) -> None:
    """A number without a unit is how 180 minutes become 180 seconds."""
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        duration.parse(wrong)
    assert '"5min"' in str(refused.value)


@pytest.mark.parametrize("text", ["١٨٠s", "１８０s", "१s"])  # noqa: RUF001
def test_digits_of_other_scripts_are_refused(text: str) -> None:
    """What a reviewer cannot read in a file must not be what it means; systemd refuses them too."""
    with pytest.raises(ValueError, match="is not a time span"):
        duration.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.04, "0s"),
        (0.26, "0.3s"),
        (4.5, "4.5s"),
        (5, "5s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (20.4, "20s"),
        (59.6, "1min"),
        (185, "3min 5s"),
        (3600, "1h"),
        (3605, "1h"),
        (5400, "1h 30min"),
        (86400 + 60, "1d"),
        (86400 + 3600 + 59, "1d 1h"),
        (-58, "-58s"),
        (-125.0, "-2min 5s"),
        (math.inf, "infinity"),
        (-math.inf, "-infinity"),
    ],
)
def test_a_time_span_for_people_has_its_two_largest_units(seconds: float, text: str) -> None:
    """Nobody reads 2h 11min 15s in a log line; but 9 seconds and a half matter."""
    assert duration.span(seconds) == text


@given(st.floats(allow_nan=False))
def test_a_written_span_is_short(seconds: float) -> None:
    """It stands in the columns of a table: never more than two parts."""
    text = duration.span(seconds)
    assert re.fullmatch(r"-?(infinity|\d+\.\ds|\d+(d|h|min|s)( \d+(h|min|s))?)", text)


@given(st.floats(min_value=0, max_value=1e9))
def test_a_written_span_is_read_back_as_nearly_the_same(seconds: float) -> None:
    """What a log line says may be copied into the configuration: off by less than its smaller unit."""
    off = abs(duration.parse(duration.span(seconds)) - seconds)
    assert off <= 0.5 + (3600 if seconds >= 86399 else 60 if seconds >= 3599 else 0)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(duration.SECONDS))), min_size=1))
def test_parts_add_up_whatever_their_units(parts: list[tuple[int, str]]) -> None:
    """1h 30min is 90 minutes, in any order and any of systemd's spellings."""
    text = " ".join(f"{number}{unit}" for number, unit in parts)
    assert duration.parse(text) == pytest.approx(sum(number * duration.SECONDS[unit] for number, unit in parts))


@given(st.text() | st.text("0123456789. hminsu-+e"))
def test_any_text_is_a_time_span_or_refused(text: str) -> None:
    """A setting is judged, never a reason to fall over; what is accepted is never negative."""
    try:
        assert duration.parse(text) >= 0
    except ValueError as refused:
        assert "\n" not in str(refused)  # noqa: PT017
