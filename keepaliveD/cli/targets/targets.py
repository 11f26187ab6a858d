"""Find the connections that a word on the command line means: a process, a unit, an end, a cookie.

They are rows of a scan: to make objects of 10,000 connections takes longer than all else.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keepaliveD.cli.printing.fitting import tell
from keepaliveD.cli.targets import named, nearest
from keepaliveD.cli.targets.named import (
    COOKIE,
    LONGEST_COOKIE,
    MAX_COOKIE,
    MAX_PID,
    PORT,
    endpoint,
    number,
    pid_of,
    process_name,
)
from keepaliveD.cli.targets.nearest import NOTHING, Besides
from keepaliveD.cli.worker import Asking
from keepaliveD.config.units import with_suffix
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Misuse, NoAnswer, NoInput, NotPermitted, Refusal
from keepaliveD.model.sockets import Bools, Indices, Sockets
from keepaliveD.model.text import printable, shortened
from keepaliveD.platforms.requests import owners_of, sockets_of, sockets_of_each

PROC = Path("/proc")
HALF = 2**64 - 1


def of_process_or_end(target: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows of a process by its id, or as the journal prints it, with this HOST:PORT, or with a cookie.

    Raises Misuse, NoInput, NotPermitted.
    """
    if cookie := COOKIE.fullmatch(target):
        return _with_cookie(int(cookie[1], 16), sockets, rows)
    if pid := _process_id(target):
        if number(pid, MAX_PID) > MAX_PID:
            raise NoInput(f"process {shortened(pid)}: does not exist")
        held = ask(sockets_of(number(pid, MAX_PID)))
        return rows[np.isin(sockets["inode"][rows], np.fromiter(held, np.uint64, len(held)))]
    host, port = endpoint(target)
    return rows[_has_end(sockets, host, port)[rows]]


def _process_id(target: str) -> str:
    """Return the process id that a word is, or that of the process which it names; "" where it is no such word."""
    return target if target.isdecimal() else pid_of(target, PROC)


def of_unit(pattern: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows of the units that match a pattern: their cgroups tell, no process is looked at."""
    owners, which = ask(owners_of(np.zeros(len(rows), np.uint64), sockets["cgroup"][rows]))
    return rows[_belong_to_unit(pattern, owners)[which]]


def of_anything(target: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows that a word means.

    A number is the process with this id, or, if there is none, the connection with this cookie. An address is that of
    either end. A name is that of units, or, if there are none with a connection, that of processes.
    Raises Misuse, NoInput, NotPermitted.
    """
    if cookie := COOKIE.fullmatch(target):
        return _with_cookie(int(cookie[1], 16), sockets, rows)
    if host := named.host(target):
        return rows[_has_end(sockets, {named.number_of(host)}, None)[rows]]
    if _process_id(target) or PORT.search(target):
        return _of_number_or_end(target, ask, sockets, rows)
    if not target:
        raise Misuse("TARGET is empty; name a unit, a process, a process id, HOST, HOST:PORT or a cookie")
    of_its_unit = of_unit(with_suffix(target), ask, sockets, rows)
    if len(of_its_unit):
        return of_its_unit
    of_its_processes = _of_processes(target, ask, sockets, rows)
    if len(of_its_processes):
        return of_its_processes
    owners, which = ask(owners_of(sockets["inode"][rows], sockets["cgroup"][rows]))
    so_called = [bool(owner.pid) and fnmatch.fnmatchcase(owner.process, target) for owner in owners]
    return rows[np.array(so_called, np.bool_)[which]]


def nothing(
    target: str, ask: Asking, sockets: Sockets, rows: Indices, besides: Besides = NOTHING, *, more: str = ""
) -> NoInput:
    """Return what to raise where a word means no connection; `besides` is what else it could have named.

    `more` is what else there is to do, whatever kind of word it is.
    """
    if not named.is_name(target):
        return NoInput(f"{printable(named.described(target))} has no connection; {nearest.LISTS}{more}")
    owners, _ = ask(owners_of(sockets["inode"][rows], sockets["cgroup"][rows]))
    held = [name for owner in owners for name in (owner.unit, owner.process)]
    return NoInput(nearest.nothing_called(target, held, PROC, besides._replace(words=besides.words + more)))


def no_unit(pattern: str, ask: Asking, sockets: Sockets, rows: Indices) -> NoInput:
    """Return what to raise where no unit that matches a pattern has an established connection."""
    owners, _ = ask(owners_of(np.zeros(len(rows), np.uint64), sockets["cgroup"][rows]))
    near = nearest.did_you_mean(pattern, [owner.unit for owner in owners])
    return NoInput(f"unit {printable(pattern)} has no established connection{near or f'; {nearest.LISTS}'}")


def _of_processes(pattern: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows of the processes that /proc names so: to find the owner of each socket takes much longer."""
    held: set[int] = set()
    hidden: list[int] = []
    mute = 0
    for pid, its in ask(sockets_of_each(list(_named(pattern)))).items():
        match its:
            case NotPermitted():
                hidden.append(pid)
            case NoAnswer():
                mute += 1
            case NoInput():
                pass  # it has ended
            case Refusal():
                raise its
            case _:
                held |= its
    if mute:
        tell("note", named.unanswered(mute, pattern))
    found = rows[np.isin(sockets["inode"][rows], np.fromiter(held, np.uint64, len(held)))]
    if hidden and not len(found):
        raise NotPermitted(
            f"{printable(pattern)}: which connections process {hidden[0]} has is not shown to this user; run as root, "
            "or name HOST:PORT of a connection"
        )
    return found


def _named(pattern: str) -> Iterator[int]:
    """Yield the processes with this name, where a system has such files."""
    for file in PROC.glob("[0-9]*/comm"):
        if fnmatch.fnmatchcase(process_name(file), pattern):
            yield int(file.parent.name)


def _belong_to_unit(pattern: str, owners: Sequence[Owner]) -> Bools:
    """Return which of the owners belong to a unit that matches."""
    return np.array([bool(one.unit) and fnmatch.fnmatchcase(one.unit, pattern) for one in owners], np.bool_)


def _of_number_or_end(target: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    is_cookie = target.isdecimal() and len(target) <= LONGEST_COOKIE and int(target) <= MAX_COOKIE
    alike = _with_cookie(int(target), sockets, rows) if is_cookie else rows[:0]
    try:
        found = of_process_or_end(target, ask, sockets, rows)
    except NoInput:
        if not len(alike):
            raise
        return alike
    return found if len(found) else alike


def _with_cookie(cookie: int, sockets: Sockets, rows: Indices) -> Indices:
    return rows[np.asarray(sockets["cookie"][rows] == cookie, np.bool_)]


def _has_end(sockets: Sockets, host: set[int], port: int | None) -> Bools:
    """Return which sockets have one of these addresses at an end, and this port there if one is given."""
    found = np.zeros(len(sockets), np.bool_)
    for side in ("local", "remote"):
        its = np.zeros(len(sockets), np.bool_)
        for address in host:
            its |= (sockets[f"{side}_high"] == address >> 64) & (sockets[f"{side}_low"] == address & HALF)
        found |= its if port is None else its & (sockets[f"{side}_port"] == port)
    return found
