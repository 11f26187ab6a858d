"""Ends in which this host drops packets of the connection itself, and those before a handshake is over."""

from __future__ import annotations

import functools
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_TCP,
    MSG_FASTOPEN,
    TCP_FASTOPEN,
    socket,
)

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import SERVER
from tests.kernel.deaths.scenes import PATIENCE, Play, Scene, abort, destroy, keepalive, send, stay_quiet, wait_for_end
from tests.kernel.deaths.strange import drop_on_own_link, over_a_link_of_its_own
from tests.support.dropping import Where

DISCARDING: list[Scene] = []
scene = functools.partial(scenes.scene, among=DISCARDING)

IP_MINTTL = 21  # include/uapi/linux/in.h


# What comes


@scene(Cause.LOCAL_FIREWALL)
def own_program_drops_what_comes_before_all_else(play: Play) -> None:
    """By XDP, after idle, where the path might have forgotten it."""
    client, _ = over_a_link_of_its_own(play)
    drop_on_own_link(play, Where.ARRIVING_BEFORE_ALL_ELSE)
    stay_quiet()
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
def own_socket_takes_only_packets_of_a_neighbour(play: Play) -> None:
    """As BGP does (GTSM), after the way became longer."""
    client, _ = play.open()
    client.setsockopt(IPPROTO_IP, IP_MINTTL, 255)
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK, family=AF_INET6, untold=True)
def own_address_is_gone_after_idle(play: Play) -> None:
    """As a temporary one that has expired; packets leave all the same, and nobody takes the answers."""
    address = f"fd88:1::{play.port:x}"
    play.rig.client.ip(f"address add {address}/64 dev right nodad preferred_lft 0")  # not for other scenes
    client, _ = play.open(source=address)
    play.rig.client.ip(f"address del {address}/64 dev right")
    stay_quiet()
    send(client)
    wait_for_end(client)


# What leaves


@scene(Cause.LOCAL_NETWORK)
def own_link_with_a_queue_has_no_carrier(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    lose_carrier(play)
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_link_with_a_queue_has_no_carrier_for_a_probe(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    lose_carrier(play)
    keepalive(client, 3)
    wait_for_end(client)


def lose_carrier(play: Play) -> None:
    """Let the other end of the own link be down; the kernel then drops all packets in the place of its queue."""
    net = 100 + play.port % 100
    play.rig.client.run("tc", "qdisc", "add", "dev", f"near{net}", "root", "pfifo")
    play.rig.r1.ip(f"link set far{net} down")


@scene(Cause.LOCAL_NETWORK)
def own_tunnels_program_is_gone(play: Play) -> None:
    """As that of a VPN."""
    client, _ = over_a_link_of_its_own(play)
    net = 100 + play.port % 100
    play.rig.client.ip(
        f"tuntap add dev tun{net} mode tun",
        f"link set tun{net} up",
        f"route replace 10.88.4.0/24 dev tun{net} table {net}",
    )
    stay_quiet()
    send(client)
    wait_for_end(client)


# A server whose program has a connection already, while the last acknowledgement of its handshake is missing


def before_the_handshakes_end(play: Play) -> tuple[socket, socket]:
    """Both ends of a Fast Open connection; of the client only packets with data arrive, and its reset."""
    for host in (play.rig.client, play.rig.server):
        host.set_sysctl("net.ipv4.tcp_fastopen", 0x207)
    listener = play.listen()
    listener.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5)
    play.rig.firewall.nft(f"add rule inet t through tcp dport {play.port} tcp flags & (syn | ack | rst) == ack drop")
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.sendto(b"first", MSG_FASTOPEN, (SERVER[AF_INET], play.port))
    play.opened(client)
    server, _ = listener.accept()
    play.stack.enter_context(server)
    server.settimeout(PATIENCE)
    assert server.recv(5) == b"first"
    server.sendall(b"answer")
    return client, server


@scene(server=Cause.PEER_ABORTED)
def peer_aborts_before_the_handshakes_end(play: Play) -> None:
    client, server = before_the_handshakes_end(play)
    abort(client)
    wait_for_end(server)


@scene(server=Cause.PATH_DIED)
def path_dies_before_the_handshakes_end(play: Play) -> None:
    _, server = before_the_handshakes_end(play)
    play.fail("drop_there", "drop_back")
    wait_for_end(server)


@scene(server=Cause.LOCAL_KILL)
def connection_is_killed_before_the_handshakes_end(play: Play) -> None:
    _, server = before_the_handshakes_end(play)
    destroy(play, "state", "syn-recv", end="server")
    wait_for_end(server)
