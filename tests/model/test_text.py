"""Text from other programs cannot do anything to a terminal or a log line."""

import datetime
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.text import LONGEST, beginning_of, decoded, printable, quoted, shortened, shown

ANY_TEXT = st.text(st.characters(codec=None))  # lone surrogates too, as os.fsdecode makes them
BACKSLASH = "\\"
MOVES = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: controls, formats, surrogates, separators


@given(ANY_TEXT)
def test_nothing_that_is_printed_moves_a_cursor_or_ends_a_line(text: str) -> None:
    """A process chooses its own name, and may be hostile to whoever reads the log as root."""
    for made in (printable(text), quoted(text)):
        assert not {unicodedata.category(c) for c in made} & MOVES
        assert made.isprintable()
        assert len(made.splitlines()) <= 1
        made.encode("utf-8")


@pytest.mark.parametrize("blank", ["\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"])
def test_a_name_of_blank_letters_is_seen(blank: str) -> None:
    """Python calls them printable, some even letters; a process named so would have no name in a list."""
    assert quoted(blank * 3) == f'"{f"{BACKSLASH}{BACKSLASH}u{ord(blank):04x}" * 3}"'


@given(ANY_TEXT)
def test_printing_twice_changes_nothing(text: str) -> None:
    """Text is made printable at more than one border."""
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("sshd", "sshd"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\r", r"\r"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one byte
        ("\u202egnp.exe", r"\u202egnp.exe"),  # RIGHT-TO-LEFT OVERRIDE
        ("\u2066x", r"\u2066x"),  # LEFT-TO-RIGHT ISOLATE
        ("\u200bx", r"\u200bx"),  # ZERO WIDTH SPACE
        ("\u2028", r"\u2028"),
        ("\u3164\u3164\u3164", r"\u3164\u3164\u3164"),  # HANGUL FILLER, a letter
        ("\u2800", r"\u2800"),  # BRAILLE PATTERN BLANK
        ("\u115f\u1160\uffa0", r"\u115f\u1160\uffa0"),  # the other fillers of Hangul
        ("sshd\ufe0f\U000e0100", r"sshd\ufe0f\U000e0100"),  # variation selectors
        ("a\u034f\u17b4\u180b", r"a\u034f\u17b4\u180b"),  # marks without ink
        ("\U0001d159", r"\U0001d159"),  # MUSICAL SYMBOL NULL NOTEHEAD
        ("\x85", r"\x85"),
        ("\udc80", r"\udc80"),  # an undecodable byte
        ("Größe 大", "Größe 大"),
        ("", ""),
    ],
)
def test_what_could_do_harm_is_shown_instead(text: str, made: str) -> None:
    """It is escaped, not dropped: an odd name is worth seeing."""
    assert printable(text) == made


@pytest.mark.parametrize(
    ("octets", "made"),
    [
        (b"sshd", "sshd"),
        ("größe".encode(), "größe"),
        (b"\xff\xfe", r"\udcff\udcfe"),
        (b"\xc2\x9b31m", r"\x9b31m"),
        (b"gr\xc3", r"gr\udcc3"),  # cut off in the middle of a letter
    ],
)
def test_what_the_kernel_keeps_is_text_in_one_way(octets: bytes, made: str) -> None:
    """Whatever the locale, and whoever has read it: one name is one text, which can be copied into a rule."""
    assert decoded(octets) == made


@given(st.binary(max_size=20), st.integers(0, 20))
def test_a_name_begins_with_as_many_bytes_as_the_kernel_keeps(octets: bytes, most: int) -> None:
    """An escaped byte is several characters, and still one byte; nothing is cut in its middle."""
    whole = decoded(octets)
    begun = beginning_of(whole, most)
    assert whole.startswith(begun)
    assert (begun == whole) or len(octets) > most
    if "\\" not in octets.decode(errors="replace"):  # a program may write backslashes into its name
        assert begun in {decoded(octets[:size]) for size in range(most + 1)}
        assert (begun == whole) is (len(octets) <= most)


@pytest.mark.parametrize(
    ("text", "begun"),
    [
        ("postgresql-server-main", "postgresql-serv"),
        ("größe-größe-größe", "größe-größe"),
        (r"\udcff" * 15, r"\udcff" * 15),
        (r"\udcff" * 16, r"\udcff" * 15),
        (r"\U000e0001" * 4, r"\U000e0001" * 3),
        (r"abcdefghijklmn\x9b", "abcdefghijklmn"),  # two bytes
        (r"\x41\x41\x41\x41\x41", r"\x41\x41\x41\x4"),  # as nobody writes a letter that can be printed
        (r"\ud800\ud800\ud800\ud800\ud800\ud800", r"\ud800\ud800\ud800\ud800\ud800"),
        (r"\U00110000\U00110000", r"\U00110000\U001"),  # no character
    ],
)
def test_a_name_that_is_too_long_is_cut_between_characters(text: str, begun: str) -> None:
    """Fifteen bytes are kept of the name of a process."""
    assert beginning_of(text, 15) == begun


@pytest.mark.parametrize("name", ["sshd", "amanda@backup.service", "nginx-1.2_3", "kworker/0", "c++", "größe"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    """Almost all names are plain, and quotes around them all would be noise."""
    assert quoted(name) == name


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", '""'),
        ("a b", '"a b"'),
        ('a"b', r'"a\"b"'),
        ("a\\", r'"a\\"'),
        ("a=b", '"a=b"'),
        ("x[1]", '"x[1]"'),
        ("(y)", '"(y)"'),
    ],
)
def test_a_name_that_could_be_taken_for_more_is_in_quotes(text: str, made: str) -> None:
    """A name such as `sshd[1] 10.0.0.1:22 -> ...: safe` must not read as the rest of the line."""
    assert quoted(text) == made


@given(ANY_TEXT)
def test_a_quoted_name_ends_where_it_seems_to(text: str) -> None:
    """Inside the quotes no quote stands by itself, so a name cannot close them and forge what follows."""
    made = quoted(text)
    if not made.startswith('"'):
        assert made == text
        assert not set(made) & set(' "\\[]()=:')
        return
    inner, position = made[1:-1], 0
    assert made.endswith('"')
    while position < len(inner):
        assert inner[position] != '"'
        position += 2 if inner[position] == "\\" else 1
    assert position == len(inner)


@given(ANY_TEXT.map(printable), ANY_TEXT.map(printable))
def test_two_printable_names_that_differ_are_quoted_differently(one: str, other: str) -> None:
    """Two processes must not look like one."""
    assert (quoted(one) == quoted(other)) == (one == other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("180", "'180'"),
        ("a\x1b\n", r"'a\x1b\n'"),
        (True, "true"),
        (9.5, "9.5"),
        (datetime.date(1979, 5, 27), "1979-05-27"),
        (datetime.datetime(1979, 5, 27, 7, 32, tzinfo=datetime.UTC), "1979-05-27T07:32:00+00:00"),
        pytest.param(16**5000, "a number of thousands of digits", id="a long number"),
        ({"x": [1, "a"]}, "{'x': [1, 'a']}"),
    ],
)
def test_a_value_is_shown_nearly_as_it_was_written(value: object, text: str) -> None:
    """Who has written true does not look for True."""
    assert shown(value) == text


@pytest.mark.parametrize("value", ["x" * 100_000, ["x" * 1000] * 1000, {"x" * 1000: [[[[[[[["x"]]]]]]]]}])
def test_a_value_of_any_size_is_shown_in_a_line(value: object) -> None:
    """With dots in place of what is left out."""
    assert "..." in shown(value)
    assert len(shown(value)) <= LONGEST
    assert len(shortened("x" * 100_000)) == LONGEST
