"""Find the entries about ended connections that a word on the command line means, as targets.py finds connections."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Collection, Sequence

from keepaliveD.cli.targets import named
from keepaliveD.config.units import with_suffix
from keepaliveD.log.history import Record
from keepaliveD.model.errors import Misuse, NoInput

SIDES = ("LOCAL", "REMOTE")


def concerning(target: str, records: Sequence[Record]) -> list[Record]:
    """Return the entries that a word means, as far as they name it: a summary names nothing but a unit.

    A number is a process id, or, if no entry has it, a cookie. A name is that of units, or, if no entry has one, of
    processes, or else of a host. Raises Misuse, NoInput.
    """
    if not target:
        raise Misuse("TARGET is empty; name a unit, a process, a process id, HOST, HOST:PORT or a cookie")
    if cookie := named.COOKIE.fullmatch(target):
        return _having("COOKIE", str(int(cookie[1], 16)), records)
    if target.isdecimal():
        return _having("PID", target, records) or _having("COOKIE", target, records)
    with contextlib.suppress(ValueError):
        return _with_end({named.number_of(target.removeprefix("[").removesuffix("]"))}, "", records)
    if named.PORT.search(target):
        host, port = named.endpoint(target)
        return _with_end(host, str(port), records)
    name, pid = named.printed(target)
    if its := [record for record in records if name and (record["PROCESS"], record["PID"]) == (name, pid)]:
        return its
    return (
        _having("UNIT", with_suffix(target), records)
        or _having("PROCESS", target, records)
        or _of_host(target, records)
    )


def _having(field: str, pattern: str, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record[field] and fnmatch.fnmatchcase(record[field], pattern)]


def _of_host(name: str, records: Sequence[Record]) -> list[Record]:
    """Return the entries of a host by its full name: a short one that nothing has may be a name of anything."""
    if "." not in name or with_suffix(name) == name:
        return []
    with contextlib.suppress(NoInput):
        return _with_end(named.addresses(name), "", records)
    return []


def _with_end(host: Collection[int], port: str, records: Sequence[Record]) -> list[Record]:
    """Return the entries with one of these addresses at either end, and with this port there if one is given."""
    return [record for record in records if any(_is_end(record, side, host, port) for side in SIDES)]


def _is_end(record: Record, side: str, host: Collection[int], port: str) -> bool:
    try:
        return named.number_of(record[f"{side}_ADDRESS"]) in host and port in ("", record[f"{side}_PORT"])
    except ValueError:  # a summary has no ends
        return False
