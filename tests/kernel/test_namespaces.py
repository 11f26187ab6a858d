"""More than one network namespace, and more than one interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPIDLE,
    create_connection,
    create_server,
    if_nameindex,
)

import pytest

from keepaliveD.platforms.linux.reading.interfaces import NONE, read_few
from tests.support.patience import SOON
from tests.support.processes import Home, configuration, program, sockets
from tests.support.rig import OWN_NETWORK, Namespace, Rig

GUEST = f"{OWN_NETWORK}.3"
ONLY_GUEST = f"""
    [watch]
    interval = "250ms"
    warn_before = "6s"
    ignore = []
    default_timeout = "infinity"
    [[path]]
    name = "guest"
    networks = ["{GUEST}/32"]
    timeout = "12s"
"""
ETH0 = """
    [watch]
    namespaces = "own"
    [[path]]
    name = "outside"
    interface = "eth0"
    timeout = "5min"
"""


def test_sockets_of_other_namespaces_are_listed_with_their_namespace(tmp_path: Path) -> None:
    """Both ends of a connection are seen from the namespace of one."""
    with Rig() as rig, program(rig) as connected:
        near, far = connected.far.getpeername()[1], connected.far.getsockname()[1]
        listed = sockets(rig.client, Home(tmp_path, configuration(namespaces="all")))
        ends = {(s["netns"], s["local"]["port"], s["remote"]["port"]) for s in listed}
        assert {(rig.client.inode, near, far), (rig.server.inode, far, near)} <= ends


def test_a_namespace_that_ends_is_let_go_within_one_scan(tmp_path: Path) -> None:
    """A veth pair dies with the namespace of either end, as soon as nobody keeps that alive."""
    with Namespace() as host, Home(tmp_path, ONLY_GUEST).daemon(host) as daemon:
        with Namespace() as guest, ExitStack() as stack:
            host.ip(f"link add to_guest type veth peer name to_host netns {guest.pid}")
            listener = stack.enter_context(guest.inside(lambda: create_server((GUEST, 0))))
            stack.enter_context(guest.inside(lambda: create_connection(listener.getsockname())))
            assert daemon.heard("bare", "cut", within=SOON, KEEPALIVE_NETNS=guest.inode), daemon.text
            assert "to_guest" in interfaces(host)
        assert eventually(lambda: "to_guest" not in interfaces(host))


def test_a_container_gets_the_timers_that_its_own_settings_do_not_give_it(tmp_path: Path) -> None:
    """Its namespace is at two hours, whatever the host's says: that is no choice of its programs'."""
    rule = f'[[arm]]\nnetworks = ["{GUEST}/32"]\naction = "rearm"\nidle = "1s"\ninterval = "1s"\n'
    with Namespace() as host, Namespace() as guest, ExitStack() as stack:
        listener = stack.enter_context(guest.inside(lambda: create_server((GUEST, 0))))
        asks, chose = (
            stack.enter_context(guest.inside(lambda: create_connection(listener.getsockname()))) for _ in range(2)
        )
        for near in (asks, chose):
            near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        chose.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 3600)
        with Home(tmp_path, f'[keepalive]\narm = "observe"\n{rule}{ONLY_GUEST}').daemon(host) as daemon:
            entry = daemon.expect("armed", KEEPALIVE_NETNS=guest.inode)
            assert entry["KEEPALIVE_LOCAL_PORT"] == asks.getsockname()[1]
            assert (entry["KEEPALIVE_BEFORE_IDLE_SEC"], entry["KEEPALIVE_AFTER_IDLE_SEC"]) == (7200, 1)
            daemon.expect("unarmed", KEEPALIVE_LOCAL_PORT=chose.getsockname()[1], KEEPALIVE_RESULT="kept-by-program")
            assert chose.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE) == 3600


def test_a_path_can_be_selected_by_interface(tmp_path: Path) -> None:
    """Both families, and only that interface."""
    with Rig() as rig, program(rig, AF_INET) as four, program(rig, AF_INET6) as six, ExitStack() as stack:
        listener = stack.enter_context(rig.client.inside(lambda: create_server(("127.0.0.1", 0))))
        local = stack.enter_context(rig.client.inside(lambda: create_connection(listener.getsockname())))
        path = {s["local"]["port"]: s["path"] for s in sockets(rig.client, Home(tmp_path, ETH0))}
        assert path[four.far.getpeername()[1]] == "outside"
        assert path[six.far.getpeername()[1]] == "outside"
        assert path[local.getsockname()[1]] == "default"


def interfaces(namespace: Namespace) -> set[str]:
    """The names of those in a namespace."""
    return {name for _, name in namespace.inside(if_nameindex)}


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes to be true soon; for what nothing tells of."""
    deadline = time.monotonic() + SOON
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("family", ["inet", "inet6", "link"])
def test_in_a_namespace_with_very_many_interfaces_or_addresses_none_are_known(family: str) -> None:
    """To list ten thousand takes seconds."""
    many = {
        "inet": "\n".join(f"addr add 10.0.{n >> 8}.{n & 255}/32 dev lo" for n in range(2000)),
        "inet6": "\n".join(f"addr add 2001:db8::{n:x}/128 dev lo nodad" for n in range(2000)),
        "link": "\n".join(f"link add v{n} type veth peer name w{n}" for n in range(400)),
    }
    with Namespace() as namespace:
        assert namespace.inside(read_few) is not NONE
        namespace.run("ip", "-batch", "-", given=f"link set lo up\n{many[family]}")
        assert namespace.inside(read_few) is NONE
