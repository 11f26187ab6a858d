"""Which interface a connection uses."""

from __future__ import annotations

import functools
import ipaddress
import socket

import psutil
import pyroute2
import pytest

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.reading import interfaces
from keepaliveD.platforms.linux.reading.interfaces import Interfaces

HOST = Interfaces(
    {1: "lo", 2: "eth0", 3: "wg0"},
    {
        int(ipaddress.IPv6Address("::ffff:192.0.2.1")): 2,
        int(ipaddress.IPv6Address("2001:db8::1")): 2,
        int(ipaddress.IPv6Address("2001:db8::2")): 3,
    },
)


def resolved(*sockets: tuple[str, int], known: dict[str, int] | None = None, host: Interfaces = HOST) -> list[str]:
    """The interface of each (local address, kernel's index)."""
    columns = Sockets()
    new = columns.extend(len(sockets))
    numbers = [int(ipaddress.IPv6Address(address)) for address, _ in sockets]
    new["local_high"][:] = [number >> 64 for number in numbers]
    new["local_low"][:] = [number & (1 << 64) - 1 for number in numbers]
    new["interface"][:] = [index for _, index in sockets]
    known = {"": 0} if known is None else known
    numbers = host.resolve(columns, known).tolist()
    return [list(known)[number] for number in numbers]


def test_an_unbound_socket_uses_the_interface_that_holds_its_address() -> None:
    """The kernel tells an index only for sockets bound to one, which hardly any is."""
    addresses = ("::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2")
    assert resolved(*((address, 0) for address in addresses)) == ["eth0", "eth0", "wg0"]


def test_a_bound_socket_uses_what_it_is_bound_to() -> None:
    """SO_BINDTODEVICE is stronger than the address, and so is the scope of a link-local one."""
    assert resolved(("2001:db8::1", 3), ("fe80::1", 2)) == ["wg0", "eth0"]


def test_an_address_that_nobody_holds_is_on_no_interface() -> None:
    """It was taken away while the connection stood; half of an address is none."""
    assert resolved(("2001:db8::3", 0), ("2001:db9::1", 0), ("::1", 77)) == ["", "", ""]


def test_a_number_is_never_taken_for_one_that_was_just_given() -> None:
    """The kernel's numbers and ours stand in the same column while one replaces the other."""
    known = {"": 0, "wg0": 1, "eth0": 2, "lo": 3}
    assert resolved(("::2", 1), ("::2", 2), ("::2", 3), ("2001:db8::2", 0), known=known) == ["lo", "eth0", "wg0", "wg0"]


def test_names_are_shared_between_namespaces() -> None:
    """Each container calls its own interface eth0, whatever its number; one name is one entry."""
    known = {"": 0}
    resolved(("2001:db8::1", 0), known=known)
    resolved(("2001:db8::1", 9), known=known, host=Interfaces({9: "eth0"}, {}))
    assert known == {"": 0, "eth0": 1}


def test_no_sockets_need_no_names() -> None:
    """An empty namespace adds nothing."""
    known = {"": 0}
    resolved(known=known)
    assert known == {"": 0}


def test_a_kernel_that_refuses_to_list_interfaces_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyroute2's errors stop where pyroute2 does: a list that raced with changes must not end the daemon."""

    class Refusing:
        """An IPRoute in the middle of a change."""

        def __enter__(self) -> Refusing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def get_links(self) -> None:
            raise pyroute2.netlink.exceptions.NetlinkError(4, "dump interrupted")

    monkeypatch.setattr(pyroute2, "IPRoute", Refusing)
    with pytest.raises(KernelError, match=r"interfaces: .*dump interrupted"):
        interfaces.read()


def test_interfaces_and_addresses_are_those_that_psutil_lists() -> None:
    told = [(name, each) for name, addresses in psutil.net_if_addrs().items() for each in addresses]
    addresses = [
        (name, f"::ffff:{each.address}" if each.family == socket.AF_INET else each.address.partition("%")[0])
        for name, each in told
        if each.family in (socket.AF_INET, socket.AF_INET6)
    ]
    found = resolved(*((address, 0) for _, address in addresses), host=interfaces.read())
    assert found == [name for name, _ in addresses]
    assert "lo" in found


class Clock:
    """Each reading takes a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 1.0
        self.readings: list[int] = []

    def __call__(self) -> float:
        return self.now

    def read(self, netns: int) -> Interfaces:
        self.now += self.takes
        self.readings.append(netns)
        return HOST


def test_interfaces_are_read_again_once_twenty_times_as_long_has_passed_as_it_takes() -> None:
    clock = Clock()
    known = interfaces.KnownInterfaces(own=7, clock=clock)
    for now, due in ((0, True), (1, False), (19.9, False), (20, True), (21, False)):
        clock.now, clock.readings = now, []
        assert known.of(7, lambda: clock.read(7)) is HOST
        assert clock.readings == [7] * due


def test_a_namespace_that_is_new_is_read_at_once_and_one_that_is_gone_is_forgotten() -> None:
    clock = Clock()
    known = interfaces.KnownInterfaces(own=7, clock=clock)
    for netns in (7, 8, 7):
        known.of(netns, functools.partial(clock.read, netns))
    known.keep({8})
    known.of(7, lambda: clock.read(7))
    assert clock.readings == [7, 8, 7]


def test_what_others_have_in_large_numbers_takes_no_time_from_ours_and_little_from_a_scan() -> None:
    """Each of theirs takes a second: so one is read, and another twenty seconds later. Ours are as often as before."""
    clock = Clock()
    known = interfaces.KnownInterfaces(own=7, clock=clock)
    for now, due in ((0, [7, 100]), (15.5, []), (22, [7, 101]), (60, [7, 102]), (900, [7, 103])):
        clock.now, clock.readings = now, []
        known.keep({7, *range(100, 120)})
        for netns in (7, *range(100, 120)):
            known.of(netns, functools.partial(clock.read, netns))
        assert clock.readings == due


def test_those_of_many_others_are_read_at_once_where_that_is_quick() -> None:
    clock = Clock()
    known = interfaces.KnownInterfaces(own=7, clock=clock)
    clock.takes = 0.001
    found = [known.of(netns, functools.partial(clock.read, netns)) for netns in range(100, 300)]
    assert found == [HOST] * 200
