"""Further ends: those in which something unusual of this host or of the path looks like something else."""

from __future__ import annotations

import ctypes
import functools
import signal
import struct
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from select import select
from socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    IPPROTO_TCP,
    MSG_FASTOPEN,
    SHUT_WR,
    SO_MARK,
    SOCK_DGRAM,
    SOL_SOCKET,
    TCP_FASTOPEN,
    TCP_LINGER2,
    create_server,
    htons,
    if_nametoindex,
    recv_fds,
    socket,
    socketpair,
)

from keepaliveD.model.causes import Cause
from keepaliveD.platforms.linux.deaths import filters
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import ACK, CLIENT, RECEIVED, RST, SENT, SERVER, SYN, Segment, sequence_number, vanish
from tests.kernel.deaths.scenes import (
    HOLD,
    MD5_KEY,
    PATIENCE,
    TCP_MD5SIG,
    Play,
    Scene,
    abort,
    destroy,
    keepalive,
    send,
    stay_quiet,
    wait_for_end,
)
from tests.support.dropping import Where, dropping_in, dropping_on, own_cgroup
from tests.support.rig import FORKING

STRANGE: list[Scene] = []
scene = functools.partial(scenes.scene, among=STRANGE)

SOURCE_PORT = ((filters.LOAD_IHL, 0), (filters.LOAD_HALF_AT, 0))  # of an IPv4 packet
ETH_P_ALL = 0x0003  # include/uapi/linux/if_ether.h: also what this host sends
IPPROTO_MPTCP = 262  # include/uapi/linux/in.h
SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
OTHER_KEY = struct.pack("=BBHI80s", 0, 0, 5, 0, b"other")
NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # a classic filter that takes no packet: BPF_RET
TO_THE_PROXY = 10_000  # ports on
PROXY = 7  # mark of its own packets, which are not led to itself


# Proxies on this host, as those of a service mesh: packets to a peer go to a program beside


def through_a_proxy(play: Play) -> tuple[socket, socket]:
    """Both ends of a connection to the server that this host leads to a program of its own."""
    own = play.port + TO_THE_PROXY
    play.rig.client.nft(
        f"table ip proxy {{ chain to{play.port} {{ type nat hook output priority -100; "
        f"meta mark != {PROXY} tcp dport {play.port} redirect to :{own}\n}}\n}}"
    )
    proxy = play.stack.enter_context(play.rig.client.inside(lambda: create_server(("0.0.0.0", own))))
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.connect((SERVER[AF_INET], play.port))
    far, _ = proxy.accept()
    play.stack.enter_context(far)
    far.settimeout(PATIENCE)
    play.opened(client)
    play.talk(client, far)
    directly(play)
    return client, far


def directly(play: Play) -> None:
    """Open the proxy's own connection to the server, of which its hop limit is learnt."""
    listener = play.listen()
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.setsockopt(SOL_SOCKET, SO_MARK, PROXY)
    client.connect((SERVER[AF_INET], play.port))
    listener.accept()[0].close()


@scene(Cause.PEER_ABORTED)
def a_proxy_on_this_host_aborts(play: Play) -> None:
    client, proxy = through_a_proxy(play)
    abort(proxy)
    wait_for_end(client)


@scene(Cause.WROTE_AFTER_CLOSE)
def wrote_after_a_proxy_on_this_host_had_closed(play: Play) -> None:
    client, proxy = through_a_proxy(play)
    proxy.close()
    assert client.recv(1) == b""
    send(client)


@scene(Cause.UNKNOWN_TO_PEER, untold=True)
def a_proxy_on_this_host_lost_its_state(play: Play) -> None:
    client, proxy = through_a_proxy(play)
    vanish(proxy)
    send(client)


# Who ended it on this host


@scene(Cause.LOCAL_KILL, untold=True)
@scene(Cause.LOCAL_KILL, family=AF_INET6, untold=True)
def somebody_on_this_host_forges_a_reset(play: Play) -> None:
    """As killcx and tcpkill do."""
    client, _ = play.open()
    expected = sequence_number(client, RECEIVED)
    play.rig.forge_at_the_client(Segment(play.port, client.getsockname()[1], expected, RST), play.scene.family)
    wait_for_end(client)


@scene(Cause.LOCAL_KILL, untold=True)
def somebody_on_this_host_tries_to_forge_a_reset_until_it_fits(play: Play) -> None:
    """As tcpkill does; the own firewall drops those that do not."""
    client, _ = play.open()
    play.rig.client.nft(f"add rule inet t in tcp sport {play.port} tcp flags & rst == rst tcp window 1 drop")
    expected, port = sequence_number(client, RECEIVED), client.getsockname()[1]
    for window in (1, 0):
        play.rig.forge_at_the_client(Segment(play.port, port, expected, RST, window=window))
    wait_for_end(client)


@scene(Cause.LOCAL_KILL, untold=True)
def somebody_on_this_host_forges_a_wrong_reset_before_the_right_one(play: Play) -> None:
    """As tcpkill does; the kernel answers the wrong one, and goes on."""
    client, _ = play.open()
    expected, port = sequence_number(client, RECEIVED), client.getsockname()[1]
    for ahead in (1000, 0):
        play.rig.forge_at_the_client(Segment(play.port, port, expected + ahead & 0xFFFFFFFF, RST))
    wait_for_end(client)


@scene(Cause.LOCAL_KILL, untold=True)
@scene(Cause.LOCAL_KILL, family=AF_INET6, untold=True)
def somebody_on_this_host_forges_data_before_the_reset(play: Play) -> None:
    """From then on the packets of the peer seem to come over loopback, as those of a proxy do."""
    forge_over_loopback_before_the_reset(play, flags=ACK, data=b"old data")


@scene(Cause.LOCAL_KILL, untold=True)
def somebody_on_this_host_forges_an_acknowledgement_before_the_reset(play: Play) -> None:
    forge_over_loopback_before_the_reset(play, flags=ACK)


def forge_over_loopback_before_the_reset(play: Play, flags: int, data: bytes = b"") -> None:
    """Both from this host: a segment that changes nothing, then the reset."""
    client, _ = play.open()
    expected, sent = (sequence_number(client, queue) for queue in (RECEIVED, SENT))
    old = Segment(play.port, client.getsockname()[1], expected - 1000 & 0xFFFFFFFF, flags, sent, 512, (1, 1), data)
    play.rig.forge_at_the_client(old, play.scene.family)
    play.rig.forge_at_the_client(Segment(play.port, client.getsockname()[1], expected, RST), play.scene.family)
    wait_for_end(client)


@scene(Cause.LOCAL_KILL, untold=True)
def somebody_on_this_host_learns_the_number_by_a_forged_syn_and_forges_a_reset(play: Play) -> None:
    """As killcx does: the kernel answers the SYN with the numbers that it expects (RFC 5961)."""
    client, _ = play.open()
    port = client.getsockname()[1]
    with play.rig.client.inside(lambda: socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL))) as seen:
        filters.attach(seen, filters.accept_if(filters.Test(SOURCE_PORT, filters.JUMP_IF, port), octets=40))
        seen.settimeout(1)
        for _ in range(30):  # the kernel need not answer each of them
            play.rig.forge_at_the_client(Segment(play.port, port, number=10, flags=SYN))
            if expected := number_acknowledged(seen, port, play.port):
                break
    assert expected, "nothing has answered the SYN"
    play.rig.forge_at_the_client(Segment(play.port, port, expected, RST))
    wait_for_end(client)


def number_acknowledged(seen: socket, port: int, server_port: int) -> int | None:
    """The number that the next packet between these ports acknowledges; None if none comes soon."""
    with suppress(TimeoutError):
        while True:
            packet = seen.recv(40)
            if len(packet) == 40 and struct.unpack_from("!HH", packet, 20) == (port, server_port):
                (number,) = struct.unpack_from("!I", packet, 28)
                return int(number)
    return None


IO_URING = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
assert ring >= 0, os.strerror(ctypes.get_errno())
descriptor = int(sys.argv[1])
assert libc.syscall(427, ring, 2, struct.pack("i", descriptor), 1) == 0, os.strerror(ctypes.get_errno())
os.close(descriptor)
print(flush=True)
sys.stdin.read()
"""


@scene(Cause.PROGRAM_KILLED, untold=True)
def program_is_killed_whose_sockets_only_io_uring_holds(play: Play) -> None:
    """The kernel closes them later, in a process of its own."""
    client, server = play.open()
    program = play.hold(client, sys.executable, "-c", IO_URING, str(client.fileno()))
    server.sendall(b"unread")
    program.kill()
    wait_for_end(server)


@scene(Cause.CLOSED_UNREAD)
def program_runs_another_one_that_does_not_get_the_socket(play: Play) -> None:
    client, server = play.open()
    command = f"import fcntl, os, sys; fcntl.fcntl({client.fileno()}, fcntl.F_SETFD, 1); print(flush=True); "
    program = play.hold(client, sys.executable, "-c", command + "sys.stdin.read(); os.execv('/bin/cat', ['cat'])")
    server.sendall(b"unread")
    assert program.stdin
    program.stdin.close()
    wait_for_end(server)


@scene(Cause.LOCAL_KILL)
def somebody_kills_a_socket_whose_peer_has_closed(play: Play) -> None:
    client, server = play.open()
    server.close()
    assert client.recv(1) == b""
    destroy(play, "state", "all")


@scene(Cause.CLOSED_UNREAD)
def program_closes_with_unread_data_before_its_fin_is_acknowledged(play: Play) -> None:
    client, server = play.open()
    play.fail("drop_there")
    client.shutdown(SHUT_WR)
    server.sendall(b"unread")
    client.recv(1)
    client.close()


@scene(Cause.PEER_ABORTED, Cause.CLOSED_UNREAD)
def listener_is_closed_before_it_accepts(play: Play) -> None:
    listener = play.listen()
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.connect((SERVER[AF_INET], play.port))
    play.opened(client)
    client.sendall(b"in the queue")
    select([listener], [], [], PATIENCE)
    stay_quiet()  # until its data has come
    listener.close()
    wait_for_end(client)


@scene(Cause.PEER_ABORTED, Cause.PROGRAM_KILLED)
def listeners_program_is_killed_before_it_accepts(play: Play) -> None:
    listener = play.listen()
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.connect((SERVER[AF_INET], play.port))
    play.opened(client)
    client.sendall(b"in the queue")
    play.hold(listener, *HOLD).kill()
    wait_for_end(client)


@scene(Cause.LOCAL_ABORT, Cause.PEER_ABORTED)
def peer_aborts_before_it_is_accepted(play: Play) -> None:
    play.listen()
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.connect((SERVER[AF_INET], play.port))
    play.opened(client)
    abort(client)


@scene(Cause.LOCAL_FIREWALL)
def own_firewall_rejects_a_connection_to_this_host(play: Play) -> None:
    listener = play.stack.enter_context(play.rig.client.inside(lambda: create_server(("127.0.0.1", play.port))))
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", play.port))
    server, _ = listener.accept()
    play.stack.enter_context(server)
    play.opened(client)
    play.talk(client, server)
    play.rig.treat("client", "reject_out", play.port)
    send(client)


@scene(Cause.LOCAL_FIREWALL)
def own_filter_of_packets_takes_none(play: Play) -> None:
    """As a program of a cgroup does (systemd's IPAddressDeny=)."""
    client, _ = play.open()
    program = ctypes.create_string_buffer(NOTHING)
    client.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
    send(client)
    wait_for_end(client)


SOCKET_OF_A_CGROUP = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as processes:
    processes.write(str(os.getpid()))
connection = socket.create_connection((sys.argv[2], int(sys.argv[3])))
socket.send_fds(socket.socket(fileno=int(sys.argv[4])), [b"!"], [connection.fileno()])
"""


def of_a_cgroup(play: Play) -> tuple[socket, Path]:
    """The client's end of a connection that is in a cgroup of its own, and that cgroup."""
    listener, cgroup = play.listen(), play.stack.enter_context(own_cgroup())
    ours, theirs = socketpair()
    command = [sys.executable, "-c", SOCKET_OF_A_CGROUP, str(cgroup), SERVER[AF_INET], str(play.port)]

    def start() -> subprocess.Popen[bytes]:
        with FORKING:
            return subprocess.Popen([*command, str(theirs.fileno())], pass_fds=[theirs.fileno()])

    with ours, theirs:
        maker = play.rig.client.inside(start)
        _, (descriptor,), _, _ = recv_fds(ours, 1, 1)
        maker.wait(PATIENCE)
    client = play.stack.enter_context(socket(fileno=descriptor))
    client.settimeout(PATIENCE)
    play.accept(client, listener)
    return client, cgroup


@scene(Cause.LOCAL_FIREWALL)
def own_cgroup_lets_nothing_leave(play: Play) -> None:
    client, cgroup = of_a_cgroup(play)
    play.stack.enter_context(dropping_in(cgroup, Where.LEAVING_CGROUP))
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
def own_cgroup_lets_nothing_arrive(play: Play) -> None:
    """As systemd's IPAddressDeny= does."""
    client, cgroup = of_a_cgroup(play)
    play.stack.enter_context(dropping_in(cgroup, Where.ARRIVING_IN_CGROUP))
    send(client)
    wait_for_end(client)


@scene(Cause.MD5_MISMATCH)
def the_peer_changes_its_key(play: Play) -> None:
    client, server = play.open()
    for end, peer, key in ((client, SERVER, MD5_KEY), (server, CLIENT, MD5_KEY), (server, CLIENT, OTHER_KEY)):
        address = struct.pack("=HH4s", AF_INET, 0, bytes(map(int, peer[AF_INET].split("."))))
        end.setsockopt(IPPROTO_TCP, TCP_MD5SIG, address.ljust(128, b"\0") + key)
    send(server)
    send(client)
    wait_for_end(client)


# This host's network


def over_a_link_of_its_own(play: Play) -> tuple[socket, socket]:
    """Both ends of a connection over another link to the first router."""
    net = 100 + play.port % 100
    rig, near, far = play.rig, f"10.88.{net}.1", f"10.88.{net}.2"
    rig.client.ip(f"link add near{net} type veth peer name far{net} netns {rig.r1.pid}")
    rig.client.ip(f"address add {near}/24 dev near{net}", f"link set near{net} up")
    rig.r1.ip(f"address add {far}/24 dev far{net}", f"link set far{net} up")
    for place, host in ((2, rig.firewall), (3, rig.r2), (4, rig.server)):
        host.ip(f"route add 10.88.{net}.0/24 via 10.88.{place}.1")
    rig.client.ip(
        f"route add 10.88.4.0/24 via {far} table {net}",
        f"route add unreachable default metric 1000 table {net}",
        f"rule add from {near} lookup {net}",
    )
    return play.open(source=near)


@scene(Cause.LOCAL_NETWORK)
def own_link_is_taken_down(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    play.rig.client.ip(f"link set near{100 + play.port % 100} down")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
def own_traffic_control_lets_nothing_leave(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    drop_on_own_link(play, Where.LEAVING_ON_DEVICE)
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
def own_traffic_control_lets_nothing_arrive(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    drop_on_own_link(play, Where.ARRIVING_ON_DEVICE)
    send(client)
    wait_for_end(client)


def drop_on_own_link(play: Play, where: Where) -> None:
    """From now on, drop all packets of the link over which it goes."""
    name = f"near{100 + play.port % 100}"
    play.stack.enter_context(play.rig.client.inside(lambda: entered(dropping_on(if_nametoindex(name), where))))


def entered(context: AbstractContextManager[None]) -> ExitStack:
    """It is entered, in this thread; whoever closes the result leaves it."""
    stack = ExitStack()
    stack.enter_context(context)
    return stack


@scene(Cause.LOCAL_NETWORK)
def own_link_is_removed(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    play.rig.client.ip(f"link delete near{100 + play.port % 100}")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def cable_is_pulled_at_the_other_end(play: Play) -> None:
    client, _ = over_a_link_of_its_own(play)
    play.rig.r1.ip(f"link set far{100 + play.port % 100} down")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_route_is_a_black_hole(play: Play) -> None:
    client, _ = play.open()
    play.rig.client.ip(f"rule add ipproto tcp dport {play.port} blackhole")
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_NETWORK)
def own_route_is_prohibited(play: Play) -> None:
    client, _ = play.open()
    play.rig.client.ip(f"rule add ipproto tcp dport {play.port} prohibit")
    send(client)
    wait_for_end(client)


# The path


@scene(Cause.PATH_DIED)
def route_of_a_router_is_a_black_hole(play: Play) -> None:
    client, server = play.open()
    play.rig.r2.ip(f"rule add ipproto tcp dport {play.port} blackhole")
    server.sendall(b"more")
    assert client.recv(4) == b"more"
    send(client)
    wait_for_end(client)


@scene(Cause.UNREACHABLE)
def route_of_a_router_is_prohibited(play: Play) -> None:
    client, _ = play.open()
    play.rig.r2.ip(f"rule add ipproto tcp dport {play.port} prohibit")
    send(client)
    wait_for_end(client)


@scene(Cause.NAT_FORGOT)
def nat_gives_it_another_port(play: Play) -> None:
    play.rig.firewall.nft(
        f"table ip nat {{ chain from{play.port} {{ type nat hook postrouting priority 100; "
        f"tcp dport {play.port} masquerade fully-random\n}}\n}}"
    )
    play.rig.firewall.set_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", 1)
    client, _ = play.open()
    stay_quiet()
    send(client)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY)
def reset_has_data(play: Play) -> None:
    """As some devices send it, with the reason in words."""
    client, server = play.open()
    play.talk(client, server)
    expected = sequence_number(client, RECEIVED)
    reset = Segment(play.port, client.getsockname()[1], expected, RST, data=b"blocked by policy!")
    play.rig.forge(reset, hop_limit=64)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY, untold=True)
def reset_of_a_device_looks_like_that_of_a_socket(play: Play) -> None:
    client, server = play.open()
    play.talk(client, server)
    expected, sent = (sequence_number(client, queue) for queue in (RECEIVED, SENT))
    forged = Segment(play.port, client.getsockname()[1], expected, RST | ACK, sent, 512, (1, 1))
    play.rig.forge(forged, hop_limit=64)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_IDLE, Cause.MIDDLEBOX_IDLE)
def device_answers_the_peers_probe_and_tells_both_ends(play: Play) -> None:
    client, server = play.open()
    play.fail("reject_there", "reject_back")
    keepalive(server, 3)
    wait_for_end(server)
    play.rig.forge_reset(client, play.port, hop_limit=64)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_IDLE, untold=True)
def device_that_sets_the_hop_limit_of_all_packets_rejects(play: Play) -> None:
    play.rig.firewall.nft(
        f"table ip ttl {{ chain to{play.port} {{ type filter hook forward priority -150; "
        f"tcp sport {play.port} ip ttl set 64\n}}\n}}"
    )
    client, _ = play.open()
    play.fail("reject_there", "reject_back")
    stay_quiet()
    send(client)


# Peers


@scene(Cause.PEER_ABORTED)
def peer_does_not_linger_after_its_fin(play: Play) -> None:
    client, server = play.open()
    server.shutdown(SHUT_WR)
    assert client.recv(1) == b""
    stay_quiet()  # until its FIN is acknowledged
    server.setsockopt(IPPROTO_TCP, TCP_LINGER2, -1)
    server.close()
    wait_for_end(client)


@scene(Cause.PEER_ABORTED)
def peer_aborts_a_fast_open_connection(play: Play) -> None:
    for host in (play.rig.client, play.rig.server):
        host.set_sysctl("net.ipv4.tcp_fastopen", 0x207)
    listener = play.listen()
    listener.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5)
    client = play.stack.enter_context(play.rig.client.inside(socket))
    client.settimeout(PATIENCE)
    client.sendto(b"first", MSG_FASTOPEN, (SERVER[AF_INET], play.port))
    play.opened(client)
    server, _ = listener.accept()
    server.recv(5)
    server.sendall(b"answer")
    assert client.recv(6)
    abort(server)
    wait_for_end(client)


# MPTCP


def by_several_paths(play: Play) -> tuple[socket, socket]:
    """Both ends of an MPTCP connection."""
    listener = play.stack.enter_context(play.rig.server.inside(lambda: socket(AF_INET, proto=IPPROTO_MPTCP)))
    listener.bind((SERVER[AF_INET], play.port))
    listener.listen(5)
    listener.settimeout(PATIENCE)
    client = play.stack.enter_context(play.rig.client.inside(lambda: socket(AF_INET, proto=IPPROTO_MPTCP)))
    client.settimeout(PATIENCE)
    client.connect((SERVER[AF_INET], play.port))
    return client, play.accept(client, listener)


@scene(Cause.PEER_ABORTED)
def mptcp_peer_aborts(play: Play) -> None:
    client, server = by_several_paths(play)
    abort(server)
    wait_for_end(client)


@scene(Cause.PROGRAM_KILLED)
def mptcp_program_is_killed_with_unread_data(play: Play) -> None:
    client, server = by_several_paths(play)
    server.sendall(b"unread")
    play.hold(client, *HOLD).kill()
    wait_for_end(server)


@scene(Cause.CLOSED_UNREAD, untold=True)
def mptcp_program_closes_with_unread_data(play: Play) -> None:
    client, server = by_several_paths(play)
    server.sendall(b"unread")
    client.recv(1)
    client.close()
    wait_for_end(server)


@scene(Cause.LOCAL_KILL)
def mptcp_connection_is_killed(play: Play) -> None:
    by_several_paths(play)
    destroy(play)


@scene(Cause.MIDDLEBOX_IDLE)
def mptcp_path_is_forgotten_and_rejected(play: Play) -> None:
    client, _ = by_several_paths(play)
    play.fail("reject_there", "reject_back")
    stay_quiet()
    send(client)
    wait_for_end(client)


@scene(Cause.PROGRAM_KILLED)
def program_is_told_to_end_and_has_unread_data(play: Play) -> None:
    """As a service manager does."""
    client, server = play.open()
    program = play.hold(client, *HOLD)
    server.sendall(b"unread")
    program.send_signal(signal.SIGTERM)
    program.wait(PATIENCE)
