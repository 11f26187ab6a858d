"""What any user or container can do to what the bpf engine remembers of the network."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import struct
from pathlib import Path
from socket import IPPROTO_IP, IPPROTO_TCP, SO_LINGER, SOL_SOCKET, create_connection, create_server, inet_aton

from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.platforms.linux.bpf.connect import cgroup_root
from keepaliveD.platforms.linux.bpf.deaths import BpfDeaths
from tests.support.rig import Namespace

HOST, FLOW = 24, 40  # bytes of the keys
NETNS_OF = {"hosts": slice(16, 20), "flows": slice(32, 36)}
NO_LINGER = struct.pack("ii", 1, 0)
IP_TOS, TCP_MD5SIG = 1, 14
CONNECTIONS = 20


def kept(programs: BpfDeaths, which: str, host: Namespace) -> int:
    """How many of a map's keys are of this network namespace."""
    call = ctypes.CDLL(libbpf.LIBRARY, use_errno=True).bpf_map_get_next_key
    found, before, key = 0, None, ctypes.create_string_buffer(64)
    while call(programs._object.map_fd(which), before, key) == 0:
        before = ctypes.create_string_buffer(key.raw, 64)
        found += int.from_bytes(key.raw[NETNS_OF[which.removesuffix("_elsewhere")]], "little") == host.inode
    assert ctypes.get_errno() == errno.ENOENT
    return found


def crowd() -> None:
    """Connections over loopback to many addresses, which end in every way that is remembered."""
    with create_server(("0.0.0.0", 0)) as listener:
        for number in range(CONNECTIONS):
            with create_connection((f"127.1.0.{number + 1}", listener.getsockname()[1])) as near:
                far, (address, _) = listener.accept()
                with far:
                    if number % 2:
                        signed = struct.pack("=HH4s120xBBHI80s", 2, 0, inet_aton(address), 0, 0, 4, 0, b"abcd")
                        far.setsockopt(IPPROTO_TCP, TCP_MD5SIG, signed)
                        near.send(b"unsigned")
                    for each in (near, far):
                        each.setsockopt(IPPROTO_IP, IP_TOS, 8)  # which takes its route away
                        each.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)


def crowds_elsewhere(programs: BpfDeaths, host: Namespace, *which: str) -> bool:
    """Whether a crowd there is all kept in these maps; once more where that of another test has driven it out."""
    for _ in range(5):
        host.inside(crowd)
        if all(kept(programs, each, host) >= CONNECTIONS for each in which):
            return True
    return False


def watched_by(host: Namespace) -> contextlib.closing[BpfDeaths]:
    return contextlib.closing(host.inside(lambda: BpfDeaths(cgroup_root(Path("/")), 10.0)))


def test_what_a_user_does_over_loopback_takes_no_room_of_the_network() -> None:
    with Namespace() as host, watched_by(host) as programs:
        assert crowds_elsewhere(programs, host, "hosts_elsewhere", "flows_elsewhere")
        assert [kept(programs, which, host) for which in ("hosts", "flows")] == [0, 0]


def test_what_another_network_namespace_does_takes_no_room_of_ours() -> None:
    with Namespace() as host, Namespace() as other, watched_by(host) as programs:
        assert crowds_elsewhere(programs, other, "hosts_elsewhere")
        assert [kept(programs, which, other) for which in ("hosts", "flows")] == [0, 0]
