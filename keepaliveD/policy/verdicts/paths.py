"""Assign to each connection the most specific path that concerns it, and that path's idle timeout."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.rules import IPNetwork, Path
from keepaliveD.model.sockets import Bools, Column, Sockets, SocketTable, TcpState

V4_MAPPED_PREFIX = 96  # bits before the IPv4 address, RFC 4291 2.5.5.2
ALL_ONES = (1 << 128) - 1
LOW_HALF = (1 << 64) - 1
ALL_IPV4 = ipaddress.ip_network("0.0.0.0/0")
LOOPBACK, LOOPBACK_IPV6 = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")


@dataclass(frozen=True, slots=True)
class Assigned:
    """The path of every socket: `index` into `paths`, and its `timeout`, NaN where none is known.

    `only_data`: the rows whose paths count only data; None if no path does.
    """

    paths: Sequence[Path]
    index: Column
    timeout: Column
    only_data: Bools | None = None


def ignored(sockets: Sockets | Column, networks: Sequence[IPNetwork]) -> Bools:
    """Return which sockets have a peer in one of the networks.

    A connection from an address to itself leaves the host no more than one to loopback does, and counts as one.
    """
    found = np.zeros(len(sockets), np.bool_)
    for network in networks:
        found |= in_network(sockets, network)
    for loopback, is_ipv4 in ((LOOPBACK, True), (LOOPBACK_IPV6, False)):
        if any(loopback in network for network in networks):
            found |= (in_network(sockets, ALL_IPV4) == is_ipv4) & _to_itself(sockets)
    return found


def assign(table: SocketTable, paths: Sequence[Path]) -> Assigned:
    """Give every socket the most specific of `paths` that concerns it; the first one concerns all.

    A longer prefix is more specific, then ports named, then an interface named.
    The timeouts are those of established connections, so a half-closed one has none that is known.
    """
    index = np.zeros(len(table), np.uint32)
    for number, network in reversed(by_specificity(paths)):
        index[_concerned(table, paths[number], network)] = number
    timeout = np.array([path.timeout for path in paths])[index]
    timeout[table.sockets["state"] != TcpState.ESTABLISHED.value] = np.nan
    by_data = np.array([path.counts is WhatCounts.DATA for path in paths])
    return Assigned(paths, index, timeout, by_data[index] if by_data.any() else None)


def shown_as(assigned: Assigned, paths: Sequence[Path]) -> Assigned:
    """Return the same with other timeouts and origins: `paths` are the same paths in the same order."""
    timeout = np.where(np.isnan(assigned.timeout), np.nan, np.array([path.timeout for path in paths])[assigned.index])
    return replace(assigned, paths=paths, timeout=timeout)


def by_specificity(paths: Sequence[Path]) -> list[tuple[int, IPNetwork | None]]:
    """Return every path's networks one by one, with its index, the most specific first: the first match counts."""
    ordered = sorted(_selectors(paths), key=lambda selector: selector[:3], reverse=True)
    return [*((number, network) for _, _, number, network in ordered), (0, None)]


def _selectors(paths: Sequence[Path]) -> list[tuple[tuple[int, bool, bool], int, int, IPNetwork | None]]:
    """Return every network of every path with its sort key; of equal keys the path listed first sorts last."""
    return [
        ((_prefix(network), bool(path.ports), bool(path.interface)), -number, number, network)
        for number, path in enumerate(paths)
        if number
        for network in path.networks or (None,)
    ]


def _concerned(table: SocketTable, path: Path, network: IPNetwork | None) -> Bools:
    sockets = table.sockets
    found = np.ones(len(sockets), np.bool_) if network is None else in_network(sockets, network)
    if path.ports:
        found &= np.isin(sockets["remote_port"], path.ports) | np.isin(sockets["local_port"], path.ports)
    if path.interface:
        known = path.interface in table.interfaces
        found &= (sockets["interface"] == table.interfaces.index(path.interface)) if known else np.False_
    return found


def in_network(sockets: Sockets | Column, network: IPNetwork, end: str = "remote") -> Bools:
    """Return which sockets have a peer in the network, or this `end`; IPv4 networks also match v4-mapped addresses."""
    value, mask = _as_mapped(network)
    found = _begins_with(sockets[f"{end}_high"], value >> 64, mask >> 64)
    if mask & LOW_HALF:
        found &= _begins_with(sockets[f"{end}_low"], value & LOW_HALF, mask & LOW_HALF)
    return found


def _begins_with(half: Column, value: int, mask: int) -> Bools:
    """Return where the masked bits of one half of an address are those of `value`."""
    masked = half if mask == LOW_HALF else half & np.uint64(mask)
    begins: Bools = masked == np.uint64(value)
    return begins


def _to_itself(sockets: Sockets | Column) -> Bools:
    """Return which connections have the same address at both ends."""
    same: Bools = sockets["local_low"] == sockets["remote_low"]
    same &= sockets["local_high"] == sockets["remote_high"]
    return same


def _prefix(network: IPNetwork | None) -> int:
    """Return the length of the prefix in 128-bit addresses, -1 for no network."""
    if network is None:
        return -1
    return network.prefixlen + (V4_MAPPED_PREFIX if network.version == 4 else 0)


def _as_mapped(network: IPNetwork) -> tuple[int, int]:
    """Return value and mask in 128-bit addresses."""
    prefix = _prefix(network)
    mask = ALL_ONES ^ (ALL_ONES >> prefix)
    address = int(network.network_address)
    if isinstance(network, ipaddress.IPv4Network):
        address |= 0xFFFF << 32
    return address, mask
