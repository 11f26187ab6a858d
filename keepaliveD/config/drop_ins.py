"""Files that keepalivectl writes into config.d, and which rules are read before them."""

from __future__ import annotations

import string
import zlib
from collections.abc import Sequence
from pathlib import Path as File

from keepaliveD.places import DEFAULT_FILE, DROP_INS, SUFFIX

FIRST = "00-why-"  # sorts before what people write there, because the first rule that matches counts
PLAIN = frozenset(string.ascii_letters + string.digits + "@.-")
INSTEAD = {" ": "_", ":": ","}
LONGEST = 100  # characters of a name as it is, and at most; the rest of a longer one is shortened to its checksum


def drop_in(file: File | None, name: str) -> File:
    """Return the file in the config.d beside `file` (without one: DEFAULT_FILE) for rules about `name`."""
    return (file or DEFAULT_FILE).parent / DROP_INS / f"{FIRST}{escaped(name)}{SUFFIX}"


def written_by_why(file: File | None) -> list[File]:
    """Return the files in the config.d beside `file` that keepalivectl why --fix has written, in their order."""
    try:
        return sorted(drop_in(file, "").parent.glob(f"{FIRST}*{SUFFIX}"))
    except OSError:
        return []


def escaped(name: str) -> str:
    """Return a name for a file that no other name has."""
    whole = "".join(c if c in PLAIN else INSTEAD.get(c) or _by_number(c) for c in name)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}-{zlib.crc32(whole.encode()):08x}"


def _by_number(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "surrogateescape"))


def rules_before(file: File | None, new: File, names: Sequence[str]) -> dict[str, str]:
    """Return the place of each rule called so (arm[1]) that people wrote and that is read before the file `new`.

    Raises ConfigError, NoInput.
    """
    main, places = file or DEFAULT_FILE, {}
    numbers = {name: name.removeprefix("arm[").removesuffix("]") for name in names}
    written = {name: int(number) - 1 for name, number in numbers.items() if number.isdecimal()}
    if not written:
        return {}
    from keepaliveD.config.files import read  # with pydantic

    merged = read(file)
    for name, number in written.items():
        place = merged.place(("arm", number))
        if place.file == main or (not place.file.name.startswith(FIRST) and place.file < new):
            places[name] = str(place)
    return places
