"""Further ends: those that lead astray, because a way has changed, or the last word is not that of the peer."""

from __future__ import annotations

import functools
from contextlib import suppress
from socket import AF_INET, AF_INET6, SHUT_WR, socket

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import CLIENT, SERVER, vanish
from tests.kernel.deaths.scenes import HOLD, PATIENCE, Play, Scene, abort, keepalive, send, stay_quiet, wait_for_end
from tests.kernel.deaths.strange import over_a_link_of_its_own
from tests.kernel.deaths.stranger import at_a_router

ASTRAY: list[Scene] = []
scene = functools.partial(scenes.scene, among=ASTRAY)

FROM_THE_PEER = 63  # hop limit that its packets have at the last router before it, once that has decremented it


# The way back has become longer or shorter, so that a reset of the peer seems to come from something else


def lost_its_state_behind_another_way(play: Play, *, longer_by: int) -> None:
    """From now on the packets of the peer pass so many more routers; and the peer has lost its state."""
    client, server = play.open()
    hop_limit = FROM_THE_PEER - longer_by
    play.rig.r2.nft(f"add rule inet t through tcp sport {play.port} ip ttl set {hop_limit}")
    vanish(server)
    stay_quiet()
    send(client)
    wait_for_end(client)


@scene(Cause.UNKNOWN_TO_PEER, untold=True)
def peer_lost_its_state_and_the_way_became_a_hop_longer(play: Play) -> None:
    lost_its_state_behind_another_way(play, longer_by=1)


@scene(Cause.UNKNOWN_TO_PEER, untold=True)
def peer_lost_its_state_and_the_way_became_a_hop_shorter(play: Play) -> None:
    lost_its_state_behind_another_way(play, longer_by=-1)


@scene(Cause.UNKNOWN_TO_PEER, untold=True)
def peer_lost_its_state_and_the_way_became_two_hops_shorter(play: Play) -> None:
    lost_its_state_behind_another_way(play, longer_by=-2)


# Devices on the way


@scene(Cause.MIDDLEBOX_IDLE, untold=True)
def forged_by_a_careful_box_after_idle_and_nothing_comes_afterwards(play: Play) -> None:
    client, _ = play.open()
    stay_quiet()
    play.rig.forge_reset(client, play.port, hop_limit=62)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY, untold=True)
def forged_by_a_careful_box_while_busy_and_nothing_comes_afterwards(play: Play) -> None:
    client, server = play.open()
    play.talk(client, server)
    play.rig.forge_reset(client, play.port, hop_limit=62)
    wait_for_end(client)


@scene(Cause.PROXY_CLOSED)
def a_proxy_on_the_way_closes_after_idle(play: Play) -> None:
    client, proxy = at_a_router(play, play.rig.r1)  # the firewall forgets at once what it leads elsewhere
    stay_quiet()
    proxy.close()
    assert client.recv(1) == b""
    client.close()


@scene(Cause.PEER_ABORTED)
def a_proxy_on_the_way_resets_after_idle(play: Play) -> None:
    """As a load balancer does: for this host, it is the peer."""
    client, proxy = at_a_router(play, play.rig.r1)  # the firewall forgets at once what it leads elsewhere
    stay_quiet()
    abort(proxy)
    wait_for_end(client)


@scene(Cause.UNREACHABLE)
def router_finds_no_host_for_a_probe(play: Play) -> None:
    client, _ = play.open()
    play.fail("unreachable")
    keepalive(client, 1)
    wait_for_end(client)


@scene(Cause.PEER_FIREWALL)
def peers_own_firewall_answers_with_an_error(play: Play) -> None:
    client, _ = play.open()
    play.rig.server.nft(f"add rule inet t in tcp dport {play.port} reject")
    send(client)
    wait_for_end(client)


@scene(Cause.PEER_CLOSED)
def path_dies_after_the_peer_had_closed(play: Play) -> None:
    """So that only the FIN of this end is lost."""
    client, server = play.open()
    play.fail("drop_there")
    server.sendall(b"last")
    server.shutdown(SHUT_WR)
    assert client.recv(4) == b"last"
    assert client.recv(1) == b""
    client.close()


# This host


@scene(Cause.PROGRAM_KILLED)
def program_is_killed_while_it_sends(play: Play) -> None:
    client, server = play.open()
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            client.send(b"x" * 65536)
    program = play.hold(client, *HOLD)
    program.kill()
    program.wait(PATIENCE)
    while server.recv(1 << 20):
        pass
    server.close()


@scene(Cause.LOCAL_FIREWALL)
def own_host_refuses_packets_that_come_over_another_link(play: Play) -> None:
    """Its check of the way back (rp_filter) takes these for forged, once its own route leads elsewhere."""
    client, server = over_a_link_of_its_own(play)
    number = 100 + play.port % 100
    play.rig.client.set_sysctl(f"net.ipv4.conf.near{number}.rp_filter", 1)
    play.rig.client.ip(f"rule del from 10.88.{number}.1 lookup {number}")
    send(client)
    wait_for_end(client)
    send(server)


@scene(Cause.LOCAL_FIREWALL)
def own_policy_of_ipsec_blocks_what_comes(play: Play) -> None:
    client, _ = play.open()
    ends = f"src {SERVER[AF_INET]} dst {CLIENT[AF_INET]} proto tcp sport {play.port}"
    play.rig.client.ip(f"xfrm policy add {ends} dir in action block")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_policy_of_ipsec_blocks_what_leaves(play: Play) -> None:
    client, _ = play.open()
    ends = f"src {CLIENT[AF_INET]} dst {SERVER[AF_INET]} proto tcp dport {play.port}"
    play.rig.client.ip(f"xfrm policy add {ends} dir out action block")
    send(client)
    wait_for_end(client)


# This host's own routes, while data is on its way or probes alone are


def route(play: Play, what: str) -> None:
    """From now on, this host's own routes say that of the connection."""
    family = "-6" if play.scene.family == AF_INET6 else "-4"
    done = play.rig.client.run("ip", family, "rule", "add", "ipproto", "tcp", "dport", str(play.port), what)
    assert done.returncode == 0, done.stderr


def send_in_vain(play: Play, client: socket) -> None:
    """Have data on its way that does not arrive."""
    play.fail("drop_there")
    client.sendall(b"late")


@scene(Cause.LOCAL_NETWORK)
@scene(Cause.LOCAL_NETWORK, family=AF_INET6)
def own_route_is_gone_while_data_is_on_its_way(play: Play) -> None:
    client, _ = play.open()
    send_in_vain(play, client)
    route(play, "unreachable")
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
@scene(Cause.LOCAL_NETWORK, family=AF_INET6)
def own_route_is_prohibited_while_data_is_on_its_way(play: Play) -> None:
    client, _ = play.open()
    send_in_vain(play, client)
    route(play, "prohibit")
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
@scene(Cause.LOCAL_NETWORK, family=AF_INET6)
def own_route_is_a_black_hole_while_data_is_on_its_way(play: Play) -> None:
    client, _ = play.open()
    send_in_vain(play, client)
    route(play, "blackhole")
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_link_is_taken_down_while_data_is_on_its_way(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    send_in_vain(play, client)
    play.rig.client.ip(f"link set near{100 + play.port % 100} down")
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
@scene(Cause.LOCAL_NETWORK, family=AF_INET6)
def own_route_is_gone_before_a_probe(play: Play) -> None:
    client, _ = play.open()
    keepalive(client, 3)
    route(play, "unreachable")
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_link_is_taken_down_before_a_probe(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    keepalive(client, 3)
    play.rig.client.ip(f"link set near{100 + play.port % 100} down")
    wait_for_end(client)
