"""Find the connections that a word on the command line means: a process, a unit, an end, a cookie.

They are rows of a scan: to make objects of 10,000 connections takes longer than all else.
"""

from __future__ import annotations

import contextlib
import fnmatch
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keepaliveD.cli.worker import Asking
from keepaliveD.config.units import with_suffix
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Misuse, NoInput, NotPermitted
from keepaliveD.model.sockets import Bools, Indices, Sockets
from keepaliveD.model.text import printable
from keepaliveD.platforms.requests import owners_of, sockets_of

PROC = Path("/proc")
MAX_PID = 4194304  # pid_max, proc(5)
MAX_PORT = 65535
COOKIE = re.compile(r"(?:sk:|0x)([0-9a-fA-F]{1,16})")  # as ss --extended shows it
PORT = re.compile(r":[0-9]+$")
LONGEST_COOKIE = 20  # digits of 64 bits
MAX_COOKIE = HALF = 2**64 - 1
MAPPED = 0xFFFF << 32  # an IPv4 address as one of IPv6: ::ffff:0:0/96


def described(target: str) -> str:
    """Return the words for what the command line names."""
    return f"process {target}" if target.isdecimal() else target


def of_process_or_end(target: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows of a process id, or with this HOST:PORT. Raises Misuse, NoInput, NotPermitted."""
    if target.isdecimal():
        held = ask(sockets_of(number(target, MAX_PID)))
        return rows[np.isin(sockets["inode"][rows], np.fromiter(held, np.uint64, len(held)))]
    host, port = endpoint(target)
    return rows[_has_end(sockets, "local", host, port)[rows] | _has_end(sockets, "remote", host, port)[rows]]


def of_unit(pattern: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows of the units that match a pattern: their cgroups tell, no process is looked at."""
    owners, which = ask(owners_of(np.zeros(len(rows), np.uint64), sockets["cgroup"][rows]))
    return rows[_belong_to_unit(pattern, owners)[which]]


def of_anything(target: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows that a word means.

    A number is the process with this id, or, if there is none, the connection with this cookie. A name is that of
    units, or, if there are none with a connection, that of processes. Raises Misuse, NoInput, NotPermitted.
    """
    if cookie := COOKIE.fullmatch(target):
        return _with_cookie(int(cookie[1], 16), sockets, rows)
    if target.isdecimal() or PORT.search(target):
        return _of_number_or_end(target, ask, sockets, rows)
    if not target:
        raise Misuse("TARGET is empty; name a unit, a process, a process id, HOST:PORT or a cookie")
    of_its_unit = of_unit(with_suffix(target), ask, sockets, rows)
    if len(of_its_unit):
        return of_its_unit
    of_its_processes = _of_processes(target, ask, sockets, rows)
    if len(of_its_processes):
        return of_its_processes
    owners, which = ask(owners_of(sockets["inode"][rows], sockets["cgroup"][rows]))
    named = [bool(owner.pid) and fnmatch.fnmatchcase(owner.process, target) for owner in owners]
    return rows[np.array(named, np.bool_)[which]]


def _of_processes(pattern: str, ask: Asking, sockets: Sockets, rows: Indices) -> Indices:
    """Return the rows of the processes that /proc names so: to find the owner of each socket takes much longer."""
    held: set[int] = set()
    for pid in _named(pattern):
        with contextlib.suppress(NoInput, NotPermitted):  # it has ended, or is none of ours
            held |= ask(sockets_of(pid))
    return rows[np.isin(sockets["inode"][rows], np.fromiter(held, np.uint64, len(held)))]


def _named(pattern: str) -> Iterator[int]:
    """Yield the processes with this name, where a system has such files."""
    for file in PROC.glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            name = printable(os.fsdecode(file.read_bytes().removesuffix(b"\n")))
            if fnmatch.fnmatchcase(name, pattern):
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


def _has_end(sockets: Sockets, side: str, host: set[int], port: int) -> Bools:
    """Return which sockets have this port and one of these addresses at one end."""
    found = np.zeros(len(sockets), np.bool_)
    for address in host:
        found |= (sockets[f"{side}_high"] == address >> 64) & (sockets[f"{side}_low"] == address & HALF)
    found &= sockets[f"{side}_port"] == port
    return found


def endpoint(text: str) -> tuple[set[int], int]:
    """Return the addresses of a host, as columns have them, and a port. Raises Misuse, NoInput."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or host in ("", "[]"):
        raise Misuse(f"{text}: neither a process id nor HOST:PORT, such as 10.20.0.9:22 or [fd00::9]:22")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise Misuse(f"{text}: is {port} the port? write [{host}]:{port} if so")
    port_number = number(port, MAX_PORT)
    if not 1 <= port_number <= MAX_PORT:
        raise Misuse(f"{text}: {port} is not a port; write 1 to {MAX_PORT}")
    return addresses(host.removeprefix("[").removesuffix("]")), port_number


def number(digits: str, most: int) -> int:
    """That many, or one more than the most that makes sense: Python reads no numbers of thousands of digits."""
    return int(digits) if len(digits) <= len(str(most)) + 1 else most + 1


def addresses(host: str) -> set[int]:
    """Return those of a host, which is an address or a name. Raises NoInput."""
    try:
        return {number_of(host)}
    except ValueError:
        pass
    try:
        return {number_of(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise NoInput(f"{host}: cannot be resolved: {reason}") from None


def number_of(address: str) -> int:
    """Return an address as columns have it: IPv4 mapped, and without the interface of a link-local one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return int(parsed) | (MAPPED if parsed.version == 4 else 0)
