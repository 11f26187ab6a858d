"""What really passed: every TCP packet at both sides of a firewall, with the kernel's own timestamps."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from dataclasses import dataclass, replace
from socket import AF_PACKET, PACKET_OUTGOING, SOCK_DGRAM, SOL_SOCKET

from tests.support.rig import Namespace

ETH_P_ALL = 3  # include/uapi/linux/if_ether.h; outgoing packets are shown under no other
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33  # include/uapi/asm-generic/socket.h
SOL_PACKET, PACKET_STATISTICS = 263, 6
ROOM = 16 << 20  # octets kept for a reader that is busy with something else
FIN, SYN, RST = 1, 2, 4
LAST_NUMBER = 0xFFFFFFFF


@dataclass(frozen=True)
class Packet:
    """One packet that an end sent. `at` is seconds of the epoch: when it left the firewall, else when it came."""

    at: float
    from_client: bool
    number: int
    flags: int
    size: int
    probe: bool  # one octet behind what its sender has sent: a keepalive probe
    passed: bool = False
    forged: bool = False  # the firewall's own, in the name of the end that it seems to come from

    def __str__(self) -> str:
        what = "probe" if self.probe else "data" if self.size else "ack"
        named = [name for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST")) if self.flags & bit]
        forged = ", says the firewall" if self.forged else ""
        return f"{'client' if self.from_client else 'server'}'s {'+'.join(named) or what}{forged}"

    def ends(self, client: bool) -> bool:
        """Whether that end's socket is no longer established once it has sent this, or got it."""
        sent = self.from_client == client
        return bool(self.flags & (FIN | RST)) and (self.passed or self.forged != sent)


class Wire:
    """Reads all packets at both sides of a firewall, by the client's port."""

    def __init__(self, firewall: Namespace, client_address: str) -> None:
        self._client = socket.inet_aton(client_address)
        self.socket = firewall.inside(lambda: socket.socket(AF_PACKET, SOCK_DGRAM, socket.htons(ETH_P_ALL)))
        self.socket.setsockopt(SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self.socket.setblocking(False)
        self.packets: defaultdict[int, list[Packet]] = defaultdict(list)
        self._next: dict[tuple[int, bool], int] = {}  # by port and end: the number of its next octet

    def read(self) -> None:
        """Take in all that has come."""
        while True:
            try:
                octets, ancillary, _, address = self.socket.recvmsg(256, 64)
            except BlockingIOError:
                return
            if octets[0] >> 4 == 4 and octets[9] == socket.IPPROTO_TCP:
                seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
                self._keep(octets, seconds + nanoseconds / 1e9, leaving=address[2] == PACKET_OUTGOING)

    @property
    def lost(self) -> int:
        """Packets that found no room since this was last asked."""
        _, lost = struct.unpack("=II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(lost)

    def _keep(self, octets: bytes, at: float, *, leaving: bool) -> None:
        start = (octets[0] & 15) * 4
        source, destination, number = struct.unpack_from("!HHI", octets, start)
        flags, length = octets[start + 13], struct.unpack_from("!H", octets, 2)[0]
        size = length - start - (octets[start + 12] >> 4) * 4
        from_client = octets[12:16] == self._client
        port = source if from_client else destination
        if leaving:
            self._pass(self.packets[port], at, (from_client, number, flags, size))
        else:
            probe = self._probes((port, from_client), number, flags, size)
            self.packets[port].append(Packet(at, from_client, number, flags, size, probe))

    def _probes(self, sender: tuple[int, bool], number: int, flags: int, size: int) -> bool:
        if not size and not flags & (SYN | FIN | RST) and self._next.get(sender) == (number + 1) & LAST_NUMBER:
            return True
        if not flags & RST:
            self._next[sender] = (number + size + bool(flags & (SYN | FIN))) & LAST_NUMBER
        return False

    @staticmethod
    def _pass(packets: list[Packet], at: float, what: tuple[bool, int, int, int]) -> None:
        for place in range(len(packets) - 1, -1, -1):
            each = packets[place]
            if not each.passed and (each.from_client, each.number, each.flags, each.size) == what:
                packets[place] = replace(each, at=at, passed=True)
                return
        from_client, number, flags, size = what
        assert flags & RST, "a packet left the firewall that never came there"  # its own resets never did
        packets.append(Packet(at, from_client, number, flags, size, probe=False, forged=True))
