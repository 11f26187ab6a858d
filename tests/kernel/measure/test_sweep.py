"""A service is left without the sockets of connections that the path has forgotten, where that can be done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from socket import AF_INET, AF_INET6, create_connection, create_server, getaddrinfo, socket

import pytest

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.sweep import End, sweep
from tests.support.patience import SOON
from tests.support.rig import SERVER, Namespace, Rig

TIMEOUT = 1  # seconds
FORGOTTEN = 3.0  # seconds: conntrack counts whole ones
COUNT = 3
ANY_PORT = "table ip nat { chain out { type nat hook postrouting priority srcnat; masquerade random,fully-random; }; }"
OWN = """
    table inet own {
        chain in {
            type filter hook input priority filter; policy drop;
            ct state established accept
            tcp flags & (fin | syn | rst | ack) == syn ct state new accept
            meta l4proto ipv6-icmp accept
        }
    }"""


@contextmanager
def accepting(service: socket, stack: ExitStack) -> Iterator[list[socket]]:
    """Yield the sockets that a service holds of the connections that have been made."""
    service.settimeout(SOON)
    yield [stack.enter_context(service.accept()[0]) for _ in range(COUNT)]


def left(client: Namespace, service: socket, address: Sequence[object]) -> tuple[int, int]:
    """How many a sweep says are left of connections that the path has forgotten, and how many the service holds."""
    family = service.family if address[0] != SERVER[AF_INET] else AF_INET

    def forget() -> list[End]:
        ends = []
        for _ in range(COUNT):
            connection = Connection(create_connection(tuple(address)[:2], SOON))  # type: ignore[arg-type]
            ends.append(connection)
        time.sleep(FORGOTTEN)
        for each in ends:
            each.close(silently=True)
        return [End(each.local_address, forgotten=True) for each in ends]

    with ExitStack() as stack:
        ends = client.inside(forget)
        with accepting(service, stack) as held:
            target = Target("service", family, tuple(address), "")  # type: ignore[arg-type]
            said = client.inside(lambda: asyncio.run(sweep(target, ends)))
            return said, sum(not _ended(each) for each in held)


def _ended(sock: socket) -> bool:
    sock.settimeout(6)
    try:
        return not sock.recv(1)
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_service_that_holds_forgotten_connections_is_freed_of_them(family: int) -> None:
    with Rig("drop", TIMEOUT) as rig:
        address = SERVER[AF_INET] if family == AF_INET else SERVER[AF_INET6]
        with rig.server.inside(lambda: create_server((address, 0), family=family)) as service:
            assert left(rig.client, service, service.getsockname()) == (0, 0)


def test_behind_nat_with_random_ports_nothing_is_freed_and_it_says_so() -> None:
    """The SYN that would free a connection leaves the NAT from another port. It said that nothing was left open."""
    with Rig("drop", TIMEOUT) as rig:
        rig.firewall.nft(ANY_PORT)
        with rig.server.inside(lambda: create_server((SERVER[AF_INET], 0))) as service:
            assert left(rig.client, service, service.getsockname()) == (COUNT, COUNT)


def test_a_neighbour_is_freed_of_connections_to_its_link_local_address() -> None:
    """Without the interface the port of an old connection could not be taken again: nothing was ever freed."""
    with Rig("drop", TIMEOUT) as rig:
        rig.client.ip("address del fd99:1::2/64 dev eth0", "address add fe80::2/64 dev eth0 nodad")
        rig.firewall.nft(OWN)
        shown = rig.firewall.run("ip", "-6", "-o", "address", "show", "dev", "side1", "scope", "link").stdout
        neighbour = shown.split()[3].partition("/")[0]
        with rig.firewall.inside(lambda: create_server(("::", 0), family=AF_INET6)) as service:
            port = service.getsockname()[1]
            found = rig.client.inside(lambda: getaddrinfo(f"{neighbour}%eth0", port)[0][4])
            host = (f"{neighbour}%eth0", port, *found[2:])
            assert left(rig.client, service, host) == (0, 0)
