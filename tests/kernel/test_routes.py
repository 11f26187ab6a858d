"""Two uplinks where nothing is configured: what connections show is told apart by interface and next hop."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET
from typing import Any

import numpy as np
import pytest

from keepaliveD.model.routes import Route
from keepaliveD.platforms.linux.reading.routes import Rtnetlink
from keepaliveD.policy.timeouts.routes import ENDS
from tests.kernel.test_rescue import all_speak
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL, Home, configuration, program
from tests.support.rig import SERVER, Namespace, Rig


def number(address: str) -> int:
    return int(ipaddress.IPv6Address(address if ":" in address else f"::ffff:{address}"))


def ends(*pairs: tuple[str, str]) -> np.ndarray:
    return np.array(
        [tuple(part for end in pair for part in (number(end) >> 64, number(end) & 2**64 - 1)) for pair in pairs],
        ENDS,
    )


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A host with two uplinks, the second of which serves what leaves from its address."""
    with Namespace() as host:
        host.use_addresses_at_once()
        host.ip(
            *(f"link add {name} type veth peer name far-{name}" for name in ("cable", "radio")),
            "address add 192.0.2.2/24 dev cable",
            "address add fd00:1::2/64 dev cable nodad",
            "address add 198.51.100.2/24 dev radio",
            *(f"link set {name} up" for name in ("cable", "far-cable", "radio", "far-radio")),
            "route add default via 192.0.2.1",
            "route add default via fd00:1::1",
            "route add default via 198.51.100.1 table 7",
            "rule add from 198.51.100.2 table 7",
            "route add 203.0.113.64/26 via inet6 fd00:1::9 dev cable",
            "route add unreachable 203.0.113.128/25",
        )
        yield host


@pytest.mark.parametrize(
    ("local", "peer", "route"),
    [
        ("192.0.2.2", "203.0.113.5", Route("cable", "192.0.2.1")),
        ("192.0.2.2", "192.0.2.9", Route("cable")),
        ("198.51.100.2", "203.0.113.5", Route("radio", "198.51.100.1")),
        ("fd00:1::2", "2001:db8::5", Route("cable", "fd00:1::1")),
        ("192.0.2.2", "203.0.113.70", Route("cable", "fd00:1::9")),
        ("127.0.0.1", "127.0.0.1", Route("lo")),
        ("192.0.2.2", "203.0.113.200", None),
        ("192.0.2.77", "203.0.113.5", None),
        ("fd00:1::2", "fe80::1", None),
    ],
)
def test_the_route_is_that_by_which_a_packet_of_the_connection_leaves(
    host: Namespace, local: str, peer: str, route: Route | None
) -> None:
    assert host.inside(lambda: Rtnetlink().find(ends((local, peer)))) == [route]


def test_one_is_found_when_there_is_no_time_for_more(host: Namespace) -> None:
    pairs = ends(*[("192.0.2.2", "203.0.113.5")] * 3)
    late = iter(range(10))
    assert host.inside(lambda: Rtnetlink(clock=lambda: float(next(late))).find(pairs)) == [Route("cable", "192.0.2.1")]


RADIO = "10.99.9.2"  # the server's address there
QUIET = 2.0  # seconds of a silence that every connection survives
TALKERS = 2  # by each uplink


@contextlib.contextmanager
def two_uplinks() -> Iterator[Rig]:
    """A rig whose client reaches one more address of the server by an uplink of its own."""
    with Rig("reject", timeout=600) as rig:
        rig.client.ip(
            f"link add radio type veth peer name radio netns {rig.server.pid}",
            "address add 10.99.8.1/24 dev radio",
            "link set radio up",
            f"route add {RADIO} via 10.99.8.2",
        )
        rig.server.ip("address add 10.99.8.2/24 dev radio", f"address add {RADIO}/32 dev lo", "link set radio up")
        yield rig


def test_paths_tells_what_was_seen_by_each_uplink(tmp_path: Path) -> None:
    without_path, _, _ = configuration("apply = false", 'arm = "observe"').partition("[[path]]")
    home = Home(tmp_path, without_path)
    asking = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with two_uplinks() as rig, home.daemon(rig.client, through=asking), contextlib.ExitStack() as stack:
        talkers = [stack.enter_context(program(rig, at=at)) for at in (SERVER[AF_INET], RADIO) for _ in range(TALKERS)]

        def routes() -> list[dict[str, Any]]:
            assert set(all_speak(talkers)) == {"answered"}
            time.sleep(QUIET)  # the silence is what is counted
            listed = rig.client.run(*asking, *CTL, "paths", "--json", home.options[1])
            seen: list[dict[str, Any]] = json.loads(listed.stdout)[0]["routes"]
            return seen

        wait_for(lambda: len(routes()) == 2)
        cable, radio = sorted(routes(), key=lambda one: str(one["interface"]))
        assert (cable["interface"], cable["next_hop"]) == ("eth0", "10.99.1.1")
        assert (radio["interface"], radio["next_hop"]) == ("radio", "10.99.8.2")
        for one in (cable, radio):
            assert one["survived"] >= 1
            assert 1 <= one["longest"] < SOON
            assert (one["died"], one["advice"]) == (0, "")
        shown = rig.client.run(*asking, *CTL, "paths", home.options[1]).stdout
        assert "INTERFACE  NEXT HOP" in shown
