"""Ends of connections, made on purpose: what is done, and what it should be called at which end."""

from __future__ import annotations

import contextlib
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from select import select
from socket import (
    AF_INET,
    AF_INET6,
    IP_TTL,
    IPPROTO_IP,
    IPPROTO_TCP,
    SHUT_RD,
    SHUT_WR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_RCVBUF,
    SOL_SOCKET,
    TCP_INFO,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    AddressFamily,
    create_server,
    socket,
)
from typing import Literal

from keepaliveD.model.causes import Cause
from tests.kernel.deaths.rig import (
    CLIENT,
    RECEIVED,
    RST,
    SERVER,
    SYN,
    Place,
    Rig,
    Segment,
    disconnect,
    last_segment,
    sequence_number,
    set_timestamp_back,
    vanish,
)
from tests.support.memory import little_memory
from tests.support.patience import wait_for
from tests.support.rig import FORKING

End = Literal["client", "server"]

PATIENCE = 60  # seconds for what a busy machine does soon
QUIET = 3.0  # seconds: longer than a busy connection is silent
FIRST_PORT = 5_000
ROOM = 3  # connections that a listener holds until they are accepted
NO_LINGER = struct.pack("ii", 1, 0)
SECOND = "10.88.1.77"  # an address of the client
TCP_USER_TIMEOUT, TCP_MD5SIG = 18, 14  # include/uapi/linux/tcp.h
MD5_KEY = struct.pack("=BBHI80s", 0, 0, 3, 0, b"key")  # the end of struct tcp_md5sig, after the peer's address
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True)
class Scene:
    """One end that is made, and its true cause at the ends where it is judged."""

    name: str
    truth: dict[End, Cause]
    play: Callable[[Play], None]
    family: AddressFamily
    untold: bool  # one host cannot tell this from another cause: it is enough if both are named


SCENES: list[Scene] = []


@dataclass
class Play:
    """A scene that is played, on a port of its own."""

    rig: Rig
    scene: Scene
    port: int
    ports: dict[End, tuple[int, int]] = field(default_factory=dict)  # local, remote
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def open(self, backlog: int = 5, source: str = "") -> tuple[socket, socket]:
        """Both ends of a new connection that has carried a word each way: the client's, the server's."""
        family = self.scene.family
        listener = self.listen(backlog)
        client = self.stack.enter_context(self.rig.client.inside(lambda: socket(family)))
        client.settimeout(PATIENCE)
        if source:
            client.bind((source, 0))
        client.connect((SERVER[family], self.port))
        server = self.accept(client, listener)
        self.stack.callback(client.close)  # first: it has been told of its end
        return client, server

    def listen(self, backlog: int = 5) -> socket:
        """The server's listener."""
        family = self.scene.family
        address = (SERVER[family], self.port)
        listener = self.rig.server.inside(lambda: create_server(address, family=family, backlog=backlog))
        listener.settimeout(PATIENCE)
        return self.stack.enter_context(listener)

    def accept(self, client: socket, listener: socket) -> socket:
        """Return the far end of a client that has connected, once each has said a word."""
        server, _ = listener.accept()
        self.stack.enter_context(server)
        server.settimeout(PATIENCE)
        self.opened(client)
        self.talk(client, server)
        return server

    def opened(self, client: socket) -> None:
        """Remember which one it is."""
        port = client.getsockname()[1]
        self.ports = {"client": (port, self.port), "server": (self.port, port)}

    def talk(self, client: socket, server: socket) -> None:
        """Exchange a word each way."""
        client.sendall(b"ask")
        assert server.recv(3) == b"ask"
        server.sendall(b"answer")
        assert client.recv(6) == b"answer"

    def fail(self, *how: str, at: Place = "firewall") -> None:
        """The firewall, or another router, treats it so from now on."""
        for each in how:
            self.rig.treat(at, each, self.port)

    def heal(self, *how: str) -> None:
        """The firewall no longer treats it so."""
        for each in how:
            self.rig.treat("firewall", each, self.port, do="delete")

    def hold(self, connection: socket, *command: str) -> subprocess.Popen[bytes]:
        """A program that has it, and nobody else."""
        with FORKING, connection:
            pipe = subprocess.PIPE
            program = subprocess.Popen(
                [*DIE_WITH_US, *command], stdin=pipe, stdout=pipe, pass_fds=[connection.fileno()]
            )
        self.stack.enter_context(program)
        self.stack.callback(program.kill)
        assert program.stdout
        program.stdout.read(1)  # it runs
        return program


HOLD = ("sh", "-c", "echo; read end")  # until its input ends


def scene(
    client: Cause | None = None,
    server: Cause | None = None,
    family: AddressFamily = AF_INET,
    *,
    untold: bool = False,
    among: list[Scene] = SCENES,
) -> Callable[[Callable[[Play], None]], Callable[[Play], None]]:
    """Add a scene."""
    truth: dict[End, Cause] = {}
    if client is not None:
        truth["client"] = client
    if server is not None:
        truth["server"] = server

    def add(play: Callable[[Play], None]) -> Callable[[Play], None]:
        name = play.__name__ + ("_ipv6" if family == AF_INET6 else "")
        among.append(Scene(name, truth, play, family, untold))
        return play

    return add


def keepalive(connection: socket, idle: int, interval: int = 1, probes: int = 2) -> None:
    """Switch it on."""
    connection.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    for option, value in ((TCP_KEEPIDLE, idle), (TCP_KEEPINTVL, interval), (TCP_KEEPCNT, probes)):
        connection.setsockopt(IPPROTO_TCP, option, value)


def abort(connection: socket) -> None:
    """Close it with a reset."""
    connection.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
    connection.close()


def stay_quiet() -> None:
    """A silence is a time in which nothing happens."""
    time.sleep(QUIET)


def send(connection: socket, octets: bytes = b"late") -> None:
    """Send, whatever becomes of it."""
    with contextlib.suppress(OSError):
        connection.send(octets)


def wait_for_end(connection: socket) -> None:
    """Until it is told of its end, and no longer than it takes."""
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass


def destroy(play: Play, *states: str, end: End = "client") -> None:
    """Have somebody destroy the socket of this end, and no other: others may have its local port, too."""
    local, remote = play.ports[end]
    ports = "sport", "=", f":{local}", "and", "dport", "=", f":{remote}"
    done = getattr(play.rig, end).run("ss", "--kill", "--tcp", *states, *ports)
    assert done.returncode == 0, done.stderr


# A firewall on the way


@scene(Cause.MIDDLEBOX_IDLE)
@scene(Cause.MIDDLEBOX_IDLE, family=AF_INET6)
def forgotten_and_rejected_data(play: Play) -> None:
    client, _ = play.open()
    play.fail("reject_there", "reject_back")
    stay_quiet()
    send(client)


@scene(Cause.MIDDLEBOX_IDLE)
@scene(Cause.MIDDLEBOX_IDLE, family=AF_INET6)
def forgotten_and_rejected_probe(play: Play) -> None:
    client, _ = play.open()
    play.fail("reject_there", "reject_back")
    keepalive(client, 3)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_IDLE)
def forgotten_and_rejected_after_the_peer_closed(play: Play) -> None:
    client, server = play.open()
    server.shutdown(SHUT_WR)
    assert client.recv(1) == b""
    time.sleep(QUIET)  # the FIN is acknowledged late
    play.fail("reject_there", "reject_back")
    send(client)


@scene(Cause.MIDDLEBOX_IDLE)
def forgotten_by_the_first_router(play: Play) -> None:
    client, _ = play.open()
    play.fail("reject_there", at="r1")
    stay_quiet()
    send(client)


@scene(Cause.MIDDLEBOX_IDLE)
def forgotten_by_the_last_router(play: Play) -> None:
    client, _ = play.open()
    play.fail("reject_there", at="r2")
    stay_quiet()
    send(client)


@scene(Cause.SILENT_AFTER_IDLE)
@scene(Cause.SILENT_AFTER_IDLE, family=AF_INET6)
def forgotten_and_dropped_data(play: Play) -> None:
    client, _ = play.open()
    play.fail("drop_there", "drop_back")
    stay_quiet()
    send(client)
    wait_for_end(client)


@scene(Cause.SILENT_AFTER_IDLE)
@scene(Cause.SILENT_AFTER_IDLE, family=AF_INET6)
def forgotten_and_dropped_probes(play: Play) -> None:
    client, _ = play.open()
    play.fail("drop_there", "drop_back")
    keepalive(client, 3)
    wait_for_end(client)


@scene(Cause.SILENT_AFTER_IDLE)
def forgotten_and_dropped_close(play: Play) -> None:
    client, _ = play.open()
    play.fail("drop_there", "drop_back")
    stay_quiet()
    client.close()


@scene(Cause.MIDDLEBOX_IDLE)
def forgotten_and_rejected_while_a_stranger_sends_a_syn(play: Play) -> None:
    """Whoever knows the ports can send one in the peer's name, with the peer's hop limit."""
    client, _ = play.open()
    play.fail("reject_there", "reject_back")
    stay_quiet()
    play.rig.forge(Segment(play.port, client.getsockname()[1], number=1, flags=SYN), hop_limit=62)
    send(client)


@scene(Cause.MIDDLEBOX_BUSY)
def rejected_while_busy(play: Play) -> None:
    client, server = play.open()
    play.fail("reject_there")
    server.sendall(b"more")
    assert client.recv(4) == b"more"
    send(client)
    wait_for_end(client)
    send(server)


@scene(Cause.MIDDLEBOX_BUSY)
def forged_by_a_careful_box_while_busy(play: Play) -> None:
    client, server = play.open()
    play.talk(client, server)
    play.rig.forge_reset(client, play.port, hop_limit=62)
    wait_for_end(client)
    send(server)


@scene(Cause.MIDDLEBOX_BUSY)
def forged_with_the_boxs_own_hop_limit(play: Play) -> None:
    client, server = play.open()
    play.talk(client, server)
    play.rig.forge_reset(client, play.port, hop_limit=64)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY)
def forged_from_a_box_that_starts_at_255(play: Play) -> None:
    client, server = play.open()
    play.talk(client, server)
    play.rig.forge_reset(client, play.port, hop_limit=255)
    wait_for_end(client)


# A peer that does not know the connection


@scene(Cause.UNKNOWN_TO_PEER)
@scene(Cause.UNKNOWN_TO_PEER, family=AF_INET6)
def peer_lost_its_state_and_gets_data(play: Play) -> None:
    client, server = play.open()
    vanish(server)
    stay_quiet()
    send(client)


@scene(Cause.UNKNOWN_TO_PEER)
def peer_lost_its_state_and_gets_a_probe(play: Play) -> None:
    client, server = play.open()
    vanish(server)
    keepalive(client, 3)
    wait_for_end(client)


@scene(Cause.UNKNOWN_TO_PEER)
def peer_lost_its_state_while_busy(play: Play) -> None:
    client, server = play.open()
    play.talk(client, server)
    vanish(server)
    send(client)


@scene(Cause.UNKNOWN_TO_PEER)
def peer_lost_its_state_while_several_packets_are_on_their_way(play: Play) -> None:
    """It answers each of them: what comes after the first reset are resets."""
    client, server = play.open()
    port, expected = client.getsockname()[1], sequence_number(client, RECEIVED)
    vanish(server)
    send(client)
    wait_for_end(client)
    for _ in range(3):
        play.rig.forge(Segment(play.port, port, expected, RST), hop_limit=62)


@scene(Cause.UNKNOWN_TO_PEER)
def peer_with_a_large_hop_limit_lost_its_state(play: Play) -> None:
    client, server = play.open()
    server.setsockopt(IPPROTO_IP, IP_TTL, 255)
    keepalive(client, 1)
    time.sleep(1.5)  # until it has answered a probe with its own hop limit
    vanish(server)
    wait_for_end(client)


@scene(Cause.PEER_FIREWALL)
def peers_own_firewall_rejects(play: Play) -> None:
    client, _ = play.open()
    play.rig.treat("server", "reject_here", play.port)
    stay_quiet()
    send(client)


def bind_when_free(sock: socket, address: tuple[object, ...]) -> None:
    """Another scene may have got the port meanwhile, for as long as it lasts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return sock.bind(address)
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@scene(server=Cause.PEER_RESTARTED)
@scene(server=Cause.PEER_RESTARTED, family=AF_INET6)
def peer_comes_back_on_the_same_port(play: Play) -> None:
    family = play.scene.family
    client, _ = play.open()
    address = client.getsockname()
    vanish(client)
    again = play.stack.enter_context(play.rig.client.inside(lambda: socket(family)))
    bind_when_free(again, address)
    again.settimeout(PATIENCE)
    again.connect((SERVER[family], play.port))


# A peer that ends it


@scene(Cause.PEER_CLOSED_IDLE)
@scene(Cause.PEER_CLOSED_IDLE, family=AF_INET6)
def peer_closes_after_idle(play: Play) -> None:
    client, server = play.open()
    stay_quiet()
    server.close()
    assert client.recv(1) == b""
    client.close()


@scene(Cause.PEER_ABORTED)
@scene(Cause.PEER_ABORTED, family=AF_INET6)
def peer_aborts_after_idle(play: Play) -> None:
    client, server = play.open()
    stay_quiet()
    abort(server)
    wait_for_end(client)


@scene(Cause.PEER_ABORTED, Cause.LOCAL_ABORT)
def peer_aborts(play: Play) -> None:
    client, server = play.open()
    abort(server)
    wait_for_end(client)


@scene(Cause.PEER_ABORTED, Cause.PROGRAM_KILLED)
@scene(Cause.PEER_ABORTED, Cause.PROGRAM_KILLED, family=AF_INET6)
def peers_program_is_killed_with_unread_data(play: Play) -> None:
    client, server = play.open()
    program = play.hold(server, *HOLD)
    client.sendall(b"unread")
    program.kill()
    wait_for_end(client)


@scene(server=Cause.PROGRAM_KILLED)
def peers_program_is_killed_when_all_is_read(play: Play) -> None:
    client, server = play.open()
    program = play.hold(server, *HOLD)
    program.kill()
    assert client.recv(1) == b""
    client.close()


@scene(Cause.WROTE_AFTER_CLOSE)
@scene(Cause.WROTE_AFTER_CLOSE, family=AF_INET6)
def wrote_after_the_peer_had_closed(play: Play) -> None:
    client, server = play.open()
    server.close()
    assert client.recv(1) == b""
    send(client)


@scene(Cause.PEER_ABORTED_AFTER_CLOSE, Cause.CLOSED_UNREAD)
def closed_while_data_was_on_its_way(play: Play) -> None:
    client, server = play.open()
    client.sendall(b"x" * 40_000)
    server.settimeout(PATIENCE)
    server.recv(1)
    client.close()
    server.close()


@scene(Cause.PEER_ABORTED)
def peer_closes_both_directions_while_data_is_on_its_way(play: Play) -> None:
    client, server = play.open()
    client.sendall(b"x" * 1_000)
    server.recv(1)
    server.close()
    wait_for_end(client)


@scene(Cause.PEER_KEEPALIVE)
@scene(Cause.PEER_KEEPALIVE, family=AF_INET6)
def peers_keepalive_gives_up(play: Play) -> None:
    client, server = play.open()
    play.fail("drop_there")
    keepalive(server, 1, 1, 3)
    wait_for_end(client)


@scene(Cause.PEER_GAVE_UP, Cause.PATH_DIED)
def peer_gives_up_because_our_acknowledgements_are_lost(play: Play) -> None:
    """Then BSD and Solaris send a reset. It has the number that is expected here."""
    client, server = play.open()
    play.fail("drop_there")
    server.sendall(b"again and again")
    assert client.recv(15) == b"again and again"
    reset = last_segment(server)
    wait_for_end(server)
    play.rig.reset_as_bsd_does(reset)
    wait_for_end(client)


@scene(Cause.PEER_GAVE_UP, Cause.PATH_DIED)
def peer_gives_up_because_its_data_is_lost(play: Play) -> None:
    """Its reset is ahead of what has arrived here, so that it is asked once more, and then it knows of nothing."""
    client, server = play.open()
    play.fail("drop_back")
    server.sendall(b"in vain")
    reset = last_segment(server)
    wait_for_end(server)
    play.heal("drop_back")
    play.rig.reset_as_bsd_does(reset)
    wait_for_end(client)


@scene(Cause.LISTENER_OVERFLOW)
@scene(Cause.LISTENER_OVERFLOW, family=AF_INET6)
def listener_overflows(play: Play) -> None:
    listener = play.listen(backlog=ROOM - 1)
    while not (one_too_many := overflow(play, listener)):
        for _ in range(ROOM + 1):
            play.stack.enter_context(listener.accept()[0])
    play.opened(one_too_many)


def overflow(play: Play, listener: socket) -> socket | None:
    """Return the client for which a listener has no room; None where it has let all in.

    The kernel looks whether there is room without a lock: two that come at once, by two processors, may fill the place
    of one.
    """
    in_time = [connect(play) for _ in range(ROOM - 1)]
    wait_for(lambda: waiting_to_be_accepted(listener) == len(in_time))
    play.fail("drop_acknowledgements")  # so that the next two come at once, when the server asks for them again
    late = [connect(play) for _ in range(2)]
    play.heal("drop_acknowledgements")
    wait_for(lambda: select(late, [], [], 0)[0] or waiting_to_be_accepted(listener) > ROOM)
    return next(iter(select(late, [], [], 0)[0]), None)


def connect(play: Play) -> socket:
    """Return a client that is connected, as far as it knows."""
    client = play.stack.enter_context(play.rig.client.inside(lambda: socket(play.scene.family)))
    client.settimeout(PATIENCE)
    client.connect((SERVER[play.scene.family], play.port))
    return client


def waiting_to_be_accepted(listener: socket) -> int:
    """How many connections its program has not accepted yet: tcpi_unacked, which it is for a listener."""
    (count,) = struct.unpack_from("=I", listener.getsockopt(IPPROTO_TCP, TCP_INFO, 28), 24)
    return int(count)


# The path


@scene(Cause.PATH_DIED)
@scene(Cause.PATH_DIED, family=AF_INET6)
def path_dies_under_keepalive(play: Play) -> None:
    client, _ = play.open()
    keepalive(client, 1)
    stay_quiet()  # but for the probes, which are answered
    play.fail("drop_there", "drop_back")
    wait_for_end(client)


@scene(Cause.PATH_DIED)
@scene(Cause.PATH_DIED, family=AF_INET6)
def path_dies_while_busy(play: Play) -> None:
    client, server = play.open()
    play.fail("drop_there")
    server.sendall(b"more")
    assert client.recv(4) == b"more"
    send(client, b"x" * 20_000)
    wait_for_end(client)


@scene(server=Cause.PATH_DIED, untold=True)
def user_goes_away_with_his_machine(play: Play) -> None:
    """He closes the lid: nothing is sent any more, and nothing is answered."""
    _, server = play.open()
    stay_quiet()
    play.fail("drop_there", "drop_back")
    keepalive(server, 1)
    wait_for_end(server)


@scene(Cause.USER_TIMEOUT)
def user_timeout_ends_it(play: Play) -> None:
    client, server = play.open()
    client.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)
    play.fail("drop_there")
    server.sendall(b"more")
    assert client.recv(4) == b"more"
    send(client)
    wait_for_end(client)


@scene(Cause.PEER_NOT_READING)
@scene(Cause.PEER_NOT_READING, family=AF_INET6)
def peer_does_not_read(play: Play) -> None:
    client, server = play.open()
    server.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    client.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 3000)
    client.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while True:
            client.send(b"x" * 65536)
    client.settimeout(PATIENCE)
    wait_for_end(client)


@scene(Cause.PATH_DIED)
def large_packets_do_not_pass(play: Play) -> None:
    """And nothing says so: a black hole for the path MTU."""
    client, _ = play.open()
    play.rig.firewall.nft(f"add rule inet t through tcp dport {play.port} meta length > 600 drop")
    send(client, b"x" * 20_000)
    wait_for_end(client)


@scene(Cause.PATH_DIED)
def peer_refuses_timestamps_of_the_past(play: Play) -> None:
    """It takes the packets for old ones (PAWS) and answers each with an acknowledgement."""
    client, _ = play.open()
    set_timestamp_back(client)
    send(client)
    wait_for_end(client)


@scene(Cause.PATH_DIED)
def path_dies_while_the_peer_does_not_read(play: Play) -> None:
    client, _ = play.open()
    client.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            client.send(b"x" * 65536)
    play.fail("drop_there", "drop_back")
    client.settimeout(PATIENCE)
    wait_for_end(client)


@scene(Cause.UNREACHABLE)
@scene(Cause.UNREACHABLE, family=AF_INET6)
def router_finds_no_host(play: Play) -> None:
    client, _ = play.open()
    play.fail("unreachable")
    send(client)
    wait_for_end(client)


@scene(Cause.UNREACHABLE)
def router_prohibits_it(play: Play) -> None:
    client, _ = play.open()
    play.fail("prohibited")
    send(client)
    wait_for_end(client)


@scene(Cause.MD5_MISMATCH)
def only_the_peer_signs(play: Play) -> None:
    client, server = play.open()
    address = struct.pack("=HH4s", AF_INET, 0, bytes(map(int, CLIENT[AF_INET].split("."))))
    server.setsockopt(IPPROTO_TCP, TCP_MD5SIG, address.ljust(128, b"\0") + MD5_KEY)
    send(server)
    send(client)
    wait_for_end(client)


# This host


@scene(Cause.LOCAL_KILL)
@scene(Cause.LOCAL_KILL, family=AF_INET6)
def somebody_kills_the_socket(play: Play) -> None:
    play.open()
    destroy(play)


@scene(Cause.PROGRAM_KILLED)
def program_is_killed_when_all_is_read(play: Play) -> None:
    client, server = play.open()
    play.hold(client, *HOLD).kill()
    assert server.recv(1) == b""
    server.close()


@scene(Cause.PROGRAM_KILLED)
def program_crashes(play: Play) -> None:
    client, server = play.open()
    server.sendall(b"unread")
    play.hold(client, *HOLD).send_signal(signal.SIGSEGV)


@scene(Cause.OUT_OF_MEMORY)
def program_takes_more_memory_than_there_is(play: Play) -> None:
    client, _ = play.open()
    join = play.stack.enter_context(little_memory())
    greedy = play.hold(client, "sh", "-c", f"{join}; echo; read begin; exec tail /dev/zero")
    assert greedy.stdin
    greedy.stdin.close()
    greedy.wait(PATIENCE)


@scene(Cause.PROGRAM_ENDED)
@scene(Cause.PROGRAM_ENDED, family=AF_INET6)
def program_ends_with_unread_data(play: Play) -> None:
    client, server = play.open()
    program = play.hold(client, *HOLD)
    server.sendall(b"unread")
    assert program.stdin
    program.stdin.close()


@scene(Cause.CLOSED_UNREAD)
@scene(Cause.CLOSED_UNREAD, family=AF_INET6)
def program_closes_with_unread_data(play: Play) -> None:
    client, server = play.open()
    server.sendall(b"unread")
    client.recv(1)
    client.close()


@scene(Cause.CLOSED_UNREAD, Cause.PEER_ABORTED)
def program_closes_both_directions_one_after_the_other_with_unread_data(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"unread")
    client.recv(1)
    client.close()
    wait_for_end(server)  # or it would close first, while another scene's program begins and holds the client for it


@scene(Cause.PROGRAM_KILLED, Cause.PEER_ABORTED)
def program_is_killed_that_had_closed_one_direction(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"unread")
    play.hold(client, *HOLD).kill()
    wait_for_end(server)


@scene(Cause.LOCAL_ABORT)
def program_aborts(play: Play) -> None:
    client, _ = play.open()
    abort(client)


@scene(Cause.LOCAL_FIREWALL)
@scene(Cause.LOCAL_FIREWALL, family=AF_INET6)
def own_firewall_rejects_what_leaves(play: Play) -> None:
    client, _ = play.open()
    play.rig.treat("client", "reject_out", play.port)
    send(client)


@scene(Cause.LOCAL_FIREWALL)
@scene(Cause.LOCAL_FIREWALL, family=AF_INET6)
def own_firewall_drops_what_leaves(play: Play) -> None:
    client, _ = play.open()
    play.rig.treat("client", "drop_out", play.port)
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
def own_firewall_drops_what_comes(play: Play) -> None:
    client, _ = play.open()
    play.rig.treat("client", "drop_in", play.port)
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL, Cause.PEER_FIREWALL)
@scene(Cause.LOCAL_FIREWALL, family=AF_INET6)
def own_firewall_rejects_what_comes(play: Play) -> None:
    client, server = play.open()
    play.rig.treat("client", "reject_in", play.port)
    send(client)
    wait_for_end(server)
    wait_for_end(client)


@scene(Cause.PROGRAM_KILLED)
def program_is_frozen_and_then_killed(play: Play) -> None:
    client, server = play.open()
    program = play.hold(client, *HOLD)
    program.send_signal(signal.SIGSTOP)
    server.sendall(b"unread")
    program.kill()


@scene(Cause.CLOSED_UNREAD)
def program_shuts_reading_and_closes_with_unread_data(play: Play) -> None:
    client, server = play.open()
    client.shutdown(SHUT_RD)
    server.sendall(b"unread")
    client.recv(1)
    client.close()


@scene(Cause.CLOSED_UNREAD)
def program_disconnects_with_unread_data(play: Play) -> None:
    client, server = play.open()
    server.sendall(b"unread")
    client.recv(1)
    disconnect(client)


@scene(Cause.LOCAL_FIREWALL)
def own_firewall_answers_with_an_error(play: Play) -> None:
    client, _ = play.open()
    play.rig.client.nft(f"add rule inet t out tcp dport {play.port} reject with icmpx admin-prohibited")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_address_is_gone(play: Play) -> None:
    play.rig.client.ip(f"address add {SECOND}/24 dev right")
    client, _ = play.open(source=SECOND)
    play.rig.client.ip(f"address del {SECOND}/24 dev right")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
@scene(Cause.LOCAL_NETWORK, family=AF_INET6)
def own_route_is_gone(play: Play) -> None:
    client, _ = play.open()
    family = "-6" if play.scene.family == AF_INET6 else "-4"
    done = play.rig.client.run("ip", family, "rule", "add", "ipproto", "tcp", "dport", str(play.port), "unreachable")
    assert done.returncode == 0, done.stderr
    send(client)
    wait_for_end(client)
