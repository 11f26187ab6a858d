"""client -- r1 -- fw -- r2 -- server: for the client, the firewall is the second hop and the server the fourth.

What happens to a connection on the way is chosen by its server port, so that many are ended at once, each in its way.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from itertools import pairwise
from socket import AF_INET, AF_INET6, AddressFamily
from typing import Literal

from tests.support.rig import Namespace
from tests.support.versions import RTO_MAX, RUNNING

CLIENT = {AF_INET: "10.88.1.1", AF_INET6: "fd88:1::1"}
SERVER = {AF_INET: "10.88.4.2", AF_INET6: "fd88:4::2"}
FIREWALL = {AF_INET: "10.88.2.2", AF_INET6: "fd88:2::2"}  # on the client's side
Place = Literal["client", "firewall", "server"]
RETRIES = 3  # of a retransmission: 3 s until it gives up
SHORTEST_RTO_MAX = 1000  # ms: on a busy machine a late answer would lengthen the retransmissions to minutes

THROUGH = """
    chain through {
        type filter hook forward priority filter;
        tcp dport @reject_there reject with tcp reset
        tcp sport @reject_back reject with tcp reset
        tcp dport @drop_there drop
        tcp flags & (syn | ack) == ack tcp dport @drop_acknowledgements drop
        tcp sport @drop_back drop
        tcp dport @unreachable reject with icmpx host-unreachable
        tcp dport @prohibited reject with icmpx admin-prohibited
    }"""
LOSS = """
    table inet loss {
        chain through {
            type filter hook forward priority raw;
            numgen random mod 100 < LOSS drop
        }
    }"""
AT_AN_END = """
    chain out {
        type filter hook output priority filter;
        tcp dport @reject_out reject with tcp reset
        tcp dport @drop_out drop
    }
    chain in {
        type filter hook input priority filter;
        tcp sport @reject_in reject with tcp reset
        tcp sport @drop_in drop
        tcp dport @reject_here reject with tcp reset
    }"""
SETS = {
    "firewall": (
        "reject_there",
        "reject_back",
        "drop_there",
        "drop_back",
        "drop_acknowledgements",
        "unreachable",
        "prohibited",
    ),
    "client": ("reject_out", "drop_out", "reject_in", "drop_in", "reject_here"),
    "server": ("reject_out", "drop_out", "reject_in", "drop_in", "reject_here"),
}


class Rig:
    """The five namespaces, wired; the firewall loses so many packets of a hundred, by chance."""

    def __init__(self, loss: int = 0) -> None:
        with contextlib.ExitStack() as stack:
            hosts = [stack.enter_context(Namespace()) for _ in range(5)]
            self.client, self.r1, self.firewall, self.r2, self.server = hosts
            for number, (near, far) in enumerate(pairwise(hosts), 1):
                near.ip(f"link add right type veth peer name left netns {far.pid}", *_addresses(number, 1, "right"))
                far.ip(*_addresses(number, 2, "left"))
            for place, host in enumerate(hosts):
                host.ip(*_routes(place, len(hosts)))
                for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                    host.set_sysctl(key, int(0 < place < len(hosts) - 1))
            self._places: dict[str, Namespace] = {
                "client": self.client,
                "firewall": self.firewall,
                "server": self.server,
            }
            for name, host in self._places.items():
                sets = "".join(f"set {each} {{ type inet_service; }}\n" for each in SETS[name])
                host.nft(f"table inet t {{ {sets} {THROUGH if name == 'firewall' else AT_AN_END}\n}}")
            if loss:
                self.firewall.nft(LOSS.replace("LOSS", str(loss)))
            for end in (self.client, self.server):
                end.set_sysctl("net.ipv4.tcp_retries2", RETRIES)
                end.set_sysctl("net.ipv4.tcp_orphan_retries", RETRIES)
                end.set_sysctl("net.ipv4.tcp_no_metrics_save", 1)
                if RUNNING >= RTO_MAX:
                    end.set_sysctl("net.ipv4.tcp_rto_max_ms", SHORTEST_RTO_MAX)
            self.server.set_sysctl("net.ipv4.tcp_abort_on_overflow", 1)
            for family in (AF_INET, AF_INET6):
                self._find_neighbours(family)
            self._ends = stack.pop_all()

    def close(self) -> None:
        """Take it down."""
        self._ends.close()

    def _find_neighbours(self, family: AddressFamily) -> None:
        """Connect once: a connection whose first packets are lost has a long retransmission timeout for ever."""
        address = (SERVER[family], 9)

        def connect() -> None:
            with socket.socket(family) as client:
                client.connect(address)

        with self.server.inside(lambda: socket.create_server(address, family=family)):
            self.client.inside(connect)

    def treat(self, place: Place, how: str, port: int, do: Literal["add", "delete"] = "add") -> None:
        """From now on, do that there to packets of connections to this port of the server; or no longer."""
        self._places[place].nft(f"{do} element inet t {how} {{ {port} }}")

    def forge_reset(
        self, victim: socket.socket, server_port: int, hop_limit: int, flags: int = 4, ahead: int = 0
    ) -> None:
        """Send the client's socket a reset in the server's name, so far `ahead` of the number that it expects."""
        number = (_next_number(victim) + ahead) & 0xFFFFFFFF
        self.forge(server_port, victim.getsockname()[1], number, hop_limit, flags)

    def forge(self, server_port: int, port: int, number: int, hop_limit: int, flags: int) -> None:
        """Send a packet in the server's name to a port of the client, from the firewall. IPv4 only."""
        source, target = (socket.inet_aton(each[AF_INET]) for each in (SERVER, CLIENT))
        segment = struct.pack("!HHIIBBHHH", server_port, port, number, 0, 5 << 4, flags, 0, 0, 0)
        pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
        checksum = _checksum(pseudo + segment)
        segment = segment[:16] + struct.pack("!H", checksum) + segment[18:]
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, hop_limit, socket.IPPROTO_TCP, 0) + source + target

        def send() -> None:
            with socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.sendto(packet + segment, (CLIENT[AF_INET], 0))

        self.firewall.inside(send)


TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21  # include/uapi/linux/tcp.h
RECEIVED, REPAIR_OFF_QUIETLY = 1, -1


def _next_number(connection: socket.socket) -> int:
    """The sequence number that it expects next."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, RECEIVED)
    number: int = connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_QUIETLY)
    return number & 0xFFFFFFFF


def vanish(connection: socket.socket) -> None:
    """Close it without a packet, as a machine does that loses its power."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.close()


def _checksum(octets: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _addresses(net: int, host: int, interface: str) -> list[str]:
    return [
        f"address add 10.88.{net}.{host}/24 dev {interface}",
        f"address add fd88:{net}::{host}/64 dev {interface} nodad",
        f"link set {interface} up",
    ]


def _routes(place: int, hosts: int) -> Iterator[str]:
    """To the networks that are not beside it."""
    for net in range(1, hosts):
        if net > place + 1:
            yield f"route add 10.88.{net}.0/24 via 10.88.{place + 1}.2"
            yield f"route add fd88:{net}::/64 via fd88:{place + 1}::2"
        elif net < place:
            yield f"route add 10.88.{net}.0/24 via 10.88.{place}.1"
            yield f"route add fd88:{net}::/64 via fd88:{place}::1"
