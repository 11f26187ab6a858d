"""This host's own firewall answers the same, by whichever way it is asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, SHUT_WR

import numpy as np
import pytest

from keepaliveD.model.errors import KernelError, Unsupported
from keepaliveD.model.firewall import FLOW
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.bpf import conntrack as bpf
from keepaliveD.platforms.linux.bpf.conntrack import BpfConntrack
from keepaliveD.platforms.linux.reading.conntrack import Conntrack
from tests.kernel.test_own_firewall import FORGETS, LONG, guarded
from tests.support.patience import SOON
from tests.support.processes import Program, program
from tests.support.rig import Namespace, Rig
from tests.support.versions import CONSULT, since

pytestmark = since(CONSULT)
COMPARED = ("found", "picks_up")


def flow(netns: int, *ends: tuple[str, int]) -> tuple[int, ...]:
    """A connection as columns of FLOW."""
    numbers = []
    for address, _ in ends:
        number = int(ip_address(address if ":" in address else f"::ffff:{address}"))
        numbers += [number >> 64, number & (2**64 - 1)]
    return (*numbers, netns, *(port for _, port in ends))


def flow_of(netns: int, connection: Program) -> tuple[int, ...]:
    """The same of a program's connection, as its own end sees it."""
    return flow(netns, connection.far.getpeername()[:2], connection.far.getsockname()[:2])


def flows(*rows: tuple[int, ...]) -> Column:
    return np.array([*rows], FLOW)


@contextlib.contextmanager
def both(namespace: Namespace, load: Callable[[], BpfConntrack] = BpfConntrack) -> Iterator[list[Conntrack]]:
    """Netlink, and BPF, where this namespace is our own."""
    with ExitStack() as stack:
        ways = [Conntrack(namespace.inode), Conntrack(namespace.inode, load)]
        for way in ways:
            stack.callback(way.end)
        yield ways


def answers(way: Conntrack, here: Namespace, asked: Column, *others: Namespace) -> Column:
    paths = {each.inode: f"/proc/{each.pid}/ns/net" for each in (here, *others)}
    return here.inside(lambda: way.ask(asked, paths))


def agreed(ways: list[Conntrack], here: Namespace, asked: Column, *others: Namespace) -> tuple[Column, Column]:
    """What both ways say, netlink first, once it is the same: the machine may stand still while one is asked."""
    deadline = time.monotonic() + SOON
    while True:
        netlink, by_bpf = (answers(way, here, asked, *others) for way in ways)
        if same(netlink, by_bpf):
            return netlink, by_bpf
        assert time.monotonic() < deadline, (netlink, by_bpf)


def same(one: Column, other: Column) -> bool:
    """Whether both say the same, up to the second that passes in between."""
    return all(
        (
            *(np.array_equal(one[name], other[name]) for name in COMPARED),
            np.array_equal(one["timeout"], other["timeout"], equal_nan=True),
            np.allclose(one["forgets_in"] + one["asked_at"], other["forgets_in"] + other["asked_at"], atol=1.1),
        )
    )


def test_both_ways_know_connections_of_both_families_and_none_that_is_not_there() -> None:
    with guarded(picks_up=1, timeout=LONG) as rig, program(rig, AF_INET) as four, program(rig, AF_INET6) as six:
        for each in (four, six):
            assert each.speak() == "answered"
        here = rig.client.inode
        unknown = flow(here, ("192.0.2.1", 1), ("192.0.2.2", 2)), flow(here, ("2001:db8::1", 1), ("2001:db8::2", 2))
        asked = flows(flow_of(here, four), unknown[0], flow_of(here, six), unknown[1])
        with both(rig.client) as ways:
            _, by_bpf = agreed(ways, rig.client, asked)
        assert by_bpf["found"].tolist() == [True, False, True, False]
        assert (by_bpf["forgets_in"][[0, 2]] > 3600 - 60).all()
        assert (by_bpf["timeout"][[0, 2]] == 3600).all()


def test_more_connections_than_there_is_room_for_are_asked_about_in_turns() -> None:
    with guarded(timeout=LONG) as rig, program(rig) as one:
        assert one.speak() == "answered"
        here = rig.client.inode
        unknown = flow(here, ("192.0.2.1", 1), ("192.0.2.2", 2))
        asked = flows(*[unknown] * (2 * bpf.FLOWS), flow_of(here, one))
        with both(rig.client) as ways:
            assert np.flatnonzero(answers(ways[1], rig.client, asked)["found"]).tolist() == [2 * bpf.FLOWS]


def test_of_a_connection_to_which_another_timeout_applies_both_claim_none() -> None:
    with guarded(timeout=LONG) as rig, program(rig) as closing_one:
        assert closing_one.speak() == "answered"
        closing_one.far.shutdown(SHUT_WR)
        asked = flows(flow_of(rig.client.inode, closing_one))
        with both(rig.client) as ways:
            deadline = time.monotonic() + SOON
            while True:  # its state changes while it closes
                netlink, by_bpf = (answers(way, rig.client, asked) for way in ways)
                if np.isnan(netlink["timeout"][0]) and same(netlink, by_bpf):
                    break
                assert time.monotonic() < deadline


@pytest.mark.parametrize("sysctl", ["max_retrans", "unacknowledged"])
def test_where_a_timeout_for_what_is_not_acknowledged_may_apply_both_claim_none(sysctl: str) -> None:
    """It replaces a longer one, also while a window is closed; the entry does not say which one applies."""
    with guarded(timeout=LONG) as rig, program(rig) as one:
        assert one.speak() == "answered"
        asked = flows(flow_of(rig.client.inode, one))
        for replacing, claimed in ((3601, 3600), (3599, np.nan), (300, 3600)):
            rig.client.set_sysctl(f"net.netfilter.nf_conntrack_tcp_timeout_{sysctl}", replacing)
            with both(rig.client) as ways:
                _, by_bpf = agreed(ways, rig.client, asked)
            assert by_bpf["found"].all()
            assert np.array_equal(by_bpf["timeout"], [claimed], equal_nan=True)


@pytest.mark.parametrize(("contains", "passes"), [(1800, 3600), (3600, 1800)])
def test_both_look_into_the_namespace_of_a_container_and_into_the_hosts(contains: int, passes: int) -> None:
    """The sooner of both counts: with equal ones, a rounded second would decide."""
    with Rig("drop", timeout=LONG) as rig, program(rig) as contained:
        rig.client.set_sysctl(FORGETS, contains)
        rig.firewall.set_sysctl(FORGETS, passes)
        rig.client.nft(
            "table inet own {\nchain input {\ntype filter hook input priority filter\nct state established accept\n}\n}"
        )
        assert contained.speak() == "answered"
        asked = flows(flow_of(rig.client.inode, contained))
        with both(rig.firewall) as ways:
            _, by_bpf = agreed(ways, rig.firewall, asked, rig.client)
        assert by_bpf["timeout"].tolist() == [1800]


def test_where_bpf_fails_netlink_is_asked_from_then_on() -> None:
    class Failing(BpfConntrack):
        def ask(self, *_: Column) -> None:
            raise KernelError("out of memory")

    with guarded(timeout=LONG) as rig, program(rig) as one:
        assert one.speak() == "answered"
        asked = flows(flow_of(rig.client.inode, one))
        with both(rig.client, Failing) as (_, failing):
            assert answers(failing, rig.client, asked)["found"].all()
            assert failing._bpf is None
            assert answers(failing, rig.client, asked)["found"].all()


def test_a_kernel_whose_conntrack_is_a_module_is_asked_by_netlink(tmp_path: Path) -> None:
    module = tmp_path / bpf.IS_MODULE
    module.parent.mkdir(parents=True)
    module.touch()
    with pytest.raises(Unsupported, match="nf_conntrack is a module"), closing(BpfConntrack(tmp_path)):
        pass
