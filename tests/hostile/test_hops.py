"""What is known of the place of a peer, and what others can do to it."""

from __future__ import annotations

import contextlib
import socket
from socket import AF_INET

import pytest

from keepaliveD.model.deaths import Reset
from tests.kernel.deaths.rig import CLIENT, SERVER, Rig
from tests.kernel.deaths.watching import watching

SERVICE, WEB, PROXY, OTHER = 7000, 80, 8080, 8443
LOW = 1024  # the lowest port that any user may take
OF_SERVER, OF_FIREWALL = 61, 63  # hop limits with which their packets arrive at the client
TAKE_THE_WEB = f"""
    table ip proxy {{
        chain in {{
            type nat hook prerouting priority dstnat;
            tcp dport {WEB} redirect to :{PROXY}
        }}
    }}"""


def test_a_proxy_for_another_service_of_the_peer_moves_the_peer_no_nearer() -> None:
    """Whoever connects to that, the reset of a firewall beside it stays a firewall's."""
    service = (SERVER[AF_INET], SERVICE)
    with (
        contextlib.closing(Rig()) as rig,
        watching(rig.client) as watch,
        rig.server.inside(lambda: socket.create_server(service)) as listener,
        rig.firewall.inside(lambda: socket.create_server(("0.0.0.0", PROXY))),
        rig.client.inside(socket.socket) as near,
        rig.client.inside(socket.socket) as web,
    ):
        near.connect(service)
        with listener.accept()[0]:
            rig.firewall.nft(TAKE_THE_WEB)
            web.connect((SERVER[AF_INET], WEB))
            rig.treat("firewall", "reject_there", SERVICE)
            near.sendall(b"late")
            with pytest.raises(ConnectionResetError):
                near.recv(1)
            row = watch.until(lambda ended: len(ended) > 0)[0]
    assert (Reset(row["reset"]), int(row["reset_ttl"]), int(row["peer_ttl"])) == (
        Reset.RECEIVED,
        OF_FIREWALL,
        OF_SERVER,
    )


@pytest.mark.parametrize("opened", ["before", "since"])
def test_a_connection_from_a_low_port_says_nothing_of_the_clients_of_a_service(opened: str) -> None:
    """Any user may take such a port for a connection to another service, which a device nearer by answers for."""
    here = (CLIENT[AF_INET], SERVICE)
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(contextlib.closing(Rig()))
        listener = stack.enter_context(rig.client.inside(lambda: socket.create_server(here)))

        def served() -> tuple[socket.socket, int]:
            far = stack.enter_context(rig.server.inside(socket.socket))
            far.connect(here)
            near = stack.enter_context(listener.accept()[0])
            far.sendall(b"question")
            assert near.recv(100)
            near.sendall(b"answer")
            assert far.recv(100)
            return near, far.getsockname()[1]

        near, port = served() if opened == "before" else (None, 0)
        watch = stack.enter_context(watching(rig.client))
        if near is None:
            near, port = served()
        stack.enter_context(rig.firewall.inside(lambda: socket.create_server(("0.0.0.0", PROXY))))
        rig.firewall.nft(TAKE_THE_WEB.replace(f"dport {WEB} ", f"dport {OTHER} "))
        with rig.client.inside(socket.socket) as users:
            users.bind((CLIENT[AF_INET], LOW))
            users.connect((SERVER[AF_INET], OTHER))
        rig.treat("firewall", "reject_there", port)
        near.sendall(b"late")
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        row = watch.until(lambda ended: bool((ended["local_port"] == SERVICE).any()))
        row = row[row["local_port"] == SERVICE][0]
    assert int(row["reset_ttl"]) == OF_FIREWALL
    assert int(row["peer_ttl"]) == (OF_SERVER if opened == "since" else 0)
