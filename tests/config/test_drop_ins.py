"""The names of files that keepalivectl writes into config.d."""

from __future__ import annotations

from keepaliveD.config.drop_ins import LONGEST, drop_in

NAMES = ("my prog", "my-prog", "my_prog", "my:prog", "*", "..", "", "x" * 300, "x" * 301)


def test_no_two_names_have_the_same_file() -> None:
    files = {drop_in(None, name) for name in NAMES}
    assert len(files) == len(NAMES)
    assert {file.parent for file in files} == {drop_in(None, "a").parent}
    assert all(len(file.name) < 2 * LONGEST for file in files)
