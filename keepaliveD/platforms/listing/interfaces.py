"""Which interface has a connection's local address, on systems that psutil knows."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from keepaliveD.model.errors import Unsupported
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.listing import endpoints


def resolve(new: Mapping[str, Column]) -> tuple[str, ...]:
    """Fill the column `interface` with numbers, and return the names in their order. Raises Unsupported."""
    names, numbers = {"": 0}, {}
    for name, addresses in _addresses().items():
        for address in addresses:
            numbers[endpoints.number(address)] = names.setdefault(name, len(names))
    ends = zip(new["local_high"].tolist(), new["local_low"].tolist(), strict=True)
    new["interface"][:] = [numbers.get(high << 64 | low, 0) for high, low in ends]
    return tuple(names)


def _addresses() -> dict[str, list[str]]:
    try:
        import psutil
    except (ImportError, NotImplementedError) as error:
        raise Unsupported(f"paths that name an interface require psutil; install it: {error}") from error
    return {
        name: [each.address for each in addresses if each.family in (socket.AF_INET, socket.AF_INET6)]
        for name, addresses in psutil.net_if_addrs().items()
    }
