"""Which interface a connection uses: the one that holds its local address, by rtnetlink."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Column, Sockets

LOW_HALF = (1 << 64) - 1
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, of about as many ones as zeros
COSTS = 20  # times as long as reading interfaces took, until they are read again
AT_ONCE = 0.25  # seconds for which those of others are read without a pause
CROWDED = 1 << 16  # octets of a list below /proc: some hundreds of interfaces or addresses, which take a moment
LISTS = ("dev", "if_inet6", "fib_trie")


def _keys(high: Column, low: Column) -> Column:
    """A number for each address, the same for hardly any two: 128 bits cannot be sorted at once."""
    keys: Column = high * SPREAD ^ low
    return keys


class Interfaces:
    """One namespace's interfaces: names by index, and which one holds an address (in its IPv6 form)."""

    def __init__(self, names: Mapping[int, str], holders: Mapping[int, int]) -> None:
        self._names = names
        self._high = np.array([address >> 64 for address in holders], np.uint64)
        self._low = np.array([address & LOW_HALF for address in holders], np.uint64)
        order = np.argsort(_keys(self._high, self._low))
        self._high, self._low = self._high[order], self._low[order]
        self._index = np.array(list(holders.values()), np.int64)[order]

    def resolve(self, sockets: Sockets, known: dict[str, int]) -> Column:
        """Return the column `interface`, with numbers from `known` instead of the kernel's indices.

        The kernel gives an index only for bound sockets; the others get that of their address.
        Names that are new are added to `known`, where the empty name is 0.
        """
        index = sockets["interface"].copy()
        if len(self._index):
            unbound = index == 0
            index[unbound] = self._holders(sockets["local_high"][unbound], sockets["local_low"][unbound])
        numbers = np.empty_like(index)
        for number in np.unique(index).tolist():
            name = self._names.get(number, "")
            numbers[index == number] = known.setdefault(name, len(known))
        return numbers

    def _holders(self, high: Column, low: Column) -> Column:
        """Return the index of the interface that holds each address, 0 where none does."""
        at = np.searchsorted(_keys(self._high, self._low), _keys(high, low))
        at[at == len(self._index)] = 0
        return np.where((self._high[at] == high) & (self._low[at] == low), self._index[at], 0)


NONE = Interfaces({}, {})


class Reading(NamedTuple):
    """What was read of one namespace, when, and how long that took."""

    interfaces: Interfaces
    at: float
    took: float


class KnownInterfaces:
    """The interfaces of all namespaces, read again as often as that is cheap.

    Reading ours takes a twentieth of the time at most, and as much those of all others, however many there are.
    """

    def __init__(self, own: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._clock = clock
        self._known: dict[int, Reading] = {}
        self._paid_at = -math.inf  # when the time that others have taken will be a twentieth
        self._next = self._denied = 0  # the first one that there was no time for, in the last round and in this one

    def of(self, netns: int, read: Callable[[], Interfaces]) -> Interfaces:
        """Return those of a namespace, by `read` where that is due and there is time. Raises what `read` raises.

        Of one that there has been no time for yet, none are known. Ask for all of them in ascending order.
        """
        began, known = self._clock(), self._known.get(netns)
        if known and began < known.at + COSTS * self._takes(netns):
            return known.interfaces
        if netns != self._own and (netns < self._next or began < self._paid_at - COSTS * AT_ONCE):
            self._denied = self._denied or (netns if netns >= self._next else 0)
            return known.interfaces if known else NONE
        interfaces = read()
        took = self._clock() - began
        self._known[netns] = Reading(interfaces, began, took)
        if netns != self._own:
            self._paid_at = max(self._paid_at, began) + COSTS * took
        return interfaces

    def _takes(self, netns: int) -> float:
        """Return how long it took to read ours, or those of all others."""
        ours = netns == self._own
        return sum(each.took for of, each in self._known.items() if (of == self._own) == ours)

    def keep(self, namespaces: Collection[int]) -> None:
        """Forget all other namespaces, and begin a round with the first one that there was no time for."""
        self._next, self._denied = self._denied, 0
        for gone in self._known.keys() - set(namespaces):
            del self._known[gone]


def read_few() -> Interfaces:
    """Return the interfaces of the calling thread's namespace, none where it has very many. Raises KernelError."""
    try:
        return NONE if any(map(_is_long, LISTS)) else read()
    except OSError as error:
        raise KernelError(f"interfaces: {error}") from error


def _is_long(name: str) -> bool:
    with contextlib.suppress(FileNotFoundError), open(f"/proc/thread-self/net/{name}", "rb") as file:
        return len(file.read(CROWDED)) == CROWDED
    return False


def read() -> Interfaces:
    """Return the interfaces of the calling thread's namespace. Raises KernelError."""
    from pyroute2 import IPRoute  # 25 MB of memory, for those who select by interface
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in route.get_links()}
            holders = {
                _number(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")): int(address["index"])
                for address in route.get_addr()
            }
    except (NetlinkError, OSError) as error:
        raise KernelError(f"interfaces: {error}") from error
    return Interfaces(names, holders)


def _number(text: str) -> int:
    """Return an address as a number, IPv4 as v4-mapped."""
    return int(ipaddress.IPv6Address(text if ":" in text else f"::ffff:{text}"))
