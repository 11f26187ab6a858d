"""Connections that this host's own firewall forgets: it is asked, and says exactly when."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOCK_DGRAM,
    SOL_SOCKET,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    AddressFamily,
    socket,
)

import pytest

from tests.kernel.test_rescue import by
from tests.support.patience import SOON, STALL
from tests.support.processes import ENABLE, Home, Program, arming, configuration, program, sockets
from tests.support.rig import Rig
from tests.support.versions import ITERATOR, since

FORGETS = "net.netfilter.nf_conntrack_tcp_timeout_established"
TIMEOUT = 20  # seconds, of the firewall at the client, which does not wait for a busy machine
PROBES_AFTER = 3  # seconds, of the peer
TENTHS = 0.15  # seconds, by which three numbers in tenths of a second may be wrong together
ROUNDED = 1  # second, by which it says that it forgets sooner
LONG = 3600  # seconds, of the firewall in the middle


@contextlib.contextmanager
def guarded(picks_up: int = 0, timeout: int = TIMEOUT) -> Iterator[Rig]:
    """A rig whose client has a firewall of its own, which forgets sooner than the one in the middle, or as late."""
    with Rig("drop", timeout=LONG) as rig:
        rig.client.nft(
            "table inet own {\nchain input {\ntype filter hook input priority filter; policy drop\n"
            "ct state established accept\nmeta l4proto != tcp accept\n}\n}"
        )
        rig.client.set_sysctl(FORGETS, timeout)
        rig.client.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", picks_up)
        yield rig


def let_peer_probe(served: Program) -> None:
    """Have the server's end probe from now on."""
    served.far.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, PROBES_AFTER)
    served.far.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    served.far.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, PROBES_AFTER)


def test_one_look_sees_the_newest_probe_of_a_peer_but_no_rhythm(tmp_path: Path) -> None:
    """No age of the socket shows a probe of the peer's; the firewall does, but not that another one comes."""
    home = Home(tmp_path, by("netlink", configuration(timeout=TIMEOUT)))
    with guarded() as rig, program(rig) as served:
        let_peer_probe(served)
        time.sleep(TIMEOUT + 1)  # it would be forgotten without the probes
        (seen,) = sockets(rig.client, home)
        assert (seen["verdict"], seen["confirmed"]) == ("bare", False)
        assert TIMEOUT - PROBES_AFTER - 2 <= seen["left"] <= TIMEOUT
        assert served.speak() == "answered"


@pytest.mark.parametrize(
    ("engine", "family"),
    [("netlink", AF_INET), ("netlink", AF_INET6), pytest.param("bpf", AF_INET, marks=since(ITERATOR))],
)
def test_a_warning_names_this_hosts_own_firewall_and_is_exact(
    engine: str, family: AddressFamily, tmp_path: Path
) -> None:
    """The path would remember for an hour."""
    home = Home(tmp_path, by(engine, configuration("apply = false", timeout=LONG)))
    with guarded() as rig, home.daemon(rig.client) as daemon, program(rig, family) as quiet:
        warning = daemon.expect("bare", **quiet.endpoints)
        assert "this host's own firewall forgets it in" in warning["MESSAGE"]
        assert f"raise {FORGETS}" in warning["MESSAGE"]
        assert 0 < warning["KEEPALIVE_LEFT_SEC"] <= TIMEOUT / 2
        expired = daemon.expect("cut", **quiet.endpoints)
        took = expired["KEEPALIVE_IDLE_SEC"] - warning["KEEPALIVE_IDLE_SEC"]  # between the scans, not the entries
        assert -TENTHS <= took - warning["KEEPALIVE_LEFT_SEC"] <= ROUNDED + STALL
        assert quiet.speak() == "silence"


def test_a_container_whose_addresses_the_host_translates_is_known_to_the_hosts_firewall(tmp_path: Path) -> None:
    """The host is the one in the middle; in the container nothing is tracked."""
    quiet_daemon = configuration("apply = false", namespaces="all", timeout=LONG)
    with Rig("drop", timeout=TIMEOUT) as rig:
        rig.firewall.nft(
            "table inet nat {\nchain out {\ntype nat hook postrouting priority srcnat\noifname side2 masquerade\n}\n}"
        )
        with Home(tmp_path, by("netlink", quiet_daemon)).daemon(rig.firewall) as daemon, program(rig) as contained:
            port = contained.far.getsockname()[1]
            warning = daemon.expect("bare", KEEPALIVE_NETNS=rig.client.inode, KEEPALIVE_REMOTE_PORT=port)
            assert "this host's own firewall forgets it in" in warning["MESSAGE"]


def test_a_connection_that_the_firewall_does_not_track_is_not_its_business(tmp_path: Path) -> None:
    """That it tracks others proves nothing."""
    home = Home(tmp_path, by("netlink", configuration("apply = false", timeout=LONG)))
    with guarded() as rig, program(rig) as tracked:
        rig.client.nft(
            "table inet raw {\nchain output {\ntype filter hook output priority raw\ntcp dport != 1 notrack\n}\n"
            "chain input {\ntype filter hook prerouting priority raw\ntcp sport != 1 notrack\n}\n}\n"
            "table inet own {\nchain input {\nct state untracked accept\n}\n}"
        )
        with home.daemon(rig.client) as daemon, program(rig) as untracked:
            assert not daemon.heard("bare", "cut", within=2 * TIMEOUT, **untracked.endpoints)
            assert untracked.speak() == "answered"
        del tracked


def test_a_daemon_finds_a_connection_safe_whose_peer_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It first looks at it when the firewall would have forgotten it without the probes."""
    home = Home(tmp_path, by("netlink", configuration("apply = false", timeout=TIMEOUT)))
    with guarded() as rig, program(rig) as served, told(tmp_path, monkeypatch) as status:
        let_peer_probe(served)
        time.sleep(TIMEOUT + 1)
        with home.daemon(rig.client) as daemon:
            lines = [line for line in status(until="1 safe") if "Watching" in line]
            assert "1 cut" in lines[0]
            assert not [line for line in lines[2:] if "1 cut" in line]
            assert not daemon.heard("bare", "late", "cut")
        assert served.speak() == "answered"


@contextlib.contextmanager
def told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Iterator[str]]]:
    """Yield what returns all that a daemon tells the service manager from now on, until a line with some text."""
    with socket(AF_UNIX, SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(SOON)
        monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))

        def status(until: str) -> Iterator[str]:
            while True:
                message = manager.recv(4096).decode()
                yield message
                if until in message:
                    return

        yield status


@pytest.mark.parametrize("engine", ["netlink", pytest.param("bpf", marks=since(ITERATOR))])
def test_a_connection_is_armed_by_the_timeout_of_this_hosts_own_firewall(engine: str, tmp_path: Path) -> None:
    """An idle time that suits the path alone would come too late."""
    home = Home(tmp_path, by(engine, arming(ENABLE, timeout=LONG)))
    with guarded() as rig, home.daemon(rig.client) as daemon, program(rig) as quiet:
        armed = daemon.expect("armed", **quiet.endpoints)
        assert armed["KEEPALIVE_AFTER_IDLE_SEC"] < TIMEOUT
        assert "this host's own firewall forgets it in" in armed["MESSAGE"]
        assert not daemon.heard("cut", within=2 * TIMEOUT)
        assert quiet.speak() == "answered"


def test_a_firewall_that_remembers_anew_is_warned_of_and_never_called_expired(tmp_path: Path) -> None:
    """A packet of this end heals; one of the peer's would be lost."""
    home = Home(tmp_path, by("netlink", configuration("apply = false", timeout=LONG)))
    with guarded(picks_up=1) as rig, home.daemon(rig.client) as daemon, program(rig) as quiet:
        daemon.expect("bare", **quiet.endpoints)
        assert not daemon.heard("cut", within=TIMEOUT, **quiet.endpoints)
        assert quiet.speak() == "answered"
