"""Decode the records that the programs write of sockets (record.h), and say whose sockets they leave out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keepaliveD.model.errors import Unsupported
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Column, Sockets
from keepaliveD.platforms.linux.bpf import libbpf, twins

IGNORED = "ignored"
MOST_IGNORED = 1024  # its max_entries

RECORD = np.dtype(  # struct record
    {
        "names": [
            *("cookie", "cgroup", "local_high", "local_low", "remote_high", "remote_low"),
            *("inode", "uid", "interface", "segments_in", "segments_out", "keepidle", "keepintvl"),
            *("since_sent", "since_received", "since_acked", "expires", "netns"),
            *("slack", "since_packet", "user_timeout", "local_port", "remote_port"),
            *("state", "timer", "keepalive", "keepcnt", "own", "retransmits", "probes"),
        ],
        "formats": ["u8"] * 6 + ["u4"] * 15 + ["u2"] * 2 + ["u1"] * 7,
        "itemsize": 120,
    }
)
PREFIX = np.dtype([("length", "u4"), ("address", "V16")])
SHARED: twins.Twins = {"record": RECORD, "prefix": PREFIX}
SECONDS = {  # how much of one the program's unit is
    **dict.fromkeys(("since_sent", "since_received", "since_acked", "expires", "slack"), 1 / libbpf.JIFFIES),
    "since_packet": 1024e-6,
}
WHOLE_SECONDS = ("keepidle", "keepintvl")

AS_IPV6 = 96  # bits before an IPv4 address that is written v4-mapped


def load(programs: libbpf.Object, ignore: Sequence[IPNetwork]) -> None:
    """Load an object that leaves out sockets whose peers are in `ignore`. Raises Unsupported, NotPermitted."""
    if len(ignore) > MOST_IGNORED:
        raise Unsupported(f"watch.ignore: {len(ignore)} networks are too many for BPF; write at most {MOST_IGNORED}")
    programs.preset(bytes([bool(ignore)]))
    programs.load()
    for network in ignore:
        programs.put(IGNORED, _prefix(network), b"\1")


def decode(records: Column, sockets: Sockets) -> None:
    """Append the sockets in these records."""
    new = sockets.extend(len(records))
    for name in RECORD.names or ():
        new[name][:] = records[name]
    for name, unit in SECONDS.items():
        new[name] *= np.float32(unit)
    for name in WHOLE_SECONDS:
        new[name] //= np.uint32(libbpf.JIFFIES)
    new["subflow"][:] = 0  # the armer of this engine reaches all sockets


def _prefix(network: IPNetwork) -> bytes:
    """Return the program's struct prefix; IPv4 is v4-mapped."""
    address, length = network.network_address.packed, network.prefixlen
    if network.version == 4:
        address, length = b"\0" * 10 + b"\xff" * 2 + address, AS_IPV6 + length
    return np.array((length, address), PREFIX).tobytes()
