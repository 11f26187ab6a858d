"""client -- r1 -- fw -- r2 -- server: for the client, the firewall is the second hop and the server the fourth.

What happens to a connection on the way is chosen by its server port, so that many are ended at once, each in its way.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from socket import AF_INET, AF_INET6, AddressFamily
from typing import Literal

from tests.support.patience import SOON
from tests.support.rig import LIBC, Namespace
from tests.support.versions import RTO_MAX, RUNNING

CLIENT = {AF_INET: "10.88.1.1", AF_INET6: "fd88:1::1"}
SERVER = {AF_INET: "10.88.4.2", AF_INET6: "fd88:4::2"}
FIREWALL = {AF_INET: "10.88.2.2", AF_INET6: "fd88:2::2"}  # on the client's side
Place = Literal["client", "r1", "firewall", "r2", "server"]
ROUTERS = ("r1", "firewall", "r2")
SYN, RST, ACK = 0x02, 0x04, 0x10  # of TCP flags
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
SETS_ON_THE_WAY = (
    "reject_there",
    "reject_back",
    "drop_there",
    "drop_back",
    "drop_acknowledgements",
    "unreachable",
    "prohibited",
)
SETS_AT_AN_END = ("reject_out", "drop_out", "reject_in", "drop_in", "reject_here")


class Rig:
    """The five namespaces, wired; the firewall loses so many packets of a hundred, by chance."""

    def __init__(self, loss: int = 0) -> None:
        with contextlib.ExitStack() as stack:
            hosts = [stack.enter_context(Namespace()) for _ in range(5)]
            self.client, self.r1, self.firewall, self.r2, self.server = hosts
            for host in hosts:
                host.use_addresses_at_once()
                host.set_sysctl("net.ipv4.icmp_ratelimit", 0)  # or errors for one scene use up those for another
                host.set_sysctl("net.ipv6.icmp.ratelimit", 0)
            for number, (near, far) in enumerate(pairwise(hosts), 1):
                near.ip(f"link add right type veth peer name left netns {far.pid}", *_addresses(number, 1, "right"))
                far.ip(*_addresses(number, 2, "left"))
            for place, host in enumerate(hosts):
                host.ip(*_routes(place, len(hosts)))
                for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                    host.set_sysctl(key, int(0 < place < len(hosts) - 1))
            self._places = dict(zip(("client", *ROUTERS, "server"), hosts, strict=True))
            for name, host in self._places.items():
                names, chains = (SETS_ON_THE_WAY, THROUGH) if name in ROUTERS else (SETS_AT_AN_END, AT_AN_END)
                sets = "".join(f"set {each} {{ type inet_service; }}\n" for each in names)
                host.nft(f"table inet t {{ {sets} {chains}\n}}")
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
        """Have one packet go there and one come back: a connection whose first are lost is slow for ever.

        On a machine that stands still for seconds no neighbour answers at first. The packets are of no connection,
        whose end might be seen by a test: the kernel keeps a socket for a second after its end.
        """

        deadline = time.monotonic() + SOON

        def ask() -> None:
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.connect((SERVER[family], 9))
                client.settimeout(1.0)
                while True:
                    try:
                        client.send(b"?")
                        client.recv(1)
                    except ConnectionRefusedError:  # by the server's host: nobody serves there
                        return
                    except OSError:
                        if time.monotonic() > deadline:
                            raise

        self.client.inside(ask)

    def treat(self, place: Place, how: str, port: int, do: Literal["add", "delete"] = "add") -> None:
        """From now on, do that there to packets of connections to this port of the server; or no longer."""
        self._places[place].nft(f"{do} element inet t {how} {{ {port} }}")

    def forge_reset(
        self, victim: socket.socket, server_port: int, hop_limit: int, flags: int = RST, ahead: int = 0
    ) -> None:
        """Send the client's socket a reset in the server's name, so far `ahead` of the number that it expects."""
        number = (sequence_number(victim, RECEIVED) + ahead) & 0xFFFFFFFF
        self.forge(Segment(server_port, victim.getsockname()[1], number, flags), hop_limit)

    def forge(self, segment: Segment, hop_limit: int) -> None:
        """Send the client a segment in the server's name, from the firewall. IPv4 only."""
        self.flood([segment], hop_limit)

    def flood(self, segments: Iterable[Segment], hop_limit: int, times: int = 1) -> None:
        """Send the client all of these, one after the other, and again so often."""
        self._send(self.firewall, segments, hop_limit, times)

    def forge_at_the_client(self, segment: Segment, family: AddressFamily = AF_INET) -> None:
        """Send the client a segment in the server's name, from the client itself, as killcx does."""
        self._send(self.client, [segment], hop_limit=64, family=family)

    def reset_as_bsd_does(self, last: Segment) -> None:
        """Have the server's machine send the reset with which BSD and Solaris give a connection up. IPv4 only.

        It begins where their data ends, whether or not that has arrived: tcp_drop() of FreeBSD.
        """
        self._send(self.server, [last], hop_limit=64)

    def _send(
        self,
        host: Namespace,
        segments: Iterable[Segment],
        hop_limit: int,
        times: int = 1,
        family: AddressFamily = AF_INET,
    ) -> None:
        source, target = (socket.inet_pton(family, each[family]) for each in (SERVER, CLIENT))

        def packet(segment: Segment) -> bytes:
            octets = segment.packed(source + target)
            if family == AF_INET6:
                start = struct.pack("!IHBB", 6 << 28, len(octets), socket.IPPROTO_TCP, hop_limit)
            else:
                numbers = 0x45, 0, 20 + len(octets), 0, 0, hop_limit, socket.IPPROTO_TCP, 0
                start = struct.pack("!BBHHHBBH", *numbers)
            return start + source + target + octets

        packets = [packet(segment) for segment in segments]

        def send() -> None:
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                for _ in range(times):
                    for each in packets:
                        raw.sendto(each, (CLIENT[family], 0))

        host.inside(send)


@dataclass(frozen=True)
class Segment:
    """A TCP segment from the server to a port of the client."""

    server_port: int
    port: int
    number: int
    flags: int
    acknowledged: int = 0
    window: int = 0
    timestamps: tuple[int, int] | None = None
    data: bytes = b""  # an even number of octets

    def packed(self, addresses: bytes) -> bytes:
        """Return its octets; the checksum is that between these addresses, of IPv4 or IPv6."""
        options = struct.pack("!BBBBII", 1, 1, 8, 10, *self.timestamps) if self.timestamps else b""
        offset = (20 + len(options)) // 4 << 4
        numbers = self.server_port, self.port, self.number, self.acknowledged, offset, self.flags, self.window, 0, 0
        segment = struct.pack("!HHIIBBHHH", *numbers) + options + self.data
        pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
        return segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]


TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_TIMESTAMP = 19, 20, 21, 24  # include/uapi/linux/tcp.h
RECEIVED, SENT, REPAIR_OFF_QUIETLY = 1, 2, -1


def sequence_number(connection: socket.socket, queue: int) -> int:
    """The sequence number at the end of a queue: what it expects next, or what it sends next."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
    number: int = connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_QUIETLY)
    return number & 0xFFFFFFFF


def last_segment(server: socket.socket) -> Segment:
    """The reset that BSD or Solaris would send in the place of this socket of the server, if it gave up now."""
    stamp = server.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP) & 0xFFFFFFFF
    return Segment(
        server_port=server.getsockname()[1],
        port=server.getpeername()[1],
        number=sequence_number(server, SENT),
        flags=RST | ACK,
        acknowledged=sequence_number(server, RECEIVED),
        window=512,
        timestamps=(stamp, 0),
    )


def vanish(connection: socket.socket) -> None:
    """Close it without a packet, as a machine does that loses its power."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.close()


def set_timestamp_back(connection: socket.socket) -> None:
    """Have all of its further packets say that they are an hour older than the last one."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    stamp = connection.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP) - 3_600_000
    connection.setsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP, struct.pack("I", stamp & 0xFFFFFFFF))
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_QUIETLY)


def disconnect(connection: socket.socket) -> None:
    """End the connection and keep the socket: connect(2) to AF_UNSPEC."""
    nowhere = struct.pack("H14x", socket.AF_UNSPEC)
    if LIBC.connect(connection.fileno(), nowhere, len(nowhere)):
        raise OSError(ctypes.get_errno(), "connect")


def checksum(octets: bytes) -> int:
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
