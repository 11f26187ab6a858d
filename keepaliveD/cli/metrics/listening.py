"""Where `keepalivectl metrics` listens: on this host alone, unless a socket unit says otherwise."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import socket
from pathlib import Path

from keepaliveD.model.errors import KernelError, Misuse, StateError
from keepaliveD.model.text import shown

PORT = 9272  # registered for nothing
MAX_PORT = 65535
WHERE = f'ADDRESS:PORT such as 127.0.0.1:{PORT}, the path of a Unix socket, or "systemd"'
SYSTEMD = "systemd"  # the sockets that a socket unit hands over
FIRST = 3  # descriptor of these (sd_listen_fds(3))
TAKEN = (errno.EAGAIN, errno.EPROTOTYPE)  # many wait to be let in; a socket of another kind, such as /dev/log
QUEUE = 128  # clients that wait to be let in

Where = str | Path | tuple[str, int]


def where(text: str) -> Where:
    """Return what a command line says: "systemd", a path, or a loopback address and a port."""
    if text == SYSTEMD:
        return text
    if text.startswith("/"):
        return Path(text)
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or len(port) > len(str(MAX_PORT)) or not 0 < int(port) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no place to listen; write {WHERE}")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        right = f"127.0.0.1:{port} or [::1]:{port}"
        raise argparse.ArgumentTypeError(f"{shown(host)} is not an address; write {right}") from None
    if not address.is_loopback:
        raise argparse.ArgumentTypeError(
            f"{address} is not a loopback address; for other hosts see docs/monitoring.md, or write 127.0.0.1:{port}"
        )
    return str(address), int(port)


def sockets(place: Where) -> list[socket.socket]:
    """Return what listens there. Raises Misuse, StateError, KernelError."""
    if isinstance(place, Path):
        from keepaliveD.daemon.control.control import listening

        _check_that_nobody_listens(place)
        return [listening(place)]
    if isinstance(place, str):
        return _handed_over()
    listener = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(QUEUE)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise KernelError(f"{place[0]}:{place[1]}: cannot listen there: {error.strerror or error}") from error
    return [listener]


def _check_that_nobody_listens(path: Path) -> None:
    """Raise StateError where a process listens there: its socket is not ours to replace, unlike one that it left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(str(path))
        except OSError as error:
            if error.errno not in TAKEN:
                return  # nothing is there, or what an ended process left, or no socket
    raise StateError(f"{path}: another process listens there; choose another path, or stop that process")


def _handed_over() -> list[socket.socket]:
    """Return the sockets of the socket unit that has started this process. Raises Misuse."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        raise Misuse("--listen systemd: no socket was handed over; start tcp-keepalived-metrics.socket instead")
    found = [socket.socket(fileno=FIRST + number) for number in range(int(count))]
    for each in found:
        if each.type != socket.SOCK_STREAM:
            raise Misuse("--listen systemd: a socket that was handed over is no stream; write ListenStream=")
        each.setblocking(False)
    return found
