"""Further ends: those at which something that is seen misleads, because it did not end the connection."""

from __future__ import annotations

import contextlib
import functools
import time
from socket import AF_INET6, IPPROTO_TCP, SHUT_WR, SO_RCVBUF, SOL_SOCKET, socket

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import ACK, SERVER, Segment
from tests.kernel.deaths.scenes import (
    HOLD,
    TCP_USER_TIMEOUT,
    Play,
    Scene,
    abort,
    keepalive,
    send,
    stay_quiet,
    wait_for_end,
)

MISLEADING: list[Scene] = []
scene = functools.partial(scenes.scene, among=MISLEADING)


@scene(Cause.PEER_KEEPALIVE)
def peers_keepalive_gives_up_after_this_end_closed_one_direction(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    play.fail("drop_there")
    keepalive(server, 1, 1, 3)
    wait_for_end(client)


@scene(Cause.PEER_ABORTED)
def peer_aborts_between_two_probes_that_were_answered(play: Play) -> None:
    client, server = play.open()
    keepalive(server, 3, 1, 3)
    time.sleep(7)  # two probes, the last one a second ago
    abort(server)
    wait_for_end(client)


@scene(Cause.PEER_ABORTED, untold=True)
def peer_aborts_when_its_next_probe_is_due(play: Play) -> None:
    """Each one was answered: so a server ends what was idle for some idle times of its keepalive."""
    client, server = play.open()
    keepalive(server, 2, 1, 3)
    time.sleep(8)
    abort(server)
    wait_for_end(client)


@scene(Cause.PEER_ABORTED, untold=True)
def peer_aborts_that_waits_for_a_program_which_does_not_read(play: Play) -> None:
    """It asks for room by what looks like probes of a keepalive."""
    client, server = play.open()
    client.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    server.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while True:
            server.send(b"x" * 65536)
    time.sleep(6.4)
    abort(server)
    time.sleep(0.5)


@scene(Cause.PEER_KEEPALIVE, untold=True)
def peers_keepalive_gives_up_after_a_single_probe(play: Play) -> None:
    client, server = play.open()
    play.fail("drop_there")
    keepalive(server, 1, 1, 1)
    wait_for_end(client)


@scene(Cause.USER_TIMEOUT)
def user_timeout_ends_what_probes_more_often_than_it_has_probes(play: Play) -> None:
    """With TCP_USER_TIMEOUT the kernel does not count probes."""
    client, _ = play.open()
    client.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 5000)
    play.fail("drop_there", "drop_back")
    keepalive(client, 1, 1, 2)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY, untold=True)
def device_resets_both_ends_when_it_has_read_the_first_words(play: Play) -> None:
    """As some do that read the name of a server in the first packet, with the hop limit of the peer."""
    family = play.scene.family
    play.listen()
    client = play.stack.enter_context(play.rig.client.inside(lambda: socket(family)))
    client.connect((SERVER[family], play.port))
    play.opened(client)
    play.fail("drop_there")
    send(client)
    play.rig.forge_reset(client, play.port, hop_limit=62)
    wait_for_end(client)


@scene(Cause.PEER_FIREWALL, untold=True)
def peers_own_firewall_rejects_while_the_peer_sends(play: Play) -> None:
    client, server = play.open()
    play.rig.treat("server", "reject_here", play.port)
    server.sendall(b"more")
    assert client.recv(4) == b"more"
    send(client)
    send(server)
    wait_for_end(client)
    send(server)


@scene(Cause.PROXY_CLOSED)
def program_is_killed_long_after_its_peer_had_closed_after_idle(play: Play) -> None:
    client, server = play.open()
    program = play.hold(client, *HOLD)
    stay_quiet()
    server.close()
    stay_quiet()
    program.kill()


@scene(Cause.PEER_CLOSED_IDLE)
def peer_closes_after_time_without_data_though_probes_are_answered(play: Play) -> None:
    client, server = play.open()
    keepalive(client, 1, 1, 3)
    stay_quiet()
    server.close()
    assert client.recv(1) == b""
    client.close()


@scene(Cause.PATH_DIED)
def path_dies_long_after_the_own_firewall_dropped_packets(play: Play) -> None:
    client, server = play.open()
    play.rig.treat("client", "drop_in", play.port)
    server.sendall(b"again")
    time.sleep(1)
    play.rig.treat("client", "drop_in", play.port, do="delete")
    assert client.recv(5) == b"again"
    play.talk(client, server)
    play.fail("drop_there", "drop_back")
    send(client)
    wait_for_end(client)


@scene(Cause.UNREACHABLE)
def router_finds_no_host_for_an_acknowledgement_of_what_probes(play: Play) -> None:
    client, server = play.open()
    play.fail("unreachable")
    server.sendall(b"more")
    keepalive(client, 1, 1, 2)
    assert client.recv(4) == b"more"
    time.sleep(1)
    play.fail("drop_back")
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL, untold=True)
@scene(Cause.LOCAL_FIREWALL, family=AF_INET6, untold=True)
def own_firewall_rejects_what_the_peer_sends_before_this_end_does(play: Play) -> None:
    """The reject ends the connection at the peer, which answers the next packet of this end with a reset."""
    client, server = play.open()
    play.rig.treat("client", "reject_in", play.port)
    send(server)
    wait_for_end(server)
    play.rig.treat("client", "reject_in", play.port, do="delete")
    stay_quiet()
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL, untold=True)
def own_firewall_drops_what_the_peer_sends_until_it_gives_up(play: Play) -> None:
    client, server = play.open()
    play.rig.treat("client", "drop_in", play.port)
    send(server)
    wait_for_end(server)
    play.rig.treat("client", "drop_in", play.port, do="delete")
    keepalive(client, 1)
    wait_for_end(client)


@scene(Cause.SILENT_AFTER_IDLE, untold=True)
def forgotten_and_dropped_while_somebody_forges_packets_that_the_own_firewall_drops(play: Play) -> None:
    """He knows addresses and ports, and no sequence number."""
    client, _ = play.open()
    play.rig.client.nft(f"add rule inet t in tcp sport {play.port} tcp window 1 drop")  # as ct state invalid does
    stay_quiet()
    play.fail("drop_there", "drop_back")
    send(client)
    for number in range(3):
        forged = Segment(play.port, client.getsockname()[1], number << 30, ACK, acknowledged=77, window=1)
        play.rig.forge(forged, hop_limit=62)
    wait_for_end(client)
