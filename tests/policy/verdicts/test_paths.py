"""Which path a connection takes: the most specific."""

import ipaddress

import pytest

from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path
from keepaliveD.policy.verdicts.paths import assign, ignored
from tests.support.tables import CONFIGURED, Socket, table

DEFAULT = Path("default", 240.0, Origin(Source.GUESS))


def path(name: str, *networks: str, ports: tuple[int, ...] = (), interface: str = "") -> Path:
    return Path(name, 300.0, CONFIGURED, tuple(map(ipaddress.ip_network, networks)), ports, interface)


def taken(socket: Socket, *paths: Path, interfaces: tuple[str, ...] = ("", "eth0", "eth1")) -> str:
    everything = (DEFAULT, *paths)
    assigned = assign(table(0.0, socket, interfaces=interfaces), everything)
    return everything[int(assigned.index[0])].name


def test_without_a_match_the_default_holds() -> None:
    assert taken({"remote": "192.0.2.9"}, path("office", "10.0.0.0/8")) == "default"


@pytest.mark.parametrize("order", [1, -1])
def test_the_longest_prefix_wins_whatever_the_order(order: int) -> None:
    paths = [path("all", "0.0.0.0/0"), path("ten", "10.0.0.0/8"), path("host", "10.1.2.3/32")][::order]
    assert taken({"remote": "10.1.2.3"}, *paths) == "host"
    assert taken({"remote": "10.1.2.4"}, *paths) == "ten"
    assert taken({"remote": "11.1.2.4"}, *paths) == "all"


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_prefixes_the_one_with_ports_wins_and_then_the_one_with_an_interface(order: int) -> None:
    paths = [
        path("net", "10.0.0.0/8"),
        path("net+if", "10.0.0.0/8", interface="eth0"),
        path("net+port", "10.0.0.0/8", ports=(22,)),
    ][::order]
    assert taken({"remote": "10.1.2.3", "remote_port": 22, "interface": 1}, *paths) == "net+port"
    assert taken({"remote": "10.1.2.3", "remote_port": 23, "interface": 1}, *paths) == "net+if"
    assert taken({"remote": "10.1.2.3", "remote_port": 23, "interface": 2}, *paths) == "net"


def test_of_equals_the_first_listed_wins() -> None:
    assert taken({"remote": "10.1.2.3"}, path("one", "10.0.0.0/8"), path("two", "10.0.0.0/8")) == "one"


def test_ports_match_at_either_end() -> None:
    """The service may be here or there."""
    ssh = path("ssh", ports=(22,))
    assert taken({"local_port": 22, "remote_port": 50000}, ssh) == "ssh"
    assert taken({"local_port": 50000, "remote_port": 22}, ssh) == "ssh"
    assert taken({"local_port": 50000, "remote_port": 23}, ssh) == "default"


def test_every_selector_must_match() -> None:
    office = path("office", "10.0.0.0/8", ports=(22,), interface="eth0")
    assert taken({"remote": "10.0.0.1", "remote_port": 22, "interface": 1}, office) == "office"
    assert taken({"remote": "11.0.0.1", "remote_port": 22, "interface": 1}, office) == "default"
    assert taken({"remote": "10.0.0.1", "remote_port": 23, "interface": 1}, office) == "default"
    assert taken({"remote": "10.0.0.1", "remote_port": 22, "interface": 2}, office) == "default"


def test_an_interface_that_no_socket_uses_matches_nothing() -> None:
    assert taken({"interface": 1}, path("gone", interface="eth7")) == "default"


def test_an_unknown_interface_is_not_the_first_one() -> None:
    assert taken({"interface": 0}, path("if", interface="eth0")) == "default"


def test_ipv6_networks_match_ipv6_alone() -> None:
    six = path("six", "2001:db8::/33")
    assert taken({"remote": "2001:db8:7fff::1"}, six) == "six"
    assert taken({"remote": "2001:db8:8000::1"}, six) == "default"
    assert taken({"remote": "192.0.2.1"}, path("all six", "2000::/3")) == "default"


def test_the_edges_of_a_network_belong_to_it() -> None:
    network = path("net", "10.20.0.0/15")
    assert [taken({"remote": text}, network) for text in ("10.20.0.0", "10.21.255.255")] == ["net", "net"]
    assert [taken({"remote": text}, network) for text in ("10.19.255.255", "10.22.0.0")] == ["default", "default"]


def test_loopback_is_ignored_by_its_peer_address() -> None:
    sockets = table(0.0, {"remote": "127.3.2.1"}, {"remote": "::1"}, {"remote": "10.0.0.1"}).sockets
    networks = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
    assert ignored(sockets, networks).tolist() == [True, True, False]


def test_a_connection_from_an_address_to_itself_counts_as_one_to_loopback_of_its_family() -> None:
    four: Socket = {"local": "10.0.0.1", "remote": "10.0.0.1"}
    six: Socket = {"local": "2001:db8::1", "remote": "2001:db8::1"}
    sockets = table(0.0, four, six, {"local": "10.0.0.1", "remote": "10.0.0.2"}).sockets
    assert ignored(sockets, [ipaddress.ip_network("127.0.0.0/8")]).tolist() == [True, False, False]
    assert ignored(sockets, [ipaddress.ip_network("::1/128")]).tolist() == [False, True, False]
    assert not ignored(sockets, [ipaddress.ip_network("10.9.0.0/16")]).any()
