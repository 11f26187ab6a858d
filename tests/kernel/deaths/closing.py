"""Further ends: those of connections of which one direction is closed, or is just being closed."""

from __future__ import annotations

import functools
import time
from socket import AF_INET6, IPPROTO_TCP, MSG_MORE, SHUT_RDWR, SHUT_WR, TCP_INFO, TCP_LINGER2, socket

from keepaliveD.model.causes import Cause
from keepaliveD.model.sockets import TcpState
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import disconnect, vanish
from tests.kernel.deaths.scenes import HOLD, PATIENCE, Play, Scene, abort, send, stay_quiet, wait_for_end
from tests.support.patience import wait_for

CLOSING: list[Scene] = []
scene = functools.partial(scenes.scene, among=CLOSING)


# A FIN alone, after a silence


@scene(Cause.MIDDLEBOX_IDLE)
@scene(Cause.MIDDLEBOX_IDLE, family=AF_INET6)
def forgotten_and_rejected_close(play: Play) -> None:
    client, _ = play.open()
    play.fail("reject_there", "reject_back")
    stay_quiet()
    client.close()


@scene(Cause.MIDDLEBOX_IDLE)
def forgotten_and_rejected_when_its_program_is_killed(play: Play) -> None:
    client, _ = play.open()
    program = play.hold(client, *HOLD)
    play.fail("reject_there", "reject_back")
    stay_quiet()
    program.kill()


@scene(Cause.UNKNOWN_TO_PEER)
def peer_lost_its_state_and_gets_a_fin(play: Play) -> None:
    client, server = play.open()
    vanish(server)
    stay_quiet()
    client.close()


# Both ends had closed


@scene(Cause.PEER_CLOSED)
def peer_closes_and_a_firewall_drops_the_late_fin_of_this_end(play: Play) -> None:
    client, server = play.open()
    server.close()
    assert client.recv(1) == b""
    stay_quiet()
    play.fail("drop_there")
    client.close()


@scene(Cause.PEER_CLOSED)
@scene(Cause.PEER_CLOSED, family=AF_INET6)
def peer_closes_and_its_socket_is_gone_when_this_end_closes(play: Play) -> None:
    client, _ = closed_by_a_peer_that_forgets(play)
    client.close()


@scene(Cause.PROGRAM_KILLED)
def peer_closes_and_its_socket_is_gone_when_the_program_is_killed(play: Play) -> None:
    client, _ = closed_by_a_peer_that_forgets(play)
    play.hold(client, *HOLD).kill()


def closed_by_a_peer_that_forgets(play: Play) -> tuple[socket, socket]:
    """Both ends of a connection whose peer has closed so long ago that its kernel has ended it (tcp_fin_timeout)."""
    client, server = play.open()
    server.setsockopt(IPPROTO_TCP, TCP_LINGER2, 1)
    server.close()
    assert client.recv(1) == b""
    stay_quiet()
    return client, server


# The peer has closed one direction, and waits for the answer


@scene(Cause.UNKNOWN_TO_PEER, untold=True)
@scene(Cause.UNKNOWN_TO_PEER, family=AF_INET6, untold=True)
def peer_lost_its_state_after_it_had_closed_one_direction(play: Play) -> None:
    client, server = play.open()
    server.shutdown(SHUT_WR)
    assert client.recv(1) == b""
    vanish(server)
    send(client)
    wait_for_end(client)


@scene(Cause.PEER_FIREWALL, untold=True)
def peers_own_firewall_rejects_after_the_peer_had_closed_one_direction(play: Play) -> None:
    client, server = play.open()
    server.shutdown(SHUT_WR)
    assert client.recv(1) == b""
    stay_quiet()  # the FIN is acknowledged late
    play.rig.treat("server", "reject_here", play.port)
    send(client)
    wait_for_end(client)


@scene(server=Cause.PROGRAM_KILLED)
@scene(server=Cause.PROGRAM_KILLED, family=AF_INET6)
def program_is_killed_while_its_peer_waits_for_the_answer(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"half")
    assert client.recv(4) == b"half"
    stay_quiet()
    play.hold(server, *HOLD).kill()
    assert client.recv(1) == b""


@scene(Cause.WROTE_AFTER_CLOSE)
@scene(Cause.WROTE_AFTER_CLOSE, family=AF_INET6)
def program_answers_and_closes_after_the_peer_had_closed(play: Play) -> None:
    """So that the reset finds the FIN of this end sent, too, as on every path that takes time."""
    client, server = play.open()
    server.close()
    assert client.recv(1) == b""
    client.send(b"late", MSG_MORE)
    client.close()


@scene(Cause.UNKNOWN_TO_PEER, untold=True)
def peer_lost_its_state_after_it_had_closed_one_direction_and_is_answered_by_a_close(play: Play) -> None:
    client, server = play.open()
    server.shutdown(SHUT_WR)
    assert client.recv(1) == b""
    vanish(server)
    client.send(b"late", MSG_MORE)
    client.close()


# This end has closed one direction, and waits for the answer


@scene(Cause.PEER_ABORTED)
@scene(Cause.PEER_ABORTED, family=AF_INET6)
def peer_aborts_instead_of_an_answer(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    abort(server)
    wait_for_end(client)


@scene(Cause.PEER_CLOSED_IDLE, untold=True)
@scene(Cause.PEER_CLOSED_IDLE, family=AF_INET6, untold=True)
def peer_closes_after_idle_instead_of_an_answer(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    stay_quiet()
    server.close()
    assert client.recv(1) == b""


@scene(Cause.LOCAL_CLOSE, untold=True)
def peer_closes_as_soon_as_this_end_has_closed_one_direction_after_idle(play: Play) -> None:
    client, server = play.open()
    stay_quiet()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    server.close()
    assert client.recv(1) == b""


# This end has closed, and its program is killed


@scene(Cause.PROGRAM_KILLED)
@scene(Cause.PROGRAM_KILLED, family=AF_INET6)
def program_is_killed_while_it_waits_for_the_answer(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    await_acknowledged_fin(client)
    program = play.hold(client, *HOLD)
    program.kill()
    program.wait(PATIENCE)
    send(server)
    wait_for_end(server)


@scene(Cause.LOCAL_CLOSE, untold=True)
def program_is_killed_that_had_closed_both_directions(play: Play) -> None:
    """So nothing was left to be killed, but when the kernel closes the socket it is the same as the one above."""
    client, _ = play.open()
    client.shutdown(SHUT_RDWR)
    await_acknowledged_fin(client)
    play.hold(client, *HOLD).kill()


def await_acknowledged_fin(connection: socket) -> None:
    """Wait until the peer has acknowledged the FIN of this end."""
    wait_for(lambda: connection.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == TcpState.FIN_WAIT2)


# This end closes with a reset


@scene(server=Cause.LOCAL_ABORT, untold=True)
def program_aborts_with_unread_data(play: Play) -> None:
    """What is unread brings about a reset, and so does SO_LINGER with 0."""
    client, server = play.open()
    client.sendall(b"unread")
    stay_quiet()
    abort(server)
    wait_for_end(client)


@scene(Cause.LOCAL_ABORT, Cause.PEER_ABORTED)
@scene(Cause.LOCAL_ABORT, Cause.PEER_ABORTED, family=AF_INET6)
def program_aborts_after_it_had_closed_one_direction(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    time.sleep(0.5)  # until its FIN is acknowledged
    abort(client)
    wait_for_end(server)


@scene(Cause.LOCAL_ABORT, Cause.PEER_ABORTED)
def program_disconnects_after_it_had_closed_one_direction(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    time.sleep(0.5)  # until its FIN is acknowledged
    disconnect(client)
    wait_for_end(server)
