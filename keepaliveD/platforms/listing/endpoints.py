"""Addresses and ports as the systems' programs write them."""

from __future__ import annotations

import functools
import socket
from typing import NamedTuple

ANY = "*"  # how the BSDs and Solaris write an address or a port that is not set


class End(NamedTuple):
    """One end of a connection: the address as the model has it, the port, and how both were written."""

    address: int
    port: int
    text: str


def end(address: str, port: str) -> End | None:
    """Return an end, or None if it is not set. Raises ValueError."""
    if ANY in (address, port):
        return None
    return End(number(address), _port(port), f"{address}.{port}")


def dotted(text: str) -> End | None:
    """Return an end written as `192.0.2.1.22`, `2001:db8::1.22` or `*.*`. Raises ValueError."""
    address, point, port = text.rpartition(".")
    if not point:
        raise ValueError(f"{text!r} is no address with a port")
    return end(address, port)


@functools.lru_cache(maxsize=1 << 16)
def number(address: str) -> int:
    """Return an address as the model has it; `%` begins the zone of a link-local address. Raises ValueError."""
    try:
        if ":" in address:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]))
        return 0xFFFF << 32 | int.from_bytes(socket.inet_pton(socket.AF_INET, address))
    except OSError as error:
        raise ValueError(f"{address!r} is no address") from error


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise ValueError(f"{text!r} is no port")
    return int(text)
