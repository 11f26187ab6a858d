"""The settings record as octets: what was found, what is ours, whose it is, and a checksum over all of it.

Only octets that this program wrote, unchanged, are a record: what was read is written anew and compared.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any, NamedTuple

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.digest import sha256
from keepaliveD.model.text import printable

FORMAT = 2
EARLIER = 1  # without a checksum

Ranges = Mapping[str, range]  # by setting: the values that this system can hold


class Held(NamedTuple):
    """One setting in the record: the value to restore, and the values that are ours."""

    found: int
    ours: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Whose settings these are, and what was found and set."""

    identity: Mapping[str, str]
    settings: Mapping[str, Held] = field(default_factory=dict)


def serialise(record: Record) -> bytes:
    """Return the octets of the present format."""
    body = _body(record, FORMAT)
    return _text({**body, "checksum": _checksum(body)})


def parse(octets: bytes, ranges: Ranges) -> Record:
    """Return the record, of this format or the one before. Raises ValueError with the reason it is none."""
    try:
        body = json.loads(octets.decode("ascii"))
        record = Record(_identity(body["identity"]), {key: _held(one) for key, one in body["settings"].items()})
        if _written(record, body["format"]) != octets:
            raise ValueError("it was changed, or is incomplete")
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("it is not JSON" if octets else "it is empty") from error
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {printable(str(error))}") from error
    for key, one in record.settings.items():
        check(key, (one.found, *one.ours), ranges)
    return record


def later_format(octets: bytes) -> int:
    """Return the format of a record that a later version wrote, or 0 for anything else.

    Its checksum must hold: one flipped bit makes a 3 of a 2.
    """
    try:
        body = json.loads(octets.decode("ascii"))
        number, checksum = body["format"], body.pop("checksum")
        is_later = type(number) is int and number > FORMAT and checksum == _checksum(body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return 0
    return number if is_later else 0


def check(key: str, values: tuple[int, ...], ranges: Ranges) -> None:
    """Raise ValueError where this system has no such setting, or can hold no such value."""
    if key not in ranges:
        raise ValueError(f"{printable(key)}: not a setting of this system")
    for value in values:
        if value not in ranges[key]:
            lowest, highest = ranges[key][0], ranges[key][-1]
            raise ValueError(f"{key}: {reprlib.repr(value)} is out of range; this system allows {lowest} to {highest}")


def _written(record: Record, number: object) -> bytes:
    """What this program or the version before would have written. Raises ValueError for another format."""
    if number == FORMAT:
        return serialise(record)
    if number == EARLIER:
        return _text(_body(record, EARLIER), ending="")
    raise ValueError(f"this version does not know its format {reprlib.repr(number)}")


def _body(record: Record, number: int) -> dict[str, Any]:
    settings = {key: {"found": one.found, "ours": list(one.ours)} for key, one in record.settings.items()}
    return {"format": number, "identity": dict(record.identity), "settings": settings}


def _checksum(body: Mapping[str, Any]) -> str:
    return sha256(json.dumps(body).encode("ascii"))


def _text(body: Mapping[str, Any], ending: str = "\n") -> bytes:
    return f"{json.dumps(body, indent=1)}{ending}".encode("ascii")


def _identity(names: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in names.values()):
        raise ValueError("its identity is not text")
    return dict(names)


def _held(one: Mapping[str, Any]) -> Held:
    return Held(_whole(one["found"]), tuple(_whole(value) for value in one["ours"]))


def _whole(number: object) -> int:
    if type(number) is not int:  # not even a bool
        raise TypeError(f"{reprlib.repr(number)} is not a whole number")
    return number
