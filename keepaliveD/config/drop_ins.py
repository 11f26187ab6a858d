"""Files that keepalivectl writes into config.d, and which rules are read before them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path as File

from keepaliveD.config.files import DROP_INS, SUFFIX, read
from keepaliveD.places import DEFAULT_FILE

FIRST = "00-why-"  # sorts before what people write there, because the first rule that matches counts
ODD = re.compile(r"[^A-Za-z0-9@._-]+")
LONGEST = 100  # characters of a name


def drop_in(file: File | None, name: str) -> File:
    """Return the file in the config.d beside `file` (without one: DEFAULT_FILE) for rules about `name`."""
    short = ODD.sub("-", name).strip("-.")[:LONGEST] or "all"
    return (file or DEFAULT_FILE).parent / DROP_INS / f"{FIRST}{short}{SUFFIX}"


def rules_before(file: File | None, new: File, names: Sequence[str]) -> dict[str, str]:
    """Return the place of each of the rules called so (arm[1]) that is read before the file `new`.

    Raises ConfigError, NoInput.
    """
    merged, main, places = read(file), file or DEFAULT_FILE, {}
    for name in names:
        number = name.removeprefix("arm[").removesuffix("]")
        if number.isdecimal():
            place = merged.place(("arm", int(number) - 1))
            if place.file == main or (place.file != new and place.file < new):
                places[name] = str(place)
    return places
