"""Open connections to the far end of a measurement: a foreign service, or a listener of ours."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from dataclasses import field

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.greeting import (
    AGREED,
    ANY_BANNER,
    BANNER,
    FULL,
    LONGEST_LINE,
    Request,
    is_challenge,
    request_line,
)
from keepaliveD.measuring.ports import Ports
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import KernelError, Misuse, NoInput, NotPermitted, Refusal, Unreachable, is_shortage
from keepaliveD.model.text import printable

CONNECTING = 10.0  # seconds until a connection stands
GREETING = 15.0  # seconds for what is said on it
SETTLED = 0.3  # seconds without a packet after which what is said first is over
SETTLING = 3.0  # seconds after which a talkative service is left alone
BRIEF = 3.0  # seconds for a connection that only shows that the path is up


class Refused(Unreachable):
    """The host is there, and nobody listens."""


@dataclass(frozen=True, slots=True)
class Target:
    """The far end: what a person called it, its address, the token of a listener of ours, and our ports to it."""

    name: str
    family: socket.AddressFamily
    address: tuple[str, int]
    token: str = ""
    ports: Ports = field(default_factory=Ports, compare=False)

    @property
    def is_listener(self) -> bool:
        """Whether a listener of ours is there."""
        return bool(self.token)

    @property
    def interface(self) -> str:
        """Return the interface of a link-local address; else nothing."""
        scope = next(iter(list(self.address)[3:]), 0)
        return socket.if_indextoname(scope) if isinstance(scope, int) and scope else ""

    @property
    def lacks_interface(self) -> bool:
        """Whether it is a link-local address (fe80::/10) without its interface."""
        return ipaddress.ip_address(self.address[0]).is_link_local and list(self.address)[3:] == [0]


def resolve(name: str, host: str, port: int, token: str = "") -> list[Target]:
    """Return the target at each address of a host, the best first; at least one. Raises NoInput, Misuse."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise NoInput(f"{printable(host)}: cannot be resolved: {reason}") from None
    targets = [
        Target(name, family, (str(address[0]), port) if len(address) == 2 else address, token)  # type: ignore[arg-type]
        for family, *_, address in found
    ]
    if any(target.lacks_interface for target in targets):
        raise Misuse(f"{name}: a link-local address is one on each interface; write [{host}%INTERFACE]:{port}")
    return list(dict.fromkeys(targets))


async def open_connection(target: Target, request: Request) -> Connection:
    """Return a new connection that has become quiet. Raises Refusal: Unreachable, Misuse, NotPermitted, KernelError."""
    sock = await _connected(target, CONNECTING)
    try:
        async with asyncio.timeout(GREETING):
            await _greet(sock, target, request)
        connection = Connection(sock)
        await _settle(connection, target)
    except NotPermitted:
        sock.close()
        (await _connected(target, CONNECTING)).close()  # a listener that ends closes its port first
        raise
    except TimeoutError:
        sock.close()
        raise Misuse(f"{target.name}: nothing that keepalivectl knows listens there; leave out --token") from None
    except OSError as error:
        sock.close()
        raise Unreachable(f"{target.name}: ended the connection: {error.strerror}") from None
    except (Refusal, asyncio.CancelledError):
        sock.close()
        raise
    return connection


async def absence(target: Target) -> Refusal | None:
    """Return why no new connection stands at once; None where one does, and a listener accepts the token."""
    try:
        with await _connected(target, BRIEF) as sock:
            async with asyncio.timeout(BRIEF):
                await _greet(sock, target, Request(life=0))
    except TimeoutError:
        return Unreachable(f"{target.name}: does not answer")
    except OSError as error:
        return Unreachable(f"{target.name}: ended the connection: {error.strerror}")
    except Refusal as refusal:
        return refusal
    return None


async def _connected(target: Target, within: float) -> socket.socket:
    try:
        sock = socket.socket(target.family, socket.SOCK_STREAM)
    except OSError as error:
        raise _not_opened(target, error) from None
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # a late acknowledgement would break the silence
    target.ports.take_any(sock)
    try:
        async with asyncio.timeout(within):
            await asyncio.get_running_loop().sock_connect(sock, target.address)
    except TimeoutError:
        sock.close()
        raise Unreachable(f"{target.name}: does not answer") from None
    except OSError as error:
        sock.close()
        if is_shortage(error) or error.errno == errno.EADDRNOTAVAIL:
            raise _not_opened(target, error) from None
        kind = Refused if error.errno == errno.ECONNREFUSED else Unreachable
        raise kind(f"{target.name}: {os.strerror(error.errno or errno.EIO)}") from None
    except asyncio.CancelledError:
        sock.close()
        raise
    return sock


def _not_opened(target: Target, error: OSError) -> KernelError:
    return KernelError(f"{target.name}: no connection can be opened: {os.strerror(error.errno or errno.EIO)}")


async def _greet(sock: socket.socket, target: Target, request: Request) -> None:
    if not target.is_listener:
        return
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST_LINE:
        if not (more := await loop.sock_recv(sock, LONGEST_LINE)):
            break
        line += more
    if not line:
        raise Unreachable(
            f"{target.name}: it closes connections at once; does keepalivectl measure --listen run there?"
        )
    if line == FULL:
        raise Unreachable(
            f"{target.name}: the listener holds as many connections as it can; try again in some minutes, "
            "or start another keepalivectl measure --listen PORT there"
        )
    if line.startswith(ANY_BANNER) and not line.startswith(BANNER):
        raise Misuse(f"{target.name}: another version of keepalivectl listens there; use the same one at both ends")
    if not is_challenge(line):
        raise Misuse(f"{target.name}: it is no keepalivectl measure --listen; leave out --token")
    await loop.sock_sendall(sock, request_line(request, line, target.token))
    if await loop.sock_recv(sock, len(AGREED)) != AGREED:
        raise NotPermitted(f"{target.name}: it refuses the token; use the one that keepalivectl measure --listen shows")


async def _settle(connection: Connection, target: Target) -> None:
    """Wait until what a service says first is over. Raises Unreachable if it has closed by then, and Misuse."""
    for _ in range(int(SETTLING / SETTLED)):
        await asyncio.sleep(SETTLED)
        if not target.is_listener and _peek(connection.sock).startswith(ANY_BANNER):
            raise Misuse(f"{target.name}: it is a keepalivectl measure --listen; give the --token that it shows")
        if connection.ended():
            how = "resets" if connection.was_reset else "closes"
            raise Unreachable(
                f"{target.name}: it {how} a connection at once, so that no silence can be tried; measure to a service "
                "that waits, or to keepalivectl measure --listen"
            )
        if not connection.heard():
            break
        connection.restart()


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(len(ANY_BANNER), socket.MSG_PEEK)
    except OSError:
        return b""
