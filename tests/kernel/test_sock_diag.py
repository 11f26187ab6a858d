"""Our decoder of sock_diag against those of others."""

from __future__ import annotations

import errno
import re
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SHUT_WR, TCP_INFO, AddressFamily, create_server, htonl, socket
from typing import NamedTuple

import pytest
from pyroute2 import DiagSocket

from keepaliveD.model.sockets import SocketTable, TcpState
from keepaliveD.platforms.linux import capabilities
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from tests.support import seccomp
from tests.support.patience import SOON
from tests.support.rig import Namespace

TCP_MD5SIG = 14  # include/uapi/linux/tcp.h
KEYS = 640  # a message of 64 KB
CONNECTIONS = 100

ANY: dict[AddressFamily, str] = {AF_INET: "0.0.0.0", AF_INET6: "::"}
PEERS: list[tuple[AddressFamily, str]] = [(AF_INET, "127.0.0.1"), (AF_INET6, "::1"), (AF_INET6, "::ffff:127.0.0.1")]
STATES = {"ESTAB": "ESTABLISHED", "CLOSE-WAIT": "CLOSE_WAIT", "FIN-WAIT-2": "FIN_WAIT2"}  # as ss names them
SS_LINE = re.compile(r"(\S+) +\d+ +\d+ +(\S+):(\d+) +(\S+):(\d+) .*ino:(\d+) sk:([0-9a-f]+)")


class Seen(NamedTuple):
    """One socket; addresses are IPv6, v4-mapped where they are IPv4."""

    state: str
    local: tuple[IPv6Address, int]
    remote: tuple[IPv6Address, int]
    inode: int
    cookie: int


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A namespace with connections of each kind to itself, open ones and half closed ones."""
    with Namespace() as host, ExitStack() as stack:
        for family, address in PEERS:
            for half_close in (False, True):
                ends = [stack.enter_context(end) for end in connect(host, family, address)]
                if half_close:
                    ends[0].shutdown(SHUT_WR)
                    await_acknowledgement(ends[0])
        yield host


def test_our_decoder_agrees_with_ss(host: Namespace) -> None:
    """States, addresses, ports, inodes and cookies, of every socket."""
    ours = seen_by_us(host)
    assert ours == seen_by_ss(host)
    kinds = {(seen.state, seen.local[0]) for seen in ours}
    assert kinds == {(state, mapped(address)) for state in STATES.values() for _, address in PEERS}


def test_our_decoder_agrees_with_pyroute2(host: Namespace) -> None:
    """The same, read by somebody else's decoder."""
    assert seen_by_us(host) == host.inside(seen_by_pyroute2)


def connect(host: Namespace, family: AddressFamily, address: str) -> tuple[socket, socket]:
    """Both ends of a connection inside a namespace."""
    with host.inside(
        lambda: create_server((ANY[family], 0), family=family, dualstack_ipv6=family == AF_INET6)
    ) as server:
        client = host.inside(lambda: socket(family))
        client.connect((address, server.getsockname()[1]))
        return client, server.accept()[0]


def await_acknowledgement(closing: socket) -> None:
    """Until the peer has acknowledged the FIN, which it may delay."""
    deadline = time.monotonic() + SOON
    while closing.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] != TcpState.FIN_WAIT2:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def seen_by_us(host: Namespace) -> set[Seen]:
    """The scan of our watcher."""
    sockets = host.inside(lambda: SocketWatcher(all_namespaces=False)).scan(0.0).sockets

    def end(side: str, row: int) -> tuple[IPv6Address, int]:
        address = int(sockets[f"{side}_high"][row]) << 64 | int(sockets[f"{side}_low"][row])
        return IPv6Address(address), int(sockets[f"{side}_port"][row])

    return {
        Seen(
            TcpState(sockets["state"][row]).name,
            end("local", row),
            end("remote", row),
            int(sockets["inode"][row]),
            int(sockets["cookie"][row]),
        )
        for row in range(len(sockets))
    }


def seen_by_ss(host: Namespace) -> set[Seen]:
    """What ss prints."""
    lines = [SS_LINE.match(line) for line in host.run("ss", "-tneH").stdout.splitlines()]
    assert all(lines)
    return {
        Seen(STATES[state], (mapped(local), int(lport)), (mapped(remote), int(rport)), int(inode), int(cookie, 16))
        for state, local, lport, remote, rport, inode, cookie in (line.groups() for line in lines if line)
    }


def seen_by_pyroute2() -> set[Seen]:
    """What pyroute2 decodes."""
    with DiagSocket() as diag:
        diag.bind()
        found = [each for family in (AF_INET, AF_INET6) for each in diag.get_sock_stats(family=family)]
    return {
        Seen(
            TcpState(each["idiag_state"]).name,
            (mapped(each["idiag_src"]), each["idiag_sport"]),
            (mapped(each["idiag_dst"]), each["idiag_dport"]),
            each["idiag_inode"],
            each["idiag_cookie"],
        )
        for each in found
        if each["idiag_state"] in set(TcpState)
    }


def mapped(text: str) -> IPv6Address:
    """An address in its IPv6 form."""
    address = ip_address(text.strip("[]"))
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


@pytest.mark.parametrize(("family", "address"), PEERS[1:])
def test_the_first_ipv6_connection_is_seen_where_there_was_none(family: AddressFamily, address: str) -> None:
    """Until then the kernel is not asked for any; a v4-mapped one is of that family, too."""
    with Namespace() as host, ExitStack() as stack:
        watcher = host.inside(lambda: SocketWatcher(all_namespaces=False))
        stack.callback(watcher.close)
        held = [stack.enter_context(end) for end in connect(host, AF_INET, "127.0.0.1")]
        assert len(host.inside(lambda: watcher.scan(1.0))) == len(held)
        held += [stack.enter_context(end) for end in connect(host, family, address)]
        assert len(host.inside(lambda: watcher.scan(2.0))) == len(held)


def test_sockets_with_more_keys_than_fit_a_message_hide_no_others() -> None:
    """Any user may give a socket TCP-MD5 keys. To CAP_NET_ADMIN the kernel shows them, and ends there."""
    with Namespace() as host, ExitStack() as stack:
        for number in range(CONNECTIONS):
            ends = [stack.enter_context(end) for end in connect(host, AF_INET, "127.0.0.1")]
            if number % 10 == 0:
                add_keys(ends[0])
        ours = seen_by_us(host)
        assert ours == seen_by_ss(host)
        assert len(ours) == 2 * CONNECTIONS


def test_a_dump_that_ends_early_is_not_called_complete() -> None:
    """Where the capability cannot be given up, as in a sandbox, keys hide others; the kernel's count tells of them."""

    def scan() -> SocketTable:
        seccomp.refuse(seccomp.CAPSET)
        watcher = SocketWatcher(all_namespaces=False)
        stack.callback(watcher.close)
        return watcher.scan(0.0)

    with Namespace() as host, ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in connect(host, AF_INET, "127.0.0.1")] for _ in range(CONNECTIONS)]
        stack.enter_context(host.inside(lambda: create_server(("127.0.0.1", 0))))
        assert host.inside(scan).complete
        for near, _ in pairs[::10]:
            add_keys(near)
        blinded = host.inside(scan)
        assert len(blinded) < 2 * CONNECTIONS
        assert not blinded.complete


@pytest.mark.parametrize("sandboxed", [False, True])
def test_a_thread_that_opened_a_netlink_socket_keeps_its_capabilities(sandboxed: bool) -> None:
    """Also where a sandbox forbids giving one up for the moment: the sockets are read all the same."""

    def effective() -> str:
        return next(line for line in Path("/proc/thread-self/status").read_text().splitlines() if "CapEff" in line)

    def open_one() -> tuple[str, str, str]:
        if sandboxed:
            seccomp.refuse(seccomp.CAPSET)
        before = effective()
        with capabilities.without(capabilities.NET_ADMIN):
            meanwhile = effective()
        watcher = SocketWatcher(all_namespaces=False)
        assert len(watcher.scan(0.0)) == len(ends)
        watcher.close()
        return before, meanwhile, effective()

    with Namespace() as host, ExitStack() as stack:
        ends = [stack.enter_context(end) for end in connect(host, AF_INET, "127.0.0.1")]
        before, meanwhile, after = host.inside(open_one)
    assert before == after
    assert (meanwhile == before) == sandboxed


def add_keys(sock: socket) -> None:
    """Give a socket keys for peers that it does not have, or as many as this kernel allows."""
    for number in range(KEYS):
        address = struct.pack("=H2xI120x", AF_INET, htonl(0x0A00_0000 + number))
        try:
            sock.setsockopt(IPPROTO_TCP, TCP_MD5SIG, address + struct.pack("=BBHi80s", 0, 0, 1, 0, b"k"))
        except OSError as error:
            if error.errno == errno.ENOMEM:
                return  # net.core.optmem_max
            raise
