"""Find the connections that a word on the command line means: a process, a unit, an end, a cookie."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import socket
from collections.abc import Sequence

from keepaliveD.cli.worker import Asking
from keepaliveD.config.units import with_suffix
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import Misuse, NoInput
from keepaliveD.platforms.requests import find_owners, sockets_of

MAX_PID = 4194304  # pid_max, proc(5)
MAX_PORT = 65535
COOKIE = re.compile(r"(?:sk:|0x)([0-9a-fA-F]{1,16})")  # as ss --extended shows it
PORT = re.compile(r":[0-9]+$")
LONGEST_COOKIE = 20  # digits of 64 bits


def described(target: str) -> str:
    """Return the words for what the command line names."""
    return f"process {target}" if target.isdecimal() else target


def of_process_or_end(target: str, ask: Asking, there: Sequence[Connection]) -> list[Connection]:
    """Return the connections of a process id, or with this HOST:PORT. Raises Misuse, NoInput, NotPermitted."""
    if target.isdecimal():
        held = ask(sockets_of(number(target, MAX_PID)))
        return [connection for connection in there if connection.inode in held]
    host, port = _endpoint(target)
    return [
        connection
        for connection in there
        if any(end.port == port and end.address in host for end in (connection.local, connection.remote))
    ]


def of_unit(pattern: str, ask: Asking, there: Sequence[Connection]) -> list[Connection]:
    """Return the connections of the units that match a pattern, with their owners."""
    named = ask(find_owners(there))
    return [each for each in named if each.owner.unit and fnmatch.fnmatchcase(each.owner.unit, pattern)]


def of_anything(target: str, ask: Asking, there: Sequence[Connection]) -> list[Connection]:
    """Return the connections that a word means, with their owners.

    A number is the process with this id, or, if there is none, the connection with this cookie. A name is that of
    units, or, if there are none with a connection, that of processes. Raises Misuse, NoInput, NotPermitted.
    """
    if cookie := COOKIE.fullmatch(target):
        return list(ask(find_owners([one for one in there if one.cookie == int(cookie[1], 16)])))
    if target.isdecimal() or PORT.search(target):
        return list(ask(find_owners(_of_number_or_end(target, ask, there))))
    if not target:
        raise Misuse("TARGET is empty; name a unit, a process, a process id, HOST:PORT or a cookie")
    named = ask(find_owners(there))
    unit = with_suffix(target)
    of_its_unit = [each for each in named if each.owner.unit and fnmatch.fnmatchcase(each.owner.unit, unit)]
    return of_its_unit or [each for each in named if each.owner.pid and fnmatch.fnmatchcase(each.owner.process, target)]


def _of_number_or_end(target: str, ask: Asking, there: Sequence[Connection]) -> list[Connection]:
    is_cookie = target.isdecimal() and len(target) <= LONGEST_COOKIE
    alike = [one for one in there if one.cookie == int(target)] if is_cookie else []
    try:
        return of_process_or_end(target, ask, there) or alike
    except NoInput:
        if not alike:
            raise
        return alike


def _endpoint(text: str) -> tuple[set[str], int]:
    """The addresses of a host, as the model writes them, and a port."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or host in ("", "[]"):
        raise Misuse(f"{text}: neither a process id nor HOST:PORT, such as 10.20.0.9:22 or [fd00::9]:22")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise Misuse(f"{text}: is {port} the port? write [{host}]:{port} if so")
    port_number = number(port, MAX_PORT)
    if not 1 <= port_number <= MAX_PORT:
        raise Misuse(f"{text}: {port} is not a port; write 1 to {MAX_PORT}")
    return _addresses(host.removeprefix("[").removesuffix("]")), port_number


def number(digits: str, most: int) -> int:
    """That many, or one more than the most that makes sense: Python reads no numbers of thousands of digits."""
    return int(digits) if len(digits) <= len(str(most)) + 1 else most + 1


def _addresses(host: str) -> set[str]:
    try:
        return {_as_shown(host)}
    except ValueError:
        pass
    try:
        return {_as_shown(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise NoInput(f"{host}: cannot be resolved: {reason}") from None


def _as_shown(address: str) -> str:
    """As the model writes it: IPv4 as such, and without the interface of a link-local one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
