"""Which interface a connection uses: the one that holds its local address, by rtnetlink."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import numpy as np

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Column, Sockets

LOW_HALF = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Interfaces:
    """One namespace's interfaces: names by index, and who holds an address (in its IPv6 form)."""

    names: dict[int, str]
    holders: dict[ipaddress.IPv6Address, int]

    def resolve(self, sockets: Sockets, known: dict[str, int]) -> Column:
        """The column `interface`, with numbers from `known` instead of the kernel's indices.

        The kernel gives an index only for bound sockets; the others get that of their address.
        Names that are new are added to `known`, where the empty name is 0.
        """
        index = sockets["interface"].copy()
        for address, holder in self.holders.items():
            high, low = int(address) >> 64, int(address) & LOW_HALF
            its = (sockets["local_low"] == np.uint64(low)) & (sockets["local_high"] == np.uint64(high))
            index[its & (index == 0)] = holder
        numbers = np.empty_like(index)
        for number in np.unique(index).tolist():
            name = self.names.get(number, "")
            numbers[index == number] = known.setdefault(name, len(known))
        return numbers


def read() -> Interfaces:
    """The interfaces of the calling thread's namespace. Raises KernelError."""
    from pyroute2 import IPRoute  # 25 MB of memory, for those who select by interface
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in route.get_links()}
            holders = {
                _as_ipv6(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")): int(address["index"])
                for address in route.get_addr()
            }
    except (NetlinkError, OSError) as error:
        raise KernelError(f"interfaces: {error}") from error
    return Interfaces(names, holders)


def _as_ipv6(text: str) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(text if ":" in text else f"::ffff:{text}")
