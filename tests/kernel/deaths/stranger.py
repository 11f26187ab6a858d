"""Further strange ends: where something that came before, or somebody beside the program, misleads."""

from __future__ import annotations

import fcntl
import functools
import struct
import sys
import termios
import time
from contextlib import suppress
from select import POLLERR, poll
from socket import AF_INET, IPPROTO_IP, IPPROTO_TCP, create_server, socket

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import CLIENT, RECEIVED, RST, SERVER, Segment, sequence_number, vanish
from tests.kernel.deaths.scenes import (
    HOLD,
    PATIENCE,
    TCP_USER_TIMEOUT,
    Play,
    Scene,
    abort,
    keepalive,
    send,
    stay_quiet,
    wait_for_end,
)
from tests.kernel.deaths.strange import TO_THE_PROXY, over_a_link_of_its_own
from tests.support.patience import TICK
from tests.support.rig import Namespace

STRANGER: list[Scene] = []
scene = functools.partial(scenes.scene, among=STRANGER)

IP_RECVERR = 11  # include/uapi/linux/in.h

# Who ended it on this host


@scene(Cause.LOCAL_KILL, untold=True)
def somebody_on_this_host_forges_a_reset_after_the_own_firewall_dropped_a_packet(play: Play) -> None:
    """That has dropped one some time before, and drops nothing any more."""
    client, server = play.open()
    play.rig.client.nft(f"add rule inet t out tcp dport {play.port} limit rate 1/day burst 1 packets drop")
    client.sendall(b"late")
    assert server.recv(4) == b"late"
    expected = sequence_number(client, RECEIVED)
    play.rig.forge_at_the_client(Segment(play.port, client.getsockname()[1], expected, RST))
    wait_for_end(client)


IN_FLIGHT = """
import os, socket, sys
near, far = socket.socketpair()
descriptor = int(sys.argv[1])
socket.send_fds(near, [b"!"], [descriptor])
os.close(descriptor)
print(flush=True)
sys.stdin.read()
"""


@scene(Cause.PROGRAM_KILLED)
def program_is_killed_that_has_not_received_the_socket_yet(play: Play) -> None:
    """Only a message between processes holds it (SCM_RIGHTS)."""
    client, server = play.open()
    server.sendall(b"unread")
    client.recv(1)
    play.hold(client, sys.executable, "-c", IN_FLIGHT, str(client.fileno())).kill()
    wait_for_end(server)


HELPER = """
import os, signal, sys
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
os.setsid()
print(flush=True)
sys.stdin.read()
"""


@scene(Cause.PROGRAM_ENDED)
def program_is_killed_and_its_helper_ends_later(play: Play) -> None:
    """The helper has inherited the socket, and reads nothing either."""
    client, server = play.open()
    server.sendall(b"unread")
    client.recv(1)
    program = play.hold(client, sys.executable, "-c", HELPER)
    program.wait(PATIENCE)
    assert program.stdin
    program.stdin.close()
    wait_for_end(server)


def is_told_of_an_icmp_error(play: Play, client: socket) -> None:
    """A router refuses a packet, which does not end the connection; the program does not read that."""
    client.setsockopt(IPPROTO_IP, IP_RECVERR, 1)
    twice = "limit rate 1/day burst 2 packets reject with icmpx host-unreachable"  # the first finds the socket in use
    play.rig.firewall.nft(f"add rule inet t through tcp dport {play.port} {twice}")
    client.sendall(b"late")
    has_error(client)


@scene(Cause.PROGRAM_KILLED)
def program_that_asks_for_icmp_errors_is_killed(play: Play) -> None:
    """It was told that a router refused a packet, which had not ended the connection."""
    client, server = play.open()
    is_told_of_an_icmp_error(play, client)
    server.sendall(b"unread")
    play.hold(client, *HOLD).kill()
    wait_for_end(server)


@scene(Cause.PROGRAM_KILLED)
def program_that_asks_for_icmp_errors_is_killed_when_all_is_read(play: Play) -> None:
    """The error of the router is still in the socket when both ends have closed it."""
    client, server = play.open()
    is_told_of_an_icmp_error(play, client)
    assert server.recv(4) == b"late"
    play.hold(client, *HOLD).kill()
    assert server.recv(1) == b""
    server.close()


def has_error(connection: socket) -> None:
    """Wait until an ICMP error has come; it stays in the socket."""
    waiting = poll()
    waiting.register(connection, POLLERR)
    assert waiting.poll(PATIENCE * 1000)


# Peers


@scene(Cause.PEER_ABORTED, Cause.PROGRAM_KILLED)
def peers_program_is_killed_that_has_not_read_for_long(play: Play) -> None:
    client, server = play.open()
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            client.send(b"x" * 65536)
    client.settimeout(PATIENCE)
    play.hold(server, *HOLD).kill()
    wait_for_end(client)


def at_the_firewall(play: Play, *, alone: bool = False) -> tuple[socket, socket]:
    """Both ends of a connection to the server's address that the firewall leads to itself; others too, or it alone."""
    return at_a_router(play, play.rig.firewall, alone=alone)


def at_a_router(play: Play, router: Namespace, *, alone: bool = False) -> tuple[socket, socket]:
    """Both ends of a connection that this router leads to itself."""
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.bind((CLIENT[AF_INET], 0))
    which = f"tcp dport {play.port}" + f" tcp sport {client.getsockname()[1]}" * alone
    router.nft(
        f"table ip lead{play.port} {{ chain here {{ type nat hook prerouting priority -100; {which} redirect\n}}\n}}"
    )
    listener = play.stack.enter_context(router.inside(lambda: create_server(("0.0.0.0", play.port))))
    client.connect((SERVER[AF_INET], play.port))
    return client, play.accept(client, listener)


def beside(play: Play, port: int) -> None:
    """Open another connection to the server's address, of which a hop limit is learnt."""
    with (
        play.rig.server.inside(lambda: create_server((SERVER[AF_INET], port))),
        play.rig.client.inside(socket) as client,
    ):
        client.settimeout(PATIENCE)
        client.connect((SERVER[AF_INET], port))


@scene(Cause.UNKNOWN_TO_PEER)
def peer_is_nearer_than_what_serves_the_other_ports_of_its_address_and_lost_its_state(play: Play) -> None:
    """The firewall leads one port of the address to itself, and the others to a host behind it."""
    client, server = at_the_firewall(play)
    beside(play, play.port + TO_THE_PROXY)
    vanish(server)
    stay_quiet()
    send(client)


@scene(Cause.UNKNOWN_TO_PEER)
def peer_is_nearer_than_another_host_that_serves_its_port_and_lost_its_state(play: Play) -> None:
    """A load balancer leads the connections to one port to several hosts."""
    client, server = at_the_firewall(play, alone=True)
    beside(play, play.port)
    vanish(server)
    stay_quiet()
    send(client)


def probes_and_is_answered(play: Play) -> tuple[socket, socket]:
    """Both ends of a connection whose peer has sent probes, which were answered."""
    client, server = play.open()
    keepalive(server, 1)
    stay_quiet()
    keepalive(server, 60)
    return client, server


@scene(Cause.PEER_ABORTED)
def peer_that_had_probed_before_aborts_in_use(play: Play) -> None:
    client, server = probes_and_is_answered(play)
    play.talk(client, server)
    abort(server)
    wait_for_end(client)


@scene(Cause.PEER_ABORTED, Cause.PROGRAM_KILLED)
def peers_program_that_had_probed_before_is_killed_with_unread_data(play: Play) -> None:
    client, server = probes_and_is_answered(play)
    program = play.hold(server, *HOLD)
    client.sendall(b"unread")
    while unacknowledged(client):
        time.sleep(TICK)
    program.kill()
    wait_for_end(client)


def unacknowledged(connection: socket) -> int:
    """How many bytes of it have not arrived yet, as far as is known."""
    (octets,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return int(octets)


@scene(Cause.PATH_DIED)
def peer_of_the_same_network_goes_down(play: Play) -> None:
    """Nobody answers this host, which asks who has the address."""
    client, _ = over_a_link_of_its_own(play)
    play.rig.r1.ip(f"link set far{100 + play.port % 100} arp off")
    play.rig.client.ip(f"neigh flush dev near{100 + play.port % 100}")
    send(client)
    wait_for_end(client)


@scene(Cause.SILENT_AFTER_IDLE, untold=True)
def forgotten_and_dropped_data_of_a_program_with_a_user_timeout(play: Play) -> None:
    """As those of gRPC have: how long it waits for an answer says nothing of why there is none."""
    client, _ = play.open()
    client.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)
    play.fail("drop_there", "drop_back")
    stay_quiet()
    send(client)
    wait_for_end(client)
