"""Ends for which a firewall forgets connections: it is told to, by conntrack -D and -F, or they are quiet for long."""

from __future__ import annotations

import functools
import time
from socket import AF_INET6, socket

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.scenes import Play, Scene, keepalive, send, stay_quiet, wait_for_end
from tests.support.rig import Namespace

FORGETTING: list[Scene] = []
scene = functools.partial(scenes.scene, among=FORGETTING)

REJECT, DROP = "reject with tcp reset", "drop"
SIDES = {"forward": ("dport", "sport"), "output": ("dport",), "input": ("sport",)}  # where the server's port is
PICKS_UP = "net.netfilter.nf_conntrack_tcp_loose"  # a connection of which the beginning was not seen


def tracked(play: Play, host: Namespace, hook: str, do: str) -> tuple[socket, socket]:
    """Both ends of a connection that this host tracks there; it does that to packets of connections unknown to it."""
    unknown = [f"tcp {port} {play.port} ct state invalid {do}" for port in SIDES[hook]]
    chain = "; ".join([f"type filter hook {hook} priority 10", *unknown])
    host.nft(f"table inet track{play.port} {{ chain at {{ {chain}\n}}\n}}")
    host.set_sysctl(PICKS_UP, 0)
    return play.open()


def delete(play: Play, host: Namespace, *, may_have_forgotten: bool = False) -> None:
    """Have the host forget this connection, and no other."""
    family = "ipv6" if play.scene.family == AF_INET6 else "ipv4"
    done = host.run("conntrack", "-D", "-f", family, "-p", "tcp", "--dport", str(play.port))
    assert done.returncode == 0 or may_have_forgotten, done.stderr


@scene(Cause.MIDDLEBOX_IDLE)
@scene(Cause.MIDDLEBOX_IDLE, family=AF_INET6)
def router_is_told_to_forget_it_while_it_is_idle_and_rejects(play: Play) -> None:
    client, _ = tracked(play, play.rig.r1, "forward", REJECT)
    stay_quiet()
    delete(play, play.rig.r1)
    send(client)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY)
@scene(Cause.MIDDLEBOX_BUSY, family=AF_INET6)
def router_is_told_to_forget_it_in_use_and_rejects(play: Play) -> None:
    client, server = tracked(play, play.rig.r1, "forward", REJECT)
    play.talk(client, server)
    delete(play, play.rig.r1)
    send(client)
    wait_for_end(client)


@scene(Cause.MIDDLEBOX_BUSY, Cause.MIDDLEBOX_BUSY)
def router_is_told_to_forget_it_and_rejects_what_both_ends_send(play: Play) -> None:
    client, server = tracked(play, play.rig.r1, "forward", REJECT)
    play.talk(client, server)
    delete(play, play.rig.r1)
    send(client)
    send(server)
    wait_for_end(client)
    wait_for_end(server)


@scene(Cause.SILENT_AFTER_IDLE)
def router_is_told_to_forget_all_and_drops(play: Play) -> None:
    """Nothing else is tracked there."""
    client, _ = tracked(play, play.rig.r2, "forward", DROP)
    stay_quiet()
    done = play.rig.r2.run("conntrack", "-F")
    assert done.returncode == 0, done.stderr
    send(client)
    wait_for_end(client)


@scene(Cause.PATH_DIED)
def router_is_told_to_forget_it_in_use_and_drops(play: Play) -> None:
    client, server = tracked(play, play.rig.r1, "forward", DROP)
    play.talk(client, server)
    delete(play, play.rig.r1)
    send(client)
    wait_for_end(client)


def forgetful(play: Play, after: int) -> tuple[socket, socket]:
    """Both ends of a connection that a router forgets after so many quiet seconds; it drops what is unknown to it."""
    host, policy = play.rig.r1, f"ct timeout brief {{ protocol tcp; policy = {{ established: {after} }}; }}"
    family = "ip6" if play.scene.family == AF_INET6 else "ip"
    brief = f'tcp dport {play.port} ct timeout set "brief"'
    at = f"chain at {{ type filter hook prerouting priority -10; {brief}\n}}"
    host.nft(f"table {family} brief{play.port} {{ {policy}\n{at}\n}}")
    return tracked(play, host, "forward", DROP)


@scene(Cause.SILENT_AFTER_IDLE)
@scene(Cause.SILENT_AFTER_IDLE, family=AF_INET6)
def forgotten_between_two_probes_after_one_was_answered(play: Play) -> None:
    """The idle time is shorter than the firewall's timeout, the interval is longer: the first probe proves nothing."""
    client, _ = forgetful(play, after=5)
    keepalive(client, 3, 6, 2)
    wait_for_end(client)


@scene(Cause.PATH_DIED)
def path_dies_after_intervals_longer_than_the_idle_time(play: Play) -> None:
    """Silences as long as the last one were survived."""
    client, _ = forgetful(play, after=60)
    keepalive(client, 1, 3, 2)
    time.sleep(8.5)  # until the probes after 1, 4 and 7 s have been answered
    play.fail("drop_there", "drop_back")
    wait_for_end(client)


@scene(Cause.NAT_FORGOT)
def nat_is_told_to_forget_it_in_use(play: Play) -> None:
    """It picks the connection up again, and gives it another port."""
    play.rig.firewall.nft(
        f"table ip nat{play.port} {{ chain from {{ type nat hook postrouting priority 100; "
        f"tcp dport {play.port} masquerade fully-random\n}}\n}}"
    )
    client, server = play.open()
    play.talk(client, server)
    delete(play, play.rig.firewall, may_have_forgotten=True)  # another scene lets it forget within a second
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
@scene(Cause.LOCAL_FIREWALL, family=AF_INET6)
def own_firewall_is_told_to_forget_it_and_rejects(play: Play) -> None:
    client, _ = tracked(play, play.rig.client, "output", REJECT)
    delete(play, play.rig.client)
    send(client)
    wait_for_end(client)


@scene(Cause.LOCAL_FIREWALL)
def own_firewall_is_told_to_forget_it_and_drops_what_leaves(play: Play) -> None:
    client, _ = tracked(play, play.rig.client, "output", DROP)
    stay_quiet()
    delete(play, play.rig.client)
    send(client)
    wait_for_end(client)


@scene(server=Cause.PATH_DIED)
def own_firewall_is_told_to_forget_it_and_drops_what_comes(play: Play) -> None:
    """The client hears nothing more; the server sends in vain."""
    client, server = tracked(play, play.rig.client, "input", DROP)
    play.talk(client, server)
    delete(play, play.rig.client)
    send(server)
    wait_for_end(server)
