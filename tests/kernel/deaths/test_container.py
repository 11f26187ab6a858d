"""Ends of connections of containers, whose packets this host forwards; any user may have made such a namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from socket import AF_INET, create_server, socket

import pytest

from keepaliveD.model.causes import Cause
from keepaliveD.policy.autopsy.deaths import Causes, decide
from keepaliveD.policy.autopsy.evidence import evidence
from tests.kernel.deaths.rig import RETRIES, SERVER, SHORTEST_RTO_MAX, Rig
from tests.kernel.deaths.scenes import send, wait_for_end
from tests.kernel.deaths.watching import Watch, watching
from tests.support.rig import Namespace, Stranger
from tests.support.versions import RTO_MAX, RUNNING

PORT = 4_999
TO_IT = "priority 0; tcp dport 4999"
RULE = "table inet own {{ chain out {{ type filter hook {}\n}}\n}}"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Its client is the host of the containers."""
    with contextlib.closing(Rig()) as rig:
        rig.client.set_sysctl("net.ipv4.ip_forward", 1)
        yield rig


def container(rig: Rig, box: Namespace, net: int) -> Namespace:
    """Lead this to the server, through the client."""
    rig.client.ip(f"link add box{net} type veth peer name eth0 netns {box.pid}")
    rig.client.ip(f"address add 10.88.{net}.1/24 dev box{net}", f"link set box{net} up")
    box.ip(f"address add 10.88.{net}.2/24 dev eth0", "link set eth0 up", f"route add default via 10.88.{net}.1")
    for place, host in ((1, rig.r1), (2, rig.firewall), (3, rig.r2), (4, rig.server)):
        host.ip(f"route add 10.88.{net}.0/24 via 10.88.{place}.1")
    box.set_sysctl("net.ipv4.tcp_retries2", RETRIES)
    if RUNNING >= RTO_MAX:
        box.set_sysctl("net.ipv4.tcp_rto_max_ms", SHORTEST_RTO_MAX)
    return box


def end(rig: Rig, box: Namespace, watch: Watch, filtering: Namespace, rule: str) -> Causes:
    """Return what the end of a connection of the container is called whose packets are treated so there."""
    with (
        rig.server.inside(lambda: create_server((SERVER[AF_INET], PORT))) as listener,
        box.inside(socket) as client,
    ):
        client.connect((SERVER[AF_INET], PORT))
        with listener.accept()[0]:
            filtering.nft(RULE.format(rule))
            send(client)
            wait_for_end(client)
            watch.until(lambda ended: len(ended) == 1)
            filtering.nft("delete table inet own")
    return decide(watch.ended, unknown=watch.unknown)


def test_what_the_host_of_a_container_does_not_forward_is_its_own_firewalls(rig: Rig) -> None:
    with Namespace() as box, watching(rig.client, container(rig, box, 21)) as watch:
        causes = end(rig, box, watch, rig.client, f"forward {TO_IT} drop")
    assert Cause.LOCAL_FIREWALL in causes.candidates(0)
    assert watch.ended["dropped_by_firewall"][0] > 1


@pytest.mark.parametrize(("net", "verdict"), [(22, "drop"), (23, "reject with tcp reset")], ids=["drops", "rejects"])
def test_of_a_namespace_that_any_user_may_have_made_the_own_firewall_is_not_ruled_out(
    rig: Rig, net: int, verdict: str
) -> None:
    with Stranger() as box, watching(rig.client, container(rig, box, net)) as watch:
        causes = end(rig, box, watch, box, f"output {TO_IT} {verdict}")
    assert Cause.LOCAL_FIREWALL in causes.candidates(0)
    assert "the engine does not see which packets this host dropped" in evidence(watch.ended)
