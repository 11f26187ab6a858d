"""What a word on the command line names: a process, an end, a cookie, or else something by its name."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path

from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import Misuse, NoInput
from keepaliveD.model.text import decoded, printable

MAX_PID = 4194304  # pid_max, proc(5)
MAX_COOKIE = 2**64 - 1
MAX_PORT = 65535
COOKIE = re.compile(r"(?:sk:|0x)([0-9a-fA-F]{1,16})")  # as ss --extended shows it
PORT = re.compile(r":[0-9]+$")
PROCESS = re.compile(r"(.+)\[([0-9]{1,7})\]")
LONGEST_COOKIE = 20  # digits of 64 bits
MAPPED = 0xFFFF << 32  # an IPv4 address as one of IPv6: ::ffff:0:0/96


def described(target: str) -> str:
    """Return the words for what the command line names."""
    if not target.isdecimal():
        return target
    return f"process {target}" if number(target, MAX_PID) <= MAX_PID else f"cookie {target}"


def rarer_end(one: Connection) -> str:
    """Return the end whose port is the less likely to be a service's, which many connections share."""
    return str(max(one.local, one.remote, key=lambda end: end.port))


def is_name(target: str) -> bool:
    """Return whether a word is the name of something: neither a number, nor a cookie, nor an end or its host."""
    return not (target.isdecimal() or COOKIE.fullmatch(target) or PORT.search(target) or host(target))


def host(target: str) -> str:
    """Return the address that a word is, without a port; "" where it is something else."""
    address = target.removeprefix("[").removesuffix("]")
    try:
        number_of(address)
    except ValueError:
        return ""
    return address


def printed(target: str) -> tuple[str, str]:
    """Return name and id of a process that is named as the journal prints it (sshd[812]), else nothing twice."""
    found = PROCESS.fullmatch(target)
    return (_unquoted(found[1]), found[2]) if found else ("", "")


def _unquoted(name: str) -> str:
    is_quoted = len(name) > 2 and name.startswith('"') and name.endswith('"')
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if is_quoted else name


def pid_of(target: str, proc: Path) -> str:
    """Return the id of a process that is named as the journal prints it; "" where none with this id is called so."""
    name, pid = printed(target)
    return pid if name and process_name(proc / pid / "comm") == name else ""


def process_name(comm: Path) -> str:
    """Return the printable name of the process with this file, proc_pid_comm(5); "" where it has ended."""
    try:
        return decoded(comm.read_bytes().removesuffix(b"\n"))
    except OSError:
        return ""


def unanswered(number: int, pattern: str) -> str:
    """Return the words for processes with this name that do not answer."""
    if number == 1:
        said = "process called {} does not answer: its connections are not counted; if it hangs in execve(2), end it"
    else:
        said = (
            "processes called {} do not answer: their connections are not counted; if they hang in execve(2), end them"
        )
    return f"{number} {said.format(printable(pattern))} with SIGKILL"


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
