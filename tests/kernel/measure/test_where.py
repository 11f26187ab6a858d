"""keepalivectl measure --where over chains of real firewalls: each device, with its own timeout."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel.measure.stage import LONG, Found, listening, measure
from tests.support.chain import Chain, Device

QUICK = ("--where", "--shortest", "6s", "--longest", "32s")
LATE = 1.5  # seconds by which a busy machine may be late
CHAINS = {
    "short, long": [Device("drop", 12), Device("drop", 24)],
    "long, short": [Device("drop", 24), Device("drop", 12)],
    "four": [Device(), Device("drop", 24), Device(), Device("masquerade", 12)],
    "reject": [Device("masquerade", 12), Device(), Device("reject", 24)],
}
MUTE = "mute"
DIRECT = "direct"
FIREWALL = """
    table ip guard {
        chain in {
            type filter hook input priority filter;
            ct state established accept
            tcp flags & (fin | syn | rst | ack) == syn accept
            meta l4proto tcp drop
        }
        chain out {
            type filter hook output priority filter;
            ct state established accept
            tcp flags & syn == syn accept
            meta l4proto tcp drop
        }
    }"""
STOPPED_BY = {"short, long": [1], "long, short": [2, 3], "four": [4, 5], "reject": [1], MUTE: [1, 2]}
"""The hops of which one drops; after the last one comes the peer."""


def found_over(devices: list[Device]) -> Found:
    with Chain(*devices) as chain, listening(chain) as token:
        return measure(chain, "--token", token, *QUICK)


def found_at(end: str, *devices: Device) -> Found:
    """What was found where an end's own firewall forgets after 12 s."""
    with Chain(*devices) as chain:
        namespace = chain.client if end == "client" else chain.server
        namespace.nft(FIREWALL)
        namespace.set_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", 12)
        namespace.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)
        with listening(chain) as token:
            return measure(chain, "--token", token, *QUICK)


@pytest.fixture(scope="module")
def found() -> dict[str, Found]:
    """What was found over each chain, all at the same time."""
    chains = CHAINS | {MUTE: [Device("drop", 12), Device("mute"), Device()]}
    with ThreadPoolExecutor(len(chains) + 3) as threads:
        ends = {
            DIRECT: threads.submit(found_at, "server"),
            "client": threads.submit(found_at, "client", Device(), Device()),
            "server": threads.submit(found_at, "server", Device(), Device()),
        }
        over = dict(zip(chains, threads.map(found_over, chains.values(), timeout=LONG), strict=True))
        return over | {name: each.result(LONG) for name, each in ends.items()}


@pytest.mark.parametrize("name", CHAINS)
def test_each_device_shows_its_own_timeout(found: dict[str, Found], name: str) -> None:
    seen = [(hop["hops"], hop["survived"], hop["forgotten"]) for hop in found[name]["hops"]]
    assert [hops for hops, _, _ in seen] == [[number] for number in range(1, len(CHAINS[name]) + 1)]
    for device, (_, survived, forgotten) in zip(CHAINS[name], seen, strict=True):
        if device.kind == "none":
            assert forgotten is None
            assert survived > 30
        else:
            assert survived is not None
            assert survived - LATE <= device.timeout <= forgotten
            assert (survived + forgotten) / 2 == pytest.approx(device.timeout, rel=0.15, abs=LATE)


@pytest.mark.parametrize("name", CHAINS)
def test_each_device_has_its_address(found: dict[str, Found], name: str) -> None:
    addresses = [address for hop in found[name]["hops"] for address in hop["addresses"]]
    assert addresses == [f"10.98.{number}.2" for number in range(len(CHAINS[name]))]


def test_it_says_how_each_device_forgets(found: dict[str, Found]) -> None:
    assert [hop["how"] for hop in found["reject"]["hops"]] == ["silence", None, "reset"]


@pytest.mark.parametrize("name", STOPPED_BY)
def test_a_packet_of_a_forgotten_connection_shows_where_it_stops(found: dict[str, Found], name: str) -> None:
    assert found[name]["stopped_by"] == STOPPED_BY[name]


PEER, WAY_BACK = "the peer's own firewall", "a device on the way back"
ELSEWHERE = {
    "client": [["this host"], []],
    "server": [[], [PEER, WAY_BACK]],
    "short, long": [[], [PEER, WAY_BACK]],
    "long, short": [["this host", WAY_BACK], [PEER, WAY_BACK]],
    "four": [[], [], [], [PEER, WAY_BACK]],
}
"""What may forget in place of each hop."""


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_innocent_hop_is_not_the_only_one_that_is_named(found: dict[str, Found], name: str) -> None:
    """The first hop was named where this host's own firewall forgets, and the last one where the peer's does."""
    assert [hop["or"] for hop in found[name]["hops"]] == ELSEWHERE[name]


def test_without_a_hop_between_a_peers_own_firewall_is_found(found: dict[str, Found]) -> None:
    """It was a defect of the program, after all of the measurement had been made."""
    direct = found[DIRECT]
    assert (direct["hop_count"], direct["hops"], direct["stopped_by"]) == (0, [], None)
    assert direct["survived"] - LATE <= 12 <= direct["forgotten"]


def test_a_hop_that_reports_nothing_may_be_the_one(found: dict[str, Found]) -> None:
    assert [hop["addresses"] for hop in found[MUTE]["hops"]] == [["10.98.0.2"], [None], ["10.98.2.2"]]
