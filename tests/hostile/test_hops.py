"""What is known of the place of a peer, and what others can do to it."""

from __future__ import annotations

import contextlib
import socket
from socket import AF_INET

import pytest

from keepaliveD.model.deaths import Reset
from tests.kernel.deaths.rig import SERVER, Rig
from tests.kernel.deaths.watching import watching

SERVICE, WEB, PROXY = 7000, 80, 8080
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
