"""Tables of sockets, written down by hand."""

import dataclasses
import ipaddress
import math
from typing import TypedDict, Unpack

from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Sockets, SocketTable, Switch, TcpState, Timer
from keepaliveD.policy.verdicts.activity import Activity, nothing_known
from keepaliveD.policy.verdicts.judge import Judgement, judge

LONG_AGO = 1e6
CONFIGURED = Origin(Source.CONFIGURED, "/etc/tcp-keepalived/config.toml")
FIREWALL = Path("firewall", 300.0, CONFIGURED)

PROXY = dataclasses.replace(FIREWALL, name="proxy", counts=WhatCounts.DATA)


class Socket(TypedDict, total=False):
    """What a test says of a socket; the rest is that of a quiet, bare one."""

    cookie: int
    inode: int
    uid: int
    netns: int
    local: str
    remote: str
    local_port: int
    remote_port: int
    interface: int
    state: TcpState
    timer: Timer
    keepalive: Switch
    keepidle: int
    keepintvl: int
    keepcnt: int
    own: int
    cgroup: int
    user_timeout: int
    subflow: int
    expires: float
    since_sent: float
    since_received: float
    since_acked: float
    segments_in: int
    segments_out: int
    since_packet: float
    slack: float
    retransmits: int
    probes: int


DEFAULTS: Socket = {
    "cookie": 1,
    "inode": 99,
    "uid": 1000,
    "local": "192.0.2.1",
    "remote": "198.51.100.1",
    "local_port": 40000,
    "remote_port": 22,
    "interface": 0,
    "state": TcpState.ESTABLISHED,
    "timer": Timer.OFF,
    "keepalive": Switch.UNKNOWN,
    "expires": 0.0,
    "since_sent": LONG_AGO,
    "since_received": LONG_AGO,
    "since_acked": LONG_AGO,
    "segments_in": 10,
    "segments_out": 10,
    "since_packet": math.nan,
    "slack": math.nan,
}


def table(now: float, *sockets: Socket, interfaces: tuple[str, ...] = ("",)) -> SocketTable:
    """A scan taken at `now`."""
    columns = Sockets()
    new = columns.extend(len(sockets))
    for name in new:
        new[name][:] = 0
    for row, given in enumerate(sockets):
        for name, value in (DEFAULTS | given).items():
            if name in ("local", "remote"):
                number = address(str(value))
                new[f"{name}_high"][row], new[f"{name}_low"][row] = number >> 64, number & (2**64 - 1)
            else:
                new[name][row] = value
    return SocketTable(columns, now, interfaces=interfaces)


def named(*cookies: int, netns: int = 0) -> SocketTable:
    """A scan of sockets of which only these matter."""
    sockets = Sockets()
    for name, column in sockets.extend(len(cookies)).items():
        column[:] = cookies if name == "cookie" else 0
    sockets["netns"][:] = netns
    return SocketTable(sockets, 0.0)


def address(text: str) -> int:
    """An address as the model has it: IPv4 v4-mapped."""
    return int(ipaddress.IPv6Address(text if ":" in text else f"::ffff:{text}"))


def idle(seconds: float, **others: Unpack[Socket]) -> Socket:
    """A socket whose ages all say this."""
    return {"since_sent": seconds, "since_received": seconds, "since_acked": seconds} | others


def watch(*tables: SocketTable, path: Path = FIREWALL) -> Judgement:
    """The judgement of the last of several scans."""
    memory: Activity = nothing_known()
    for each in tables:
        judgement = judge(each, memory, [path], [])
        memory = judgement.activity
    return judgement


__all__ = ["FIREWALL", "FOREVER", "Socket", "idle", "named", "table", "watch"]
