"""client -- device -- device -- ... -- server: network namespaces in a row, each device with a firewall of its own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from tests.support.rig import Namespace

Kind = Literal["none", "mute", "drop", "reject", "masquerade", "loose", "outbound", "data", "by port"]

KEY = "ip saddr . tcp sport . ip daddr . tcp dport"
REVERSE = "ip daddr . tcp dport . ip saddr . tcp sport"
FLOWS = "type ipv4_addr . inet_service . ipv4_addr . inet_service; flags dynamic,timeout; size 65535"


MUTE = """
    table ip mute {
        chain out {
            type filter hook output priority filter;
            icmp type time-exceeded drop
        }
    }"""


@dataclass(frozen=True)
class Device:
    """A router; one that is more than that forgets a connection `timeout` seconds after its last packet.

    A "mute" one does not report packets that may pass no further hop.
    """

    kind: Kind = "none"
    timeout: int = 0
    other: int = 0  # the timeout of some connections ...
    some: str = "tcp PORT & 4 == 4"  # ... which this matches; of the client's end, whatever the direction


class Chain:
    """The namespaces, wired; link n has the network 10.98.n.0/24, with .1 at the client's side of it."""

    def __init__(self, *devices: Device) -> None:
        with contextlib.ExitStack() as stack:
            self.client = stack.enter_context(Namespace())
            self.devices = [stack.enter_context(Namespace()) for _ in devices]
            self.server = stack.enter_context(Namespace())
            self._wire([self.client, *self.devices, self.server])
            for namespace, device in zip(self.devices, devices, strict=True):
                _guard(namespace, device)
            self.address = f"10.98.{len(devices)}.2"
            self._ends = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _wire(self, row: Sequence[Namespace]) -> None:
        for number, (near, far) in enumerate(itertools.pairwise(row)):
            near.ip(
                f"link add toserver type veth peer name toclient netns {far.pid}",
                f"address add 10.98.{number}.1/24 dev toserver",
                "link set toserver up",
            )
            far.ip(f"address add 10.98.{number}.2/24 dev toclient", "link set toclient up")
        for place, namespace in enumerate(row):
            routes = [f"route add 10.98.{link}.0/24 via 10.98.{place}.2" for link in range(place + 1, len(row) - 1)]
            routes += [f"route add 10.98.{link}.0/24 via 10.98.{place - 1}.1" for link in range(place - 1)]
            if routes:
                namespace.ip(*routes)

    @contextlib.contextmanager
    def outage(self, device: int, hook: Literal["prerouting", "postrouting"]) -> Iterator[None]:
        """No packet gets through a device in this block: lost before, or after it has seen them."""
        priority = -400 if hook == "prerouting" else 400
        table = "table ip outage { chain any { type filter hook %s priority %d; policy drop; }; }\n"
        self.devices[device].nft(table % (hook, priority))
        yield
        self.devices[device].nft("delete table ip outage")


def _guard(namespace: Namespace, device: Device) -> None:
    namespace.set_sysctl("net.ipv4.ip_forward", 1)
    match device.kind:
        case "none":
            return
        case "mute":
            namespace.nft(MUTE)
        case "drop" | "reject" | "masquerade" | "loose":
            _track(namespace, device)
        case "outbound":
            namespace.nft(_flows(device, f"iif toclient {KEY} @flows update @flows {{ {KEY} }} accept"))
        case "data":
            update = f"meta length > 60 {KEY} @flows update @flows {{ {KEY} }}"
            namespace.nft(_flows(device, update, update.replace(KEY, REVERSE)))
        case "by port":
            out, in_ = (device.some.replace("PORT", f"{end}port").replace("ADDR", f"{end}addr") for end in "sd")
            some = f"{out} {KEY} @flows update @flows {{ {KEY} timeout {device.other}s }} accept"
            back = f"{in_} {REVERSE} @flows update @flows {{ {REVERSE} timeout {device.other}s }} accept"
            all_ = f"{KEY} @flows update @flows {{ {KEY} }} accept"
            namespace.nft(_flows(device, some, back, all_, all_.replace(KEY, REVERSE)))


def _track(namespace: Namespace, device: Device) -> None:
    rule = "tcp flags & (fin | syn | rst | ack) == syn ct state new accept"
    if device.kind == "loose":
        rule = "iif toclient ct state new accept"
    namespace.nft(f"""
        table ip guard {{
            chain through {{
                type filter hook forward priority filter; policy drop;
                ct state established accept
                {rule}
                icmp type time-exceeded accept
                {"meta l4proto tcp reject with tcp reset" if device.kind == "reject" else ""}
            }}
            chain out {{
                type nat hook postrouting priority srcnat;
                {"oif toserver masquerade" if device.kind == "masquerade" else ""}
            }}
        }}""")
    namespace.set_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", device.timeout)
    namespace.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", int(device.kind == "loose"))


def _flows(device: Device, *rules: str) -> str:
    """A firewall that keeps its own table of flows."""
    lines = "\n".join(rules)
    return f"""
        table ip guard {{
            set flows {{ {FLOWS}; timeout {device.timeout}s; }}
            chain through {{
                type filter hook forward priority filter; policy drop;
                tcp flags & (syn | ack) == syn update @flows {{ {KEY} }} accept
                {lines}
                {KEY} @flows accept
                {REVERSE} @flows accept
                icmp type time-exceeded accept
            }}
        }}"""
