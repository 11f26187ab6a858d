"""Ends in which this host drops packets of the connection itself, otherwise than by a filter of packets."""

from __future__ import annotations

import functools
from socket import (
    AF_INET6,
    IPPROTO_IP,
)

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.scenes import Play, Scene, keepalive, send, stay_quiet, wait_for_end
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
